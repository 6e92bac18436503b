"""Starting components again that would not use a renewed certificate: their containers are ended, and the kubelet
makes new ones.

Every component reads certificates from their files again when these change. Upstream's controller manager and scheduler
do not do so with the ones that stand in their kubeconfigs. Source:
https://kubernetes.io/docs/tasks/administer-cluster/kubeadm/kubeadm-certs/#manual-certificate-renewal
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from urllib.parse import urlsplit

from tiphys.cluster.kubeadm import images, upgrading
from tiphys.cluster.kubeadm.failures import KubeadmError
from tiphys.cluster.kubeadm.layout import HostRoot
from tiphys.kubelet.runtime.cri import CRIClient
from tiphys.kubelet.runtime.service import ContainerState, RuntimeFailure

_BY_KUBECONFIG = {"controller-manager.conf": "kube-controller-manager", "scheduler.conf": "kube-scheduler"}
_GRACE_SECONDS = 30
_NAMESPACE, _CONTAINER = "io.kubernetes.pod.namespace", "io.kubernetes.container.name"


def needed(places: HostRoot, renewed: Iterable[str]) -> list[str]:
    """The components of this node that have to start again, once the certificates of these names are new."""
    wanted = []
    for name in renewed:
        manifest = places.manifest(_BY_KUBECONFIG.get(name, name))
        if name in _BY_KUBECONFIG and manifest.exists():
            image = upgrading.image_of(manifest.read_bytes())
            if image.rpartition(":")[0] != images.ours().rpartition(":")[0]:
                wanted.append(_BY_KUBECONFIG[name])
    return wanted


async def restart(socket: str, components: Sequence[str]) -> None:
    """End the containers of static pods. Raises ``KubeadmError`` if the runtime cannot be asked."""
    client = CRIClient(urlsplit(socket).path)
    try:
        for container in await client.list_containers():
            of_pod = container.labels.get(_NAMESPACE) == "kube-system"
            named = container.labels.get(_CONTAINER) in components
            if of_pod and named and container.state is ContainerState.RUNNING:
                await client.stop_container(container.id, _GRACE_SECONDS)
    except RuntimeFailure as error:
        raise KubeadmError(
            f"the certificates are renewed, but {', '.join(components)} cannot be started again at {socket}: {error}; "
            "move the manifests out of /etc/kubernetes/manifests for half a minute, and back"
        ) from error
    finally:
        await client.close()
