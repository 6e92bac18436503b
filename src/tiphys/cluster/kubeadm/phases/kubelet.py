"""Phases ``kubelet-start`` and ``kubelet-finalize``: the kubelet's files, its start, and its certificate's renewal.

Source: https://kubernetes.io/docs/reference/setup-tools/kubeadm/implementation-details/
"""

from __future__ import annotations

import asyncio

from tiphys.cluster import kubeconfig as files
from tiphys.cluster.kubeadm import kubeletfiles, layout
from tiphys.cluster.kubeadm.configuration import arguments
from tiphys.cluster.kubeadm.context import Installation
from tiphys.cluster.kubeadm.failures import KubeadmError
from tiphys.cluster.kubeadm.kubeletservice import kubelet_service
from tiphys.cluster.kubeadm.layout import write_file
from tiphys.cluster.kubeadm.workflow import CommandPhase


async def start(context: Installation) -> None:
    """Write the kubelet's files, and start its service with them."""
    service = kubelet_service(context.places)
    if not context.dry_run:
        await asyncio.to_thread(service.stop)
    configuration = context.configuration
    kubeletfiles.write(
        context.places,
        configuration.node["nodeRegistration"],
        configuration.kubelet,
        context.say,
        patch_folder=configuration.patches,
    )
    if context.dry_run:
        context.say("[dryrun] Would start the kubelet")
        return
    context.say("[kubelet-start] Starting the kubelet")
    service.start()


async def enable_rotation(context: Installation) -> None:
    """Let the kubeconfig name the file that renewal writes, if the kubelet has one already."""
    extra = context.configuration.node["nodeRegistration"].get("kubeletExtraArgs") or []
    folder = arguments.value(extra, "cert-dir") or f"{layout.KUBELET}/pki"
    pair = f"{folder}/kubelet-client-current.pem"
    if not context.places.on_disk(pair).exists():
        return
    context.say(
        f'[kubelet-finalize] Updating "{layout.KUBELET_CONF}" to point to a rotatable kubelet client certificate'
        " and key"
    )
    if context.dry_run:
        return
    if await asyncio.to_thread(_point_at, context, pair):
        kubelet_service(context.places).start()


def _point_at(context: Installation, pair: str) -> bool:
    """Whether the file had to be changed. Raises ``KubeadmError``."""
    path = context.places.on_disk(layout.KUBELET_CONF)
    try:
        config = files.load(path)
        user = config["users"][0]["user"]
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise KubeadmError(f"{layout.KUBELET_CONF} is not a valid kubeconfig: {error}") from error
    wanted = {"client-certificate": pair, "client-key": pair}
    if user == wanted:
        return False
    config["users"][0]["user"] = wanted
    write_file(path, files.dump(config))
    return True


KUBELET_START: CommandPhase[Installation] = CommandPhase(
    "kubelet-start", "Write kubelet settings and (re)start the kubelet", start
)
KUBELET_FINALIZE: CommandPhase[Installation] = CommandPhase(
    "kubelet-finalize",
    "Updates settings relevant to the kubelet after TLS bootstrap",
    None,
    (CommandPhase("enable-client-cert-rotation", "Enable kubelet client certificate rotation", enable_rotation),),
)
