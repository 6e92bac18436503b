"""Names of a pod on the network: hostname and /etc/hosts. Pure.

Source: https://kubernetes.io/docs/concepts/services-networking/dns-pod-service/
"""

from __future__ import annotations

from collections.abc import Sequence

from tiphys.kubelet.pod import pods
from tiphys.kubelet.pod.pods import Pod

HOSTNAME_MAX = 63
HOSTS_HEADER = "# Kubernetes-managed hosts file.\n"
HOSTS_HEADER_HOST_NETWORK = "# Kubernetes-managed hosts file (host network).\n"


def hostname_and_domain(pod: Pod, cluster_domain: str) -> tuple[str, str]:
    """The pod's hostname, and the domain that its subdomain gives it (or none)."""
    spec = pod["spec"]
    if override := spec.get("hostnameOverride"):
        return _truncate(override), ""
    hostname = _truncate(spec.get("hostname") or pods.name_of(pod))
    domain = ""
    if subdomain := spec.get("subdomain"):
        domain = f"{subdomain}.{pods.namespace_of(pod)}.svc.{cluster_domain}"
    return hostname, domain


def kernel_hostname(pod: Pod, hostname: str, domain: str) -> str:
    """The hostname to set in the kernel: the full name if the pod wants it. Raises ``ValueError`` if too long."""
    if not (pod["spec"].get("setHostnameAsFQDN") and domain):
        return hostname
    full = f"{hostname}.{domain}"
    if len(full) > 64:
        raise ValueError(
            f"failed to construct FQDN from pod hostname and cluster domain, FQDN {full} is too long (64 characters is "
            f"the max, {len(full)} characters requested)"
        )
    return full


def _truncate(hostname: str) -> str:
    return hostname[:HOSTNAME_MAX].rstrip("-.")


def hosts_file(pod: Pod, ips: Sequence[str], hostname: str, domain: str, node_hosts: str = "") -> str:
    """/etc/hosts of a pod; ``node_hosts`` is the node's own file, which pods on its network get."""
    if pods.host_network(pod):
        text = HOSTS_HEADER_HOST_NETWORK + node_hosts
    else:
        text = HOSTS_HEADER + (
            "127.0.0.1\tlocalhost\n"
            "::1\tlocalhost ip6-localhost ip6-loopback\n"
            "fe00::0\tip6-localnet\n"
            "fe00::0\tip6-mcastprefix\n"
            "fe00::1\tip6-allnodes\n"
            "fe00::2\tip6-allrouters\n"
        )
        names = f"{hostname}.{domain}\t{hostname}" if domain else hostname
        text += "".join(f"{ip}\t{names}\n" for ip in ips)
    if aliases := pod["spec"].get("hostAliases"):
        text += "\n# Entries added by HostAliases.\n"
        for alias in aliases:
            text += f"{alias['ip']}\t" + "\t".join(alias.get("hostnames") or []) + "\n"
    return text
