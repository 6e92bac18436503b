"""A pod's resolv.conf, and what cannot be as it was asked for. Pure but for reading the node's own file.

Source: https://kubernetes.io/docs/concepts/services-networking/dns-pod-service/
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tiphys.kubelet.pod import pods
from tiphys.kubelet.pod.pods import Pod

MAX_SEARCHES = 32
MAX_SEARCH_CHARS = 2048
MAX_SEARCH_LENGTH = 253
MAX_NAMESERVERS = 3
MISSING_CLUSTER_DNS = (
    'kubelet does not have ClusterDNS IP configured and cannot create Pod using "ClusterFirst" policy.'
    ' Falling back to "Default" policy.'
)
_OMITTED = "some {} have been omitted, the applied {} line is:"


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
    options: dict[str, str] = {}
    for line in text.splitlines():
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        match words[0]:
            case "nameserver":
                servers += words[1:2]
            case "search":
                searches = [word.removesuffix(".") for word in words[1:] if word != "."]
            case "options":
                options |= {word.partition(":")[0]: word for word in words[1:]}
    return Resolver(tuple(servers), tuple(searches), tuple(options.values()))


def read_resolver(path: str) -> Resolver:
    return parse_resolver(Path(path).read_text()) if path and Path(path).exists() else Resolver()


def pod_resolver(pod: Pod, dns: ClusterDNS, host: Resolver) -> Resolver:
    """What a pod's resolv.conf says, by its dnsPolicy and dnsConfig."""
    return _within_limits(_wanted(pod, dns, host))


def complaints(pod: Pod, dns: ClusterDNS, host: Resolver) -> list[tuple[str, str]]:
    """What of a pod's resolv.conf is not as it should be: reasons and messages of events."""
    wanted = _wanted(pod, dns, host)
    given = _within_limits(wanted)
    events = []
    if _uses_cluster(pod) and not dns.servers:
        events.append(("MissingClusterDNS", f'pod: "{pods.describe(pod)}". {MISSING_CLUSTER_DNS}'))
    if given.servers != wanted.servers:
        text = f"Nameserver limits were exceeded, {_OMITTED.format('nameservers', 'nameserver')}"
        events.append(("DNSConfigForming", f"{text} {' '.join(given.servers)}"))
    if given.searches != wanted.searches:
        text = f"Search Line limits were exceeded, {_OMITTED.format('search paths', 'search')}"
        events.append(("DNSConfigForming", f"{text} {' '.join(given.searches)}"))
    return events


def host_complaint(dns: ClusterDNS) -> str:
    """Why pods cannot have all that the node's own file says; empty if they can."""
    path = dns.resolver_file
    if not path:
        return ""
    try:
        searches = parse_resolver(Path(path).read_text()).searches
    except OSError as error:
        return f"open {path}: {(error.strerror or '').lower()}"
    limit = MAX_SEARCHES - (3 if dns.domain else 0)
    if len(searches) > limit:
        return f"Resolv.conf file '{path}' contains search line consisting of more than {limit} domains!"
    if any(len(search) > MAX_SEARCH_LENGTH for search in searches):
        allowed = f"more than allowed {MAX_SEARCH_LENGTH} chars!"
        return f'Resolv.conf file "{path}" contains a search path which length is {allowed}'
    if len(" ".join(searches)) > MAX_SEARCH_CHARS:
        allowed = f"more than allowed {MAX_SEARCH_CHARS} chars!"
        return f"Resolv.conf file '{path}' contains search line which length is {allowed}"
    return ""


def _uses_cluster(pod: Pod) -> bool:
    policy = pod["spec"].get("dnsPolicy") or "ClusterFirst"
    return policy == "ClusterFirstWithHostNet" or (policy == "ClusterFirst" and not pods.host_network(pod))


def _wanted(pod: Pod, dns: ClusterDNS, host: Resolver) -> Resolver:
    """What a pod asked for, whatever the limits."""
    if pod["spec"].get("dnsPolicy") == "None":
        resolver = Resolver()
    elif _uses_cluster(pod) and dns.servers:
        own = (f"{pods.namespace_of(pod)}.svc.{dns.domain}", f"svc.{dns.domain}", dns.domain) if dns.domain else ()
        resolver = Resolver(dns.servers, tuple(dict.fromkeys((*own, *host.searches))), ("ndots:5",))
    elif dns.resolver_file:
        resolver = host
    else:
        resolver = Resolver(("127.0.0.1",), (".",))
    return _with_config(resolver, pod["spec"].get("dnsConfig") or {})


def _with_config(base: Resolver, config: dict[str, Any]) -> Resolver:
    options = {name: value for name, _, value in (option.partition(":") for option in base.options)}
    options |= {option["name"]: option.get("value") or "" for option in config.get("options") or []}
    return Resolver(
        tuple(dict.fromkeys((*base.servers, *(config.get("nameservers") or [])))),
        tuple(dict.fromkeys((*base.searches, *(config.get("searches") or [])))),
        tuple(f"{name}:{value}" if value else name for name, value in options.items()),
    )


def _within_limits(resolver: Resolver) -> Resolver:
    searches = [s for s in resolver.searches[:MAX_SEARCHES] if len(s) <= MAX_SEARCH_LENGTH]
    while searches and len(" ".join(searches)) > MAX_SEARCH_CHARS:
        searches.pop()
    return Resolver(resolver.servers[:MAX_NAMESERVERS], tuple(searches), resolver.options)
