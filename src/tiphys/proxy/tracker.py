"""Follows Services and EndpointSlices, and says which services have changed and what they look like now (pure).

Services are read again as a whole, never patched from an event: a change of any slice of a service makes its state
from scratch from all its slices. Sources: https://kubernetes.io/docs/reference/networking/virtual-ips/ and KEP-752
(EndpointSlices).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from functools import lru_cache

from tiphys.api.meta.addresses import canonical, cidr_text, parse_cidr_sloppy, parse_sloppy
from tiphys.api.meta.timestamps import TimeError, parse_seconds
from tiphys.api.object import Object
from tiphys.proxy.state import Backends, Endpoint, Family, ServiceKey, ServicePort, ServiceState

log = logging.getLogger(__name__)


SERVICE_NAME = "kubernetes.io/service-name"
PROXY_NAME = "service.kubernetes.io/service-proxy-name"
HEADLESS = "service.kubernetes.io/headless"
TRIGGER_TIME = "endpoints.kubernetes.io/last-change-trigger-time"


class Tracker:
    """The state of one IP family. The objects given stay shared with the informer and are only read."""

    def __init__(self, family: Family, node: str) -> None:
        self.family = family
        self._node = node
        self._ports: dict[ServiceKey, tuple[ServicePort, ...]] = {}
        self._slices: dict[ServiceKey, dict[str, Object]] = {}
        self._changed: set[ServiceKey] = set()
        self._triggers: dict[tuple[ServiceKey, str], float] = {}

    def service_changed(self, service: Object) -> bool:
        """Take a service's new form; returns whether it makes a difference to this proxy."""
        key = _key(service)
        ports = service_ports(service, self.family)
        if ports == self._ports.get(key, ()):
            return False
        self._set_ports(key, ports)
        return True

    def service_deleted(self, service: Object) -> bool:
        key = _key(service)
        if key not in self._ports:
            return False
        self._set_ports(key, ())
        return True

    def slice_changed(self, slice_: Object) -> bool:
        if slice_.get("addressType") != _ADDRESS_TYPE[self.family] or (key := _slice_key(slice_)) is None:
            return False
        name = slice_["metadata"]["name"]
        self._slices.setdefault(key, {})[name] = slice_
        if key in self._ports and (triggered := _triggered(slice_)) is not None:
            self._triggers[key, name] = triggered
        return self._touch(key)

    def slice_deleted(self, slice_: Object) -> bool:
        key = _slice_key(slice_)
        if key is None or key not in self._slices:
            return False
        self._slices[key].pop(slice_["metadata"]["name"], None)
        self._triggers.pop((key, slice_["metadata"]["name"]), None)
        if not self._slices[key]:
            del self._slices[key]
        return self._touch(key)

    def services(self) -> Iterable[ServiceKey]:
        return self._ports.keys()

    def state(self, key: ServiceKey) -> ServiceState:
        """A service's ports with their endpoints; empty if none exists."""
        ports = self._ports.get(key, ())
        if not ports:
            return ()
        slices = self._slices.get(key, {})
        by_pair = {pair: endpoints_of(slices.values(), *pair, self._node) for pair in {_pair(p) for p in ports}}
        return tuple(Backends(port, by_pair[_pair(port)]) for port in ports)

    def take_changes(self) -> dict[ServiceKey, ServiceState]:
        """The services that changed since the last call, as they are now; gone ones are empty."""
        changed, self._changed = self._changed, set()
        changes = {}
        for key in changed:
            try:
                changes[key] = self.state(key)
            except Exception:
                log.exception("service %s/%s cannot be read; its rules stay as they are", *key)
        return changes

    def take_triggers(self) -> list[float]:
        """When what changed the slices since the last call happened, in seconds of the epoch: a pod that got ready."""
        triggers, self._triggers = self._triggers, {}
        return list(triggers.values())

    def touch_all(self) -> None:
        """Report every service as changed, as after a change of the node's zone."""
        self._changed.update(self._ports)

    def _set_ports(self, key: ServiceKey, ports: tuple[ServicePort, ...]) -> None:
        if ports:
            self._ports[key] = ports
        else:
            self._ports.pop(key, None)
        self._changed.add(key)

    def _touch(self, key: ServiceKey) -> bool:
        if key not in self._ports:
            return False
        self._changed.add(key)
        return True


_ADDRESS_TYPE = {"ip": "IPv4", "ip6": "IPv6"}


def _triggered(slice_: Object) -> float | None:
    """When what the slice shows happened; None if its controller does not say, or not as a time."""
    text = (slice_["metadata"].get("annotations") or {}).get(TRIGGER_TIME)
    try:
        return parse_seconds(text) if text else None
    except TimeError:
        return None


def _pair(port: ServicePort) -> tuple[str, str]:
    return port.port_name, port.protocol


def _key(obj: Object) -> ServiceKey:
    return obj["metadata"]["namespace"], obj["metadata"]["name"]


def _slice_key(slice_: Object) -> ServiceKey | None:
    name = (slice_["metadata"].get("labels") or {}).get(SERVICE_NAME)
    return (slice_["metadata"]["namespace"], name) if name else None


def is_family(address: str, family: Family) -> bool:
    return (":" in address) == (family == "ip6")


_USUAL = re.compile(r"(?:(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)(?:\.(?!$)|$)){4}", re.ASCII)


def usual(address: str) -> str:
    """An address in the form that every tool of the kernel's reads and writes, as 010.0.0.1 is 8.0.0.1 to some; empty
    for what is no address."""
    return address if _USUAL.fullmatch(address) else _parsed(address)


@lru_cache(8192)
def _parsed(address: str) -> str:
    parsed = parse_sloppy(address)
    return canonical(parsed) if parsed is not None else ""


def _of_family(addresses: Iterable[str], family: Family) -> tuple[str, ...]:
    """The addresses of a family, in the usual form. What is none is left out: it must not spoil others' rules."""
    return tuple(ip for ip in map(usual, addresses) if ip and is_family(ip, family))


def service_ports(service: Object, family: Family) -> tuple[ServicePort, ...]:
    """The ports of a service that this proxy carries; none for headless and ExternalName services, and for those
    that their labels give to another proxy."""
    spec, labels = service.get("spec") or {}, service["metadata"].get("labels") or {}
    cluster_ip = _cluster_ip(spec, family)
    if not cluster_ip or spec.get("type") == "ExternalName" or PROXY_NAME in labels or HEADLESS in labels:
        return ()
    namespace, name = _key(service)
    external = spec.get("type") in ("NodePort", "LoadBalancer") or bool(spec.get("externalIPs"))
    external_local = external and spec.get("externalTrafficPolicy") == "Local"
    health_check = spec.get("healthCheckNodePort", 0) if spec.get("type") == "LoadBalancer" and external_local else 0
    return tuple(
        ServicePort(
            namespace=namespace,
            name=name,
            port_name=port.get("name", ""),
            protocol=port.get("protocol", "TCP").lower(),
            cluster_ip=cluster_ip,
            port=port["port"],
            node_port=port.get("nodePort", 0),
            external_ips=_of_family(spec.get("externalIPs") or (), family),
            load_balancer_ips=_load_balancer_ips(service, family),
            source_ranges=_source_ranges(spec, family),
            affinity_seconds=_affinity(spec),
            health_check_node_port=health_check,
            external_local=external_local,
            internal_local=spec.get("internalTrafficPolicy") == "Local",
        )
        for port in spec.get("ports") or ()
    )


def _cluster_ip(spec: Object, family: Family) -> str:
    addresses = spec.get("clusterIPs") or [spec.get("clusterIP", "")]
    return next(iter(_of_family(addresses, family)), "")


def _affinity(spec: Object) -> int:
    if spec.get("sessionAffinity") != "ClientIP":
        return 0
    client_ip = (spec.get("sessionAffinityConfig") or {}).get("clientIP") or {}
    return int(client_ip.get("timeoutSeconds") or 10800)


def _load_balancer_ips(service: Object, family: Family) -> tuple[str, ...]:
    balancer = (service.get("status") or {}).get("loadBalancer") or {}
    ingress = [entry for entry in balancer.get("ingress") or () if entry.get("ipMode", "VIP") == "VIP"]
    return _of_family([entry["ip"] for entry in ingress if entry.get("ip")], family)


def _source_ranges(spec: Object, family: Family) -> tuple[str, ...]:
    parsed = [parse_cidr_sloppy(text.strip()) for text in spec.get("loadBalancerSourceRanges") or ()]
    networks = [pair[1] for pair in parsed if pair is not None and (pair[1].version == 6) == (family == "ip6")]
    if any(network.prefixlen == 0 for network in networks):
        return ()
    return tuple(cidr_text(network) for network in networks)


def endpoints_of(slices: Iterable[Object], port_name: str, protocol: str, node: str) -> tuple[Endpoint, ...]:
    """The endpoints for one service port, from all slices of the service, by address."""
    by_address: dict[tuple[str, int], Endpoint] = {}
    for slice_ in slices:
        numbers = [
            port["port"]
            for port in slice_.get("ports") or ()
            if port.get("port")
            and (port.get("name") or "") == port_name
            and port.get("protocol", "TCP").lower() == protocol
        ]
        for number in numbers:
            for described in slice_.get("endpoints") or ():
                if not described.get("addresses"):
                    continue
                endpoint = _endpoint(described, number, node)
                if not endpoint.ip:
                    continue
                # Two pods can share an address for a moment, when it is given out again before the old pod is gone:
                # the one that is not terminating wins.
                if endpoint.address not in by_address or not endpoint.terminating:
                    by_address[endpoint.address] = endpoint
    return tuple(sorted(by_address.values(), key=lambda endpoint: endpoint.address))


def _endpoint(described: Object, port: int, node: str) -> Endpoint:
    conditions, hints = described.get("conditions") or {}, described.get("hints") or {}
    return Endpoint(
        ip=usual(described["addresses"][0]),
        port=port,
        local=bool(node) and described.get("nodeName") == node,
        ready=conditions.get("ready") is not False,
        serving=conditions.get("serving") is not False,
        terminating=conditions.get("terminating") is True,
        zones=frozenset(zone["name"] for zone in hints.get("forZones") or ()),
        nodes=frozenset(entry["name"] for entry in hints.get("forNodes") or ()),
    )
