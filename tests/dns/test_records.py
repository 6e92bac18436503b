"""What names mean: the specification of DNS-based service discovery, line by line."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from tiphys.api.object import Object
from tiphys.dns.records import Answer, ClusterZone, reversed_address, undashed


class Objects:
    """A ``Source`` of fixed objects."""

    def __init__(self) -> None:
        self._services: dict[tuple[str, str], Object] = {}
        self._slices: list[Object] = []

    def add(self, name: str, *, slices: Iterable[Object] = (), **spec: Any) -> None:
        ports = [{"name": "http", "port": 80, "protocol": "TCP"}, {"name": "dns", "port": 53, "protocol": "UDP"}]
        meta = {"name": name, "namespace": "shop"}
        self._services["shop", name] = {"metadata": meta, "spec": {"ports": ports, **spec}}
        for i, slice_ in enumerate(slices):
            labels = {"kubernetes.io/service-name": name}
            self._slices.append({"metadata": {"name": f"{name}-{i}", "namespace": "shop", "labels": labels}, **slice_})

    def service(self, namespace: str, name: str) -> Object | None:
        return self._services.get((namespace, name))

    def slices(self, namespace: str, service: str) -> list[Object]:
        return [s for s in self._slices if s["metadata"]["labels"]["kubernetes.io/service-name"] == service]

    def namespace_exists(self, name: str) -> bool:
        return name in ("shop", "default")

    def services_by_ip(self, ip: str) -> list[Object]:
        return [s for s in self._services.values() if ip in s["spec"].get("clusterIPs", ())]

    def slices_by_ip(self, ip: str) -> list[Object]:
        return [s for s in self._slices if any(ip in e["addresses"] for e in s["endpoints"])]


def slice_of(*endpoints: Object) -> Object:
    return {"endpoints": list(endpoints), "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}]}


@pytest.fixture
def zone() -> ClusterZone:
    objects = Objects()
    objects.add("web", clusterIP="10.96.0.7", clusterIPs=["10.96.0.7", "fd00::7"])
    peers = slice_of(
        {"addresses": ["10.244.0.5"], "hostname": "db-0", "conditions": {"ready": True}},
        {"addresses": ["10.244.0.6"], "conditions": {}},
        {"addresses": ["10.244.0.9"], "hostname": "db-9", "conditions": {"ready": False}},
    )
    objects.add("db", clusterIP="None", slices=[peers])
    objects.add("empty", clusterIP="None")
    objects.add("away", type="ExternalName", externalName="Example.ORG")
    return ClusterZone("cluster.local", objects, "10.96.0.10")


def ask(zone: ClusterZone, name: str, qtype: str = "A") -> Answer:
    labels = tuple(f"{name}.cluster.local".split(".") if name else ["cluster", "local"])
    assert zone.covers(labels)
    return zone.answer(labels, qtype)


def data(zone: ClusterZone, name: str, qtype: str = "A") -> list[Any]:
    answer = ask(zone, name, qtype)
    assert answer.exists, f"{name} does not exist"
    assert all(record.name == f"{name}.cluster.local." for record in answer.records)
    return [record.data for record in answer.records]


def test_schema_version(zone: ClusterZone) -> None:
    assert data(zone, "dns-version", "TXT") == ["1.1.0"]
    assert data(zone, "dns-version", "A") == []


def test_a_service_has_its_cluster_ips(zone: ClusterZone) -> None:
    assert data(zone, "web.shop.svc") == ["10.96.0.7"]
    assert data(zone, "web.shop.svc", "AAAA") == ["fd00::7"]
    assert data(zone, "web.shop.svc", "MX") == []


def test_ports_of_a_service(zone: ClusterZone) -> None:
    assert data(zone, "_http._tcp.web.shop.svc", "SRV") == [(0, 100, 80, "web.shop.svc.cluster.local.")]
    assert not ask(zone, "_http._udp.web.shop.svc", "SRV").exists
    assert not ask(zone, "_nope._tcp.web.shop.svc", "SRV").exists
    assert data(zone, "_tcp.web.shop.svc", "SRV") == []
    additional = ask(zone, "_http._tcp.web.shop.svc", "SRV").additional
    assert [(r.type, r.data) for r in additional] == [("A", "10.96.0.7"), ("AAAA", "fd00::7")]


def test_a_headless_service_has_its_ready_endpoints(zone: ClusterZone) -> None:
    assert data(zone, "db.shop.svc") == ["10.244.0.5", "10.244.0.6"]
    assert data(zone, "db-0.db.shop.svc") == ["10.244.0.5"]
    assert data(zone, "10-244-0-6.db.shop.svc") == ["10.244.0.6"]
    assert not ask(zone, "db-9.db.shop.svc").exists
    assert not ask(zone, "10-244-0-5.db.shop.svc").exists
    assert not ask(zone, "empty.shop.svc").exists


def test_ports_of_a_headless_service_name_each_endpoint(zone: ClusterZone) -> None:
    assert data(zone, "_http._tcp.db.shop.svc", "SRV") == [
        (0, 50, 8080, "db-0.db.shop.svc.cluster.local."),
        (0, 50, 8080, "10-244-0-6.db.shop.svc.cluster.local."),
    ]
    additional = ask(zone, "_http._tcp.db.shop.svc", "SRV").additional
    assert ("db-0.db.shop.svc.cluster.local.", "10.244.0.5") in [(r.name, r.data) for r in additional]


def test_external_name(zone: ClusterZone) -> None:
    for qtype in ("A", "AAAA", "CNAME"):
        (record,) = ask(zone, "away.shop.svc", qtype).records
        assert (record.type, record.data) == ("CNAME", "Example.ORG.")
    assert not ask(zone, "_http._tcp.away.shop.svc", "SRV").exists


def test_pods_by_address(zone: ClusterZone) -> None:
    assert data(zone, "10-244-0-5.default.pod") == ["10.244.0.5"]
    assert data(zone, "fd00--5.default.pod", "AAAA") == ["fd00::5"]
    assert data(zone, "10-244-0-5.default.pod", "AAAA") == []
    assert not ask(zone, "10-244-0-5.nowhere.pod").exists
    assert not ask(zone, "not-an-address.default.pod").exists


@pytest.mark.parametrize("name", ["", "svc", "pod", "shop.svc", "default.pod", "dns"])
def test_names_with_names_below_them_exist(zone: ClusterZone, name: str) -> None:
    assert ask(zone, name) == Answer(exists=True)


@pytest.mark.parametrize(
    "name", ["nope", "nope.svc", "nope.shop.svc", "a.b.c.d.shop.svc", "google.com.shop.svc", "x.pod"]
)
def test_names_that_do_not_exist(zone: ClusterZone, name: str) -> None:
    assert not ask(zone, name).exists


def test_reverse_names(zone: ClusterZone) -> None:
    def reverse(name: str) -> list[Any] | None:
        answer = zone.reverse(tuple(name.split(".")))
        return None if answer is None else [record.data for record in answer.records]

    assert reverse("7.0.96.10.in-addr.arpa") == ["web.shop.svc.cluster.local."]
    assert reverse("5.0.244.10.in-addr.arpa") == ["db-0.db.shop.svc.cluster.local."]
    assert reverse("8.8.8.8.in-addr.arpa") is None
    nibbles = ".".join(reversed("fd000000000000000000000000000007"))
    assert reverse(f"{nibbles}.ip6.arpa") == ["web.shop.svc.cluster.local."]


def test_dashes_stand_for_dots_or_colons() -> None:
    assert undashed("10-1-2-3") == "10.1.2.3"
    assert undashed("2001-db8--1") == "2001:db8::1"
    assert undashed("10-1-2") is None
    assert undashed("fe80--1%eth0") is None


@pytest.mark.parametrize(
    "name", ["4.3.2.::1.in-addr.arpa", "%1" + ".0" * 31 + ".ip6.arpa", "12" + ".0" * 31 + ".ip6.arpa", "1.in-addr.arpa"]
)
def test_names_that_only_look_reversed_mean_no_address(name: str) -> None:
    assert reversed_address(tuple(name.split("."))) is None
