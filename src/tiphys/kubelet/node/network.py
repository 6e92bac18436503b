"""Names of a pod on the network: hostname, resolv.conf, /etc/hosts. Pure but for reading the node's own files.

Source: https://kubernetes.io/docs/concepts/services-networking/dns-pod-service/
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tiphys.kubelet.pod import pods
from tiphys.kubelet.pod.pods import Pod

HOSTNAME_MAX = 63
MAX_SEARCHES = 32
MAX_SEARCH_CHARS = 2048
MAX_NAMESERVERS = 3
HOSTS_HEADER = "# Kubernetes-managed hosts file.\n"
HOSTS_HEADER_HOST_NETWORK = "# Kubernetes-managed hosts file (host network).\n"


@dataclass(frozen=True, slots=True)
class ClusterDNS:
    """Where the cluster's names are served, and the node's own resolver file (empty: none)."""

    servers: tuple[str, ...] = ()
    domain: str = "cluster.local"
    resolver_file: str = "/etc/resolv.conf"


@dataclass(frozen=True, slots=True)
class Resolver:
    """The contents of a resolv.conf."""

    servers: tuple[str, ...] = ()
    searches: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


def parse_resolver(text: str) -> Resolver:
    """The resolver of a ``resolv.conf``: servers, searches and options. See resolv.conf(5)."""
    servers: list[str] = []
    searches: list[str] = []
    options: list[str] = []
    for line in text.splitlines():
        words = re.split(r"[#;]", line, maxsplit=1)[0].split()
        if len(words) < 2:
            continue
        match words[0]:
            case "nameserver":
                servers.append(words[1])
            case "search":
                searches = [word if word == "." else word.rstrip(".") for word in words[1:]]
            case "options":
                options += [word for word in words[1:] if word not in options]
    return Resolver(tuple(servers), tuple(searches), tuple(options))


def read_resolver(path: str) -> Resolver:
    return parse_resolver(Path(path).read_text()) if path and Path(path).exists() else Resolver()


def pod_resolver(pod: Pod, dns: ClusterDNS, host: Resolver) -> Resolver:
    """What a pod's resolv.conf says, by its dnsPolicy and dnsConfig."""
    policy = pod["spec"].get("dnsPolicy") or "ClusterFirst"
    if policy == "ClusterFirst" and pods.host_network(pod):
        policy = "Default"
    if policy == "None":
        resolver = Resolver()
    elif policy in ("ClusterFirst", "ClusterFirstWithHostNet") and dns.servers:
        searches = host.searches
        if dns.domain:
            own = (f"{pods.namespace_of(pod)}.svc.{dns.domain}", f"svc.{dns.domain}", dns.domain)
            searches = tuple(dict.fromkeys((*own, *searches)))
        resolver = Resolver(dns.servers, searches, ("ndots:5",))
    elif dns.resolver_file:
        resolver = host
    else:
        resolver = Resolver(("127.0.0.1",), (".",))
    return _within_limits(_with_config(resolver, pod["spec"].get("dnsConfig") or {}))


def _with_config(base: Resolver, config: dict[str, Any]) -> Resolver:
    options = {name: value for name, _, value in (option.partition(":") for option in base.options)}
    options |= {option["name"]: option.get("value") or "" for option in config.get("options") or []}
    return Resolver(
        tuple(dict.fromkeys((*base.servers, *(config.get("nameservers") or [])))),
        tuple(dict.fromkeys((*base.searches, *(config.get("searches") or [])))),
        tuple(f"{name}:{value}" if value else name for name, value in options.items()),
    )


def _within_limits(resolver: Resolver) -> Resolver:
    searches = [s for s in resolver.searches[:MAX_SEARCHES] if len(s) <= 253]
    while searches and len(" ".join(searches)) > MAX_SEARCH_CHARS:
        searches.pop()
    return Resolver(resolver.servers[:MAX_NAMESERVERS], tuple(searches), resolver.options)


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
