"""The static pod that holds the control planes' virtual address. Pure."""

from __future__ import annotations

from tiphys.api.object import Object
from tiphys.cluster.kubeadm import images, layout
from tiphys.cluster.kubeadm.configuration.load import Configuration
from tiphys.cluster.kubeadm.configuration.validate import split_host_port
from tiphys.cluster.kubeadm.manifests import pods
from tiphys.cluster.kubeadm.manifests.pods import HostPath


def virtual_address(configuration: Configuration) -> Object:
    """It has no port, so that its own end is all that the kubelet looks at."""
    host, _ = split_host_port(configuration.cluster["controlPlaneEndpoint"])
    paths = [HostPath("kubeconfig", layout.VIRTUAL_ADDRESS_CONF, "File")]
    container: Object = {
        "command": [
            "virtual-address",
            f"--address={host}",
            f"--kubeconfig={layout.VIRTUAL_ADDRESS_CONF}",
            f"--node-address={configuration.address}",
        ],
        "image": images.ours(),
        "imagePullPolicy": "IfNotPresent",
        "name": "virtual-address",
        "resources": {"requests": {"cpu": "10m"}},
        "securityContext": {"capabilities": {"add": ["NET_ADMIN", "NET_RAW"], "drop": ["ALL"]}},
        "volumeMounts": pods.mounts(paths),
    }
    return pods.static_pod(container, paths, {})
