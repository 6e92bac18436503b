"""The configuration documents of the kubelet and the proxy: what kubeadm sets in them. Pure.

Source: https://kubernetes.io/docs/setup/production-environment/tools/kubeadm/kubelet-integration/
"""

from __future__ import annotations

import ipaddress
from typing import Any

from tiphys.cluster.kubeadm import layout

Document = dict[str, Any]


def service_address(cluster: Document, position: int) -> str:
    """One of the addresses of Services: the first is the API server's, the tenth is the DNS server's."""
    first = cluster["networking"]["serviceSubnet"].split(",")[0]
    return str(ipaddress.ip_network(first, strict=False)[position])


def kubelet_configuration(given: Document, cluster: Document, *, cgroup_driver: str = "systemd") -> Document:
    """The cluster's KubeletConfiguration: the user's, with what a kubeadm node needs where that says nothing."""
    authority = f"{cluster['certificatesDir']}/ca.crt"
    ours: Document = {
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": authority},
        },
        "authorization": {"mode": "Webhook"},
        "cgroupDriver": cgroup_driver,
        "clusterDNS": [service_address(cluster, 10)],
        "clusterDomain": cluster["networking"]["dnsDomain"],
        "healthzBindAddress": "127.0.0.1",
        "healthzPort": 10248,
        "rotateCertificates": True,
        "staticPodPath": layout.MANIFESTS,
    }
    return {**_over(ours, given), "rotateCertificates": True}


def proxy_configuration(given: Document, cluster: Document, address: str) -> Document:
    """The cluster's KubeProxyConfiguration."""
    ours: Document = {
        "bindAddress": "::" if ":" in address else "0.0.0.0",
        "clientConnection": {"kubeconfig": "/var/lib/kube-proxy/kubeconfig.conf"},
        "clusterCIDR": cluster["networking"].get("podSubnet", ""),
    }
    return _over(ours, given)


def _over(ours: Document, given: Document) -> Document:
    """Ours with the user's fields over them, part by part."""
    made = dict(ours)
    for name, value in given.items():
        if value is None:
            continue
        inner = made.get(name)
        made[name] = _over(inner, value) if isinstance(inner, dict) and isinstance(value, dict) else value
    return made
