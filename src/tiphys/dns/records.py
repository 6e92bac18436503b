"""What names mean in the cluster's domain (pure, free of the DNS protocol's bytes).

Services have addresses by name, pods behind headless services have names of their own, ports are found by SRV, and
addresses have names by PTR. A name that does not exist differs from one without a record of the requested type.
Sources: https://github.com/kubernetes/dns/blob/master/docs/specification.md (schema 1.1.0) and, if that is silent,
CoreDNS's kubernetes plugin with ``pods insecure``.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from tiphys.api.object import Object

Name = tuple[str, ...]
"""Labels in lower case, the host's first."""

SCHEMA_VERSION = "1.1.0"
_NIBBLES = frozenset("0123456789abcdef")


@dataclass(frozen=True, slots=True)
class Record:
    """``data`` is an address (A, AAAA), a name with a final dot (CNAME, PTR, NS), a text (TXT), or priority, weight,
    port and target (SRV)."""

    name: str
    type: str
    data: Any


@dataclass(frozen=True, slots=True)
class Answer:
    exists: bool
    """False for NXDOMAIN; true and no records for NODATA."""
    records: tuple[Record, ...] = ()
    additional: tuple[Record, ...] = ()
    has_soa: bool = False
    """Whether the zone's own SOA is among the answers; what is in it, the server knows."""


NO_SUCH_NAME = Answer(exists=False)
NO_DATA = Answer(exists=True)


class Source(Protocol):
    """Where the cluster's objects come from; the informers' copies, or a test's."""

    def service(self, namespace: str, name: str) -> Object | None: ...

    def slices(self, namespace: str, service: str) -> Iterable[Object]: ...

    def namespace_exists(self, name: str) -> bool: ...

    def services_by_ip(self, ip: str) -> Iterable[Object]: ...

    def slices_by_ip(self, ip: str) -> Iterable[Object]: ...


@dataclass(frozen=True, slots=True)
class _Endpoint:
    """One address behind a service, under the name that it has there."""

    name: str
    ip: str
    ports: tuple[tuple[str, str, int], ...]
    """Name, protocol in lower case, number."""


@dataclass(slots=True)
class _Found:
    records: list[Record] = field(default_factory=list)
    additional: list[Record] = field(default_factory=list)

    def answer(self) -> Answer:
        return Answer(exists=True, records=tuple(self.records), additional=tuple(self.additional))


class ClusterZone:
    """Answers for one domain and for the reverse names of the cluster's addresses."""

    def __init__(self, domain: str, source: Source, own_address: str = "") -> None:
        self.domain = domain
        self._labels: Name = tuple(domain.lower().rstrip(".").split("."))
        self._source = source
        self._own_address = own_address

    def covers(self, name: Name) -> bool:
        return name[-len(self._labels) :] == self._labels

    def answer(self, name: Name, qtype: str) -> Answer:
        """The answer for a name in this domain."""
        rest = name[: -len(self._labels)]
        match rest:
            case ():
                return self._apex(qtype)
            case ("dns-version",):
                return self._of(rest, qtype, "TXT", SCHEMA_VERSION)
            case ("svc",) | ("pod",) | ("dns",):
                return NO_DATA
            case ("ns", "dns"):
                return self._addresses(rest, qtype, self._own_addresses())
            case (*path, "svc"):
                return self._in_services(tuple(path), qtype)
            case (*path, "pod"):
                return self._in_pods(tuple(path), qtype)
        return NO_SUCH_NAME

    def _apex(self, qtype: str) -> Answer:
        server = ("ns", "dns")
        if qtype not in ("NS", "SOA", "ANY"):
            return NO_DATA
        records: tuple[Record, ...] = ()
        additional: tuple[Record, ...] = ()
        if qtype != "SOA":
            records = (Record(self._full(()), "NS", self._full(server)),)
            additional = self._addresses(server, "ANY", self._own_addresses()).records
        return Answer(exists=True, records=records, additional=additional, has_soa=qtype != "NS")

    def _own_addresses(self) -> list[str]:
        return [self._own_address] if self._own_address else []

    # -- services -----------------------------------------------------------------------------------------------------

    def _in_services(self, path: Name, qtype: str) -> Answer:
        match path:
            case (namespace,):
                return NO_DATA if self._source.namespace_exists(namespace) else NO_SUCH_NAME
            case (name, namespace):
                return self._service(namespace, name, qtype)
            case (port, protocol, name, namespace) if port.startswith("_") and protocol.startswith("_"):
                return self._service_port(namespace, name, protocol[1:], port[1:], qtype)
            case (protocol, name, namespace) if protocol.startswith("_"):
                service = self._source.service(namespace, name)
                known = {p.get("protocol", "TCP").lower() for p in (service or {"spec": {}})["spec"].get("ports") or ()}
                return NO_DATA if protocol[1:] in known else NO_SUCH_NAME
            case (endpoint, name, namespace):
                return self._endpoint(namespace, name, endpoint, qtype)
        return NO_SUCH_NAME

    def _service(self, namespace: str, name: str, qtype: str) -> Answer:
        service = self._source.service(namespace, name)
        if service is None:
            return NO_SUCH_NAME
        own = (name, namespace, "svc")
        if service["spec"].get("type") == "ExternalName":
            return self._alias(own, service)
        if not _is_headless(service):
            if qtype == "SRV":
                return self._ports_of(service, own, lambda port: True)
            return self._addresses(own, qtype, _cluster_ips(service))
        endpoints = list(self._endpoints(namespace, name))
        if not endpoints:
            return NO_SUCH_NAME  # as CoreDNS has it: nothing to reach, nothing there
        if qtype == "SRV":
            return self._endpoint_ports(own, endpoints, lambda protocol, port: True)
        return self._addresses(own, qtype, [endpoint.ip for endpoint in endpoints])

    def _service_port(self, namespace: str, name: str, protocol: str, port: str, qtype: str) -> Answer:
        service = self._source.service(namespace, name)
        if service is None or service["spec"].get("type") == "ExternalName":
            return NO_SUCH_NAME
        own = (f"_{port}", f"_{protocol}", name, namespace, "svc")
        if _is_headless(service):
            answer = self._endpoint_ports(
                own, list(self._endpoints(namespace, name)), lambda proto, label: (proto, label) == (protocol, port)
            )
        else:
            answer = self._ports_of(
                service,
                own,
                lambda p: (p.get("protocol", "TCP").lower(), p.get("name", "").lower()) == (protocol, port),
            )
        if not answer.records:
            return NO_SUCH_NAME
        return answer if qtype in ("SRV", "ANY") else NO_DATA

    def _ports_of(self, service: Object, own: Name, wanted: Callable[[Object], bool]) -> Answer:
        result, meta = _Found(), service["metadata"]
        target = self._full((meta["name"], meta["namespace"], "svc"))
        ports = [port for port in service["spec"].get("ports") or () if wanted(port)]
        for port in ports:
            result.records.append(Record(self._full(own), "SRV", (0, 100 // len(ports), port["port"], target)))
        if ports:
            result.additional += [Record(target, _type_of(ip), ip) for ip in _cluster_ips(service)]
        return result.answer()

    def _endpoint_ports(self, own: Name, endpoints: list[_Endpoint], wanted: Callable[[str, str], bool]) -> Answer:
        result = _Found()
        parent = own[-3:]
        pairs = [
            (endpoint, number)
            for endpoint in endpoints
            for label, protocol, number in endpoint.ports
            if wanted(protocol, label)
        ]
        targets: dict[tuple[str, str], None] = {}
        for endpoint, number in pairs:
            target = self._full((endpoint.name, *parent))
            targets[target, endpoint.ip] = None
            result.records.append(Record(self._full(own), "SRV", (0, max(100 // len(pairs), 1), number, target)))
        result.additional += [Record(target, _type_of(ip), ip) for target, ip in targets]
        return result.answer()

    def _endpoint(self, namespace: str, service: str, name: str, qtype: str) -> Answer:
        known = self._source.service(namespace, service)
        if known is None or known["spec"].get("type") == "ExternalName":
            return NO_SUCH_NAME
        endpoints = [e for e in self._endpoints(namespace, service) if e.name == name]
        if not endpoints:
            return NO_SUCH_NAME
        own = (name, service, namespace, "svc")
        if qtype == "SRV":
            ports = self._endpoint_ports(own, endpoints, lambda protocol, port: True)
            return Answer(
                exists=True,
                records=tuple(Record(self._full(own), r.type, r.data) for r in ports.records),
                additional=ports.additional,
            )
        return self._addresses(own, qtype, [endpoint.ip for endpoint in endpoints])

    def _alias(self, own: Name, service: Object) -> Answer:
        target = str(service["spec"].get("externalName", "")).rstrip(".")
        return Answer(exists=True, records=(Record(self._full(own), "CNAME", f"{target}."),)) if target else NO_DATA

    def _endpoints(self, namespace: str, service: str) -> Iterator[_Endpoint]:
        """The ready endpoints, each address once."""
        seen: set[str] = set()
        for slice_ in self._source.slices(namespace, service):
            ports = tuple(
                ((port.get("name") or "").lower(), port.get("protocol", "TCP").lower(), port["port"])
                for port in slice_.get("ports") or ()
                if port.get("port")
            )
            for described in slice_.get("endpoints") or ():
                if (described.get("conditions") or {}).get("ready") is False:
                    continue
                for ip in described.get("addresses") or ():
                    if ip not in seen:
                        seen.add(ip)
                        yield _Endpoint(_endpoint_name(described, ip), ip, ports)

    # -- pods ---------------------------------------------------------------------------------------------------------

    def _in_pods(self, path: Name, qtype: str) -> Answer:
        match path:
            case (namespace,):
                return NO_DATA if self._source.namespace_exists(namespace) else NO_SUCH_NAME
            case (address, namespace) if self._source.namespace_exists(namespace):
                ip = undashed(address)
                if ip is not None:
                    return self._addresses((address, namespace, "pod"), qtype, [ip])
        return NO_SUCH_NAME

    # -- reverse ------------------------------------------------------------------------------------------------------

    def reverse(self, name: Name) -> Answer | None:
        """The names of an address; None if it is none of the cluster's, for others to answer."""
        ip = reversed_address(name)
        if ip is None:
            return None
        full = ".".join(name) + "."
        for service in self._source.services_by_ip(ip):
            meta = service["metadata"]
            return Answer(
                exists=True, records=(Record(full, "PTR", self._full((meta["name"], meta["namespace"], "svc"))),)
            )
        records = []
        for slice_ in self._source.slices_by_ip(ip):
            service_name = (slice_["metadata"].get("labels") or {}).get("kubernetes.io/service-name")
            for described in slice_.get("endpoints") or ():
                if service_name and ip in (described.get("addresses") or ()):
                    parts = (_endpoint_name(described, ip), service_name, slice_["metadata"]["namespace"], "svc")
                    records.append(Record(full, "PTR", self._full(parts)))
        return Answer(exists=True, records=tuple(dict.fromkeys(records))) if records else None

    # -- parts --------------------------------------------------------------------------------------------------------

    def _full(self, labels: Name) -> str:
        return ".".join((*labels, self.domain)) + "."

    def _of(self, name: Name, asked: str, qtype: str, data: Any) -> Answer:
        return (
            Answer(exists=True, records=(Record(self._full(name), qtype, data),))
            if asked in (qtype, "ANY")
            else NO_DATA
        )

    def _addresses(self, name: Name, asked: str, ips: Iterable[str]) -> Answer:
        records = [Record(self._full(name), _type_of(ip), ip) for ip in ips]
        return Answer(exists=True, records=tuple(record for record in records if asked in (record.type, "ANY")))


def _type_of(ip: str) -> str:
    return "AAAA" if ":" in ip else "A"


def _cluster_ips(service: Object) -> list[str]:
    spec = service["spec"]
    return [ip for ip in spec.get("clusterIPs") or [spec.get("clusterIP", "")] if ip and ip != "None"]


def _is_headless(service: Object) -> bool:
    return bool(service["spec"].get("clusterIP", "") == "None")


def _endpoint_name(endpoint: Object, ip: str) -> str:
    return str(endpoint.get("hostname") or "").lower() or dashed(ip)


def dashed(ip: str) -> str:
    """An address as a label: ``10-244-0-7``."""
    return ip.replace(".", "-").replace(":", "-").lower()


def undashed(label: str) -> str | None:
    """The reverse; None for what is no address, or one of a link."""
    if "%" in label:
        return None
    for text in (label.replace("-", "."), label.replace("-", ":")):
        try:
            return str(ipaddress.ip_address(text))
        except ValueError:
            continue
    return None


def reversed_address(name: Name) -> str | None:
    """The address in a name under in-addr.arpa or ip6.arpa."""
    try:
        match name:
            case (d, c, b, a, "in-addr", "arpa"):
                return str(ipaddress.IPv4Address(f"{a}.{b}.{c}.{d}"))
            case (*nibbles, "ip6", "arpa") if len(nibbles) == 32 and _NIBBLES.issuperset(nibbles):
                return str(ipaddress.IPv6Address(int("".join(reversed(nibbles)), 16)))
    except ValueError:
        return None
    return None


def labels_of(name: str) -> Name:
    """``www.Example.org.`` as labels in lower case; none for the root."""
    return tuple(label for label in name.rstrip(".").lower().split(".") if label)
