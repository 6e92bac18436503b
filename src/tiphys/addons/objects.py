"""The add-ons as objects: manifests/NAME.yaml, with what differs from cluster to cluster filled in.

A manifest is YAML that a user can read, save by ``tiphys addon show`` and change; ``${NAME}`` in it stands for a
setting.
"""

from __future__ import annotations

import re
import string
from dataclasses import dataclass
from importlib.resources import files

from tiphys.api.object import Object
from tiphys.runtime import yamltext

ADDONS = {
    "kube-proxy": "the service proxy, a DaemonSet",
    "coredns": "the cluster's DNS, a Deployment behind the Service kube-dns",
    "pod-network": "the pods' network and network policies, a DaemonSet",
    "load-balancer": "addresses for Services of type LoadBalancer, a DaemonSet",
    "metrics-server": "what nodes and containers use, for `kubectl top` and autoscalers",
    "dashboard": "the web page, a Deployment behind the Service kube-system/dashboard; it acts as whoever logs in",
    "monitoring": "Prometheus and a node exporter, as Debian has them, for the dashboard's charts",
}
MONITORING_IMAGE = "tiphys.local/monitoring:1"
"""Assembled on the node from what Debian packages."""

_LITERAL = re.compile(r"\$(?!\{)")
"""A dollar sign that begins no setting: of a kubelet's variable, of a regular expression's group."""


class UnknownAddon(LookupError):
    """No add-on has this name; the message lists those there are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AddonSettings:
    """What the manifests leave open. ``server`` is the API server's URL as every node reaches it."""

    image: str
    server: str
    pod_cidr: str
    dns_ip: str
    cluster_domain: str = "cluster.local"
    proxy_mode: str = ""
    load_balancer_pool: str = "node"
    """Ranges with commas between, or ``node`` for the nodes' own addresses."""
    bridge: str = "cni0"
    cni_conf_dir: str = "/etc/cni/net.d"
    ipam_data_dir: str = "/var/lib/cni/networks"
    """Where the nodes' host-local plugin keeps which addresses are taken."""
    kubelets_have_signed_certificates: bool = True
    """Whether the cluster's authority signs what kubelets serve with; else the metrics server takes any certificate."""

    def values(self) -> dict[str, str]:
        """What each ``${NAME}`` of a manifest stands for."""
        authority = "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt"
        signed = self.kubelets_have_signed_certificates
        return {
            "IMAGE": self.image,
            "SERVER": self.server,
            "POD_CIDR": self.pod_cidr,
            "DNS_IP": self.dns_ip,
            "CLUSTER_DOMAIN": self.cluster_domain,
            "PROXY_MODE": self.proxy_mode,
            "LOAD_BALANCER_POOL": self.load_balancer_pool,
            "BRIDGE": self.bridge,
            "CNI_CONF_DIR": self.cni_conf_dir,
            "IPAM_DATA_DIR": self.ipam_data_dir,
            "KUBELET_TLS": f"{{ca_file: {authority}}}" if signed else "{insecure_skip_verify: true}",
            "MONITORING_IMAGE": MONITORING_IMAGE,
            "KUBELET_TRUST": f"--kubelet-certificate-authority={authority}" if signed else "--kubelet-insecure-tls",
        }


def addon_manifest(name: str, settings: AddonSettings) -> str:
    """The manifest as text, comments included. Raises ``UnknownAddon``."""
    if name not in ADDONS:
        raise UnknownAddon(f"no add-on {name!r} exists; there are {', '.join(ADDONS)}")
    text = files("tiphys.addons").joinpath(f"manifests/{name}.yaml").read_text()
    return string.Template(_LITERAL.sub("$$", text)).substitute(settings.values())


def addon_objects(name: str, settings: AddonSettings) -> list[Object]:
    """The add-on's objects, in the order in which they are to be applied. Raises ``UnknownAddon``."""
    return [obj for obj in yamltext.load_all(addon_manifest(name, settings)) if obj]
