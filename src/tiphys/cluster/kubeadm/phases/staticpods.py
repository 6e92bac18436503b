"""Phases ``etcd`` and ``control-plane``: the manifests of the static pods, patched as the user wants.

Source: https://kubernetes.io/docs/reference/setup-tools/kubeadm/kubeadm-init-phase/#cmd-phase-control-plane
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import yaml

from tiphys.api.object import Object
from tiphys.cluster.kubeadm import kubeconfigs, layout, patches
from tiphys.cluster.kubeadm.context import Installation
from tiphys.cluster.kubeadm.layout import write_file
from tiphys.cluster.kubeadm.manifests import controlplane
from tiphys.cluster.kubeadm.manifests.etcd import etcd
from tiphys.cluster.kubeadm.manifests.virtualaddress import virtual_address
from tiphys.cluster.kubeadm.phases import kubeconfig
from tiphys.cluster.kubeadm.workflow import CommandPhase

Build = Callable[[Installation], Object]
_PRIVATE_FOLDER = 0o700


def build_apiserver(context: Installation) -> Object:
    return controlplane.apiserver(context.configuration, _is_folder(context))


def build_controller_manager(context: Installation) -> Object:
    external = context.external_ca
    return controlplane.controller_manager(context.configuration, _is_folder(context), external_ca=external)


def build_scheduler(context: Installation) -> Object:
    return controlplane.scheduler(context.configuration)


BUILD: dict[str, Build] = {
    "kube-apiserver": build_apiserver,
    "kube-controller-manager": build_controller_manager,
    "kube-scheduler": build_scheduler,
}


async def announce(context: Installation) -> None:
    context.say(f'[control-plane] Using manifest folder "{layout.MANIFESTS}"')


def make(component: str) -> Callable[[Installation], Awaitable[None]]:
    async def run(context: Installation) -> None:
        context.say(f'[control-plane] Creating static Pod manifest for "{component}"')
        write_manifest(context, component, BUILD[component](context))

    return run


async def hold_address(context: Installation) -> None:
    """The pod that holds the endpoint's address among the control planes, if they are to hold it."""
    if not context.virtual_address:
        return
    await asyncio.to_thread(kubeconfig.ensure, context, kubeconfigs.VIRTUAL_ADDRESS)
    context.say('[control-plane] Creating static Pod manifest for "virtual-address"')
    write_manifest(context, "virtual-address", virtual_address(context.configuration))


async def local_etcd(context: Installation) -> None:
    """The manifest of the first member; with etcd elsewhere there is none to write."""
    local = context.configuration.cluster["etcd"].get("local")
    if local is None:
        context.say("[etcd] External etcd mode: no static Pod manifest is written")
        return
    if context.dry_run:
        context.say(f'[etcd] Would ensure that "{local["dataDir"]}" directory is present')
    else:
        data = context.places.on_disk(local["dataDir"])
        data.mkdir(parents=True, exist_ok=True)
        data.chmod(_PRIVATE_FOLDER)
    context.say(f'[etcd] Creating static Pod manifest for local etcd in "{layout.MANIFESTS}"')
    write_etcd(context)


def write_etcd(context: Installation, initial_cluster: Sequence[tuple[str, str]] = ()) -> None:
    write_manifest(context, "etcd", etcd(context.configuration, initial_cluster))


def write_manifest(context: Installation, component: str, pod: Object) -> None:
    """Write a static pod with the user's patches. Raises ``KubeadmError``."""
    data = render(context, component, pod)
    write_file(context.places.manifest(component), data, folder_mode=_PRIVATE_FOLDER)


def render(context: Installation, component: str, pod: Object) -> bytes:
    """The manifest of a static pod with the user's patches. Raises ``KubeadmError``."""
    if context.configuration.patches:
        of_folder = patches.read_folder(Path(context.configuration.patches), context.say)
        pod = patches.apply(of_folder, component, pod, context.say)
    return yaml.dump(pod, Dumper=yaml.CSafeDumper, sort_keys=True, width=1000).encode()


def _is_folder(context: Installation) -> Callable[[str], bool]:
    return lambda path: context.places.on_disk(path).is_dir()


ETCD: CommandPhase[Installation] = CommandPhase(
    "etcd",
    "Generate static Pod manifest file for local etcd",
    None,
    (
        CommandPhase(
            "local", "Generate the static Pod manifest file for a local, single-node local etcd instance", local_etcd
        ),
    ),
)
CONTROL_PLANE: CommandPhase[Installation] = CommandPhase(
    "control-plane",
    "Generate all static Pod manifest files necessary to establish the control plane",
    announce,
    (
        *(
            CommandPhase(
                component.removeprefix("kube-"), f"Generates the {component} static Pod manifest", make(component)
            )
            for component in BUILD
        ),
        CommandPhase("virtual-address", "Generates the static Pod manifest that holds a virtual address", hold_address),
    ),
)
