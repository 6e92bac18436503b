"""The phases of ``upgrade apply``, on the first control plane, and of ``upgrade node``, on every other node.

A worker passes over what only a control plane has. Source:
https://kubernetes.io/docs/reference/setup-tools/kubeadm/kubeadm-upgrade-phase/
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tiphys.client.rest import Client
from tiphys.cluster.kubeadm import api, kubeconfigs, upgrading, workflow
from tiphys.cluster.kubeadm.certificates import renewal
from tiphys.cluster.kubeadm.context import Installation
from tiphys.cluster.kubeadm.phases import bootstraptoken, kubeconfig, preflight
from tiphys.cluster.kubeadm.phases.addon import ADDON
from tiphys.cluster.kubeadm.phases.upload import UPLOAD_CONFIG
from tiphys.cluster.kubeadm.preflight import checks
from tiphys.cluster.kubeadm.preflight.run import run_checks
from tiphys.cluster.kubeadm.workflow import CommandPhase

Run = Callable[["Upgrade"], Awaitable[None]]


@dataclass(slots=True)
class Upgrade:
    """One run on one node. ``client`` asks the cluster; ``context`` is this node as its files and the cluster say."""

    context: Installation
    client: Client
    control_plane: bool
    etcd: bool = True
    renew: bool = True
    """Whether etcd changes too, and whether certificates are renewed."""


def for_control_planes(name: str, run: Run) -> Run:
    async def only(upgrade: Upgrade) -> None:
        if upgrade.control_plane:
            await run(upgrade)
        else:
            upgrade.context.say(f"[upgrade] Skipping phase {name}: this node is no control plane")

    return only


async def check(upgrade: Upgrade) -> None:
    """The machine, and on a control plane the images that it is going to need."""
    context = upgrade.context
    context.say("[preflight] Running pre-flight checks")
    await run_checks([checks.privileged()], context.ignored, context.warn)
    socket = context.configuration.node["nodeRegistration"]["criSocket"]
    await run_checks([checks.runtime(socket)], context.ignored, context.warn)
    if upgrade.control_plane:
        await preflight.pull(context)


async def control_plane(upgrade: Upgrade) -> None:
    """The certificates, and one static pod after another."""
    context = upgrade.context
    if upgrade.renew:
        for renewable in renewal.renewables(context):
            if context.dry_run:
                context.say(f"[upgrade] Would renew {renewable.name}")
            elif (said := await asyncio.to_thread(renewal.renew, context, renewable)).endswith("renewed"):
                context.say(f"[upgrade] {said}")
    wanted = [change for change in upgrading.changes(context) if upgrade.etcd or change.component != "etcd"]
    if context.dry_run:
        for change in wanted:
            verb = "keep" if change.old == change.new else "change"
            context.say(f"[upgrade/staticpods] Would {verb} the manifest of {change.component}")
        return
    await upgrading.change_manifests(context, upgrade.client, wanted)


async def kubeconfigs_of(upgrade: Upgrade) -> None:
    """Those that an older release did not write."""
    context = upgrade.context
    for name in ("admin", "super-admin", "controller-manager", "scheduler"):
        path = context.kubeconfigs / f"{name}.conf"
        if path.exists() or (name == "super-admin" and context.secondary):
            continue
        if context.dry_run:
            context.say(f"[upgrade] Would write {path}")
        else:
            await asyncio.to_thread(kubeconfig.ensure, context, kubeconfigs.BY_NAME[name])


async def kubelet_config(upgrade: Upgrade) -> None:
    if upgrade.context.dry_run:
        upgrade.context.say("[upgrade] Would write the kubelet's configuration, and start the kubelet again")
        return
    await upgrading.change_kubelet(upgrade.context)


async def rights(upgrade: Upgrade) -> None:
    """What tokens and nodes may do, as this release has it."""
    for words, objects in bootstraptoken.rights():
        upgrade.context.say(f"[bootstrap-token] Configured RBAC rules to allow {words}")
        await api.ensure(upgrade.context, objects)


def _of_init(phase: CommandPhase[Installation]) -> CommandPhase[Upgrade]:
    """A phase of init, with all of its children."""

    async def run(upgrade: Upgrade) -> None:
        await workflow.run((phase,), upgrade.context)

    return CommandPhase(phase.name, phase.purpose, run)


_PREFLIGHT: CommandPhase[Upgrade] = CommandPhase("preflight", "Run upgrade pre-flight checks", check)
_CONTROL_PLANE: CommandPhase[Upgrade] = CommandPhase(
    "control-plane", "Upgrade the control plane", for_control_planes("control-plane", control_plane)
)
_KUBECONFIG: CommandPhase[Upgrade] = CommandPhase(
    "kubeconfig", "Upgrade kubeconfig files for this node", for_control_planes("kubeconfig", kubeconfigs_of)
)
_KUBELET: CommandPhase[Upgrade] = CommandPhase(
    "kubelet-config", "Upgrade the kubelet configuration for this node, and start its kubelet again", kubelet_config
)

APPLY: tuple[CommandPhase[Upgrade], ...] = (
    _PREFLIGHT,
    _CONTROL_PLANE,
    _of_init(UPLOAD_CONFIG),
    _KUBECONFIG,
    _KUBELET,
    CommandPhase("bootstrap-token", "Configures bootstrap token and cluster-info RBAC rules", rights),
    _of_init(ADDON),
)
NODE: tuple[CommandPhase[Upgrade], ...] = (_PREFLIGHT, _CONTROL_PLANE, _KUBECONFIG, _KUBELET)
