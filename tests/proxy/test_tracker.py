"""From Services and EndpointSlices to state, and which endpoints are used from where."""

from __future__ import annotations

import pytest

from tests.proxy.objects import endpoint, service, slice_of, state_of
from tiphys.api.meta.timestamps import parse_seconds
from tiphys.proxy.endpoints import usable
from tiphys.proxy.state import Place
from tiphys.proxy.tracker import TRIGGER_TIME, Tracker, service_ports

HERE = Place("node-1", "zone-a")


def used(*endpoints: dict[str, object], place: Place = HERE, **spec: object) -> tuple[set[str], set[str]]:
    (backends,) = state_of(service(**spec), slice_of(*endpoints))
    found = usable(backends.endpoints, backends.port, place)
    return {e.ip for e in found.cluster}, {e.ip for e in found.local}


def test_only_what_matters_is_a_change() -> None:
    tracker = Tracker("ip", "node-1")
    svc = service()
    assert not tracker.slice_changed(slice_of(endpoint("10.244.0.2")))  # of a service not seen yet
    assert tracker.service_changed(svc)
    assert list(tracker.take_changes()) == [("default", "web")]
    svc["metadata"]["annotations"] = {"a": "b"}
    assert not tracker.service_changed(svc)
    assert tracker.take_changes() == {}
    assert tracker.slice_changed(slice_of(endpoint("10.244.0.3"), suffix="b"))
    ((key, (backends,)),) = tracker.take_changes().items()
    assert [e.ip for e in backends.endpoints] == ["10.244.0.2", "10.244.0.3"]
    assert tracker.slice_deleted(slice_of(suffix="a"))
    assert tracker.service_deleted(svc)
    assert tracker.take_changes() == {key: ()}


@pytest.mark.parametrize(
    "svc",
    [
        service(cluster_ip="None"),
        service(type="ExternalName", cluster_ip=""),
        service() | {"metadata": {"name": "x", "namespace": "y", "labels": {"service.kubernetes.io/headless": ""}}},
    ],
)
def test_services_that_are_not_proxied(svc: dict[str, object]) -> None:
    assert service_ports(svc, "ip") == ()


def test_addresses_of_old_objects_are_written_as_everybody_reads_them() -> None:
    """Upstream's ``TestBadIPs``: to some tools 172.30.0.041 is 172.30.0.33."""
    svc = service(
        cluster_ip="172.30.0.041",
        type="LoadBalancer",
        externalIPs=["192.168.099.022", "::ffff:198.51.100.07", "2001:DB8:0::1"],
        loadBalancerSourceRanges=["203.0.113.000/025", " 198.51.100.0/24 ", "2001:DB8::/32"],
        status={"loadBalancer": {"ingress": [{"ip": "1.2.3.004"}, {"ip": "2001:DB8::0:2"}]}},
    )
    svc["spec"]["clusterIPs"] = ["172.30.0.041", "FD00::0041"]
    (backends,) = state_of(svc, slice_of(endpoint("10.180.00.001")))
    port = backends.port
    assert (port.cluster_ip, port.load_balancer_ips) == ("172.30.0.41", ("1.2.3.4",))
    assert port.external_ips == ("192.168.99.22", "198.51.100.7")
    assert port.source_ranges == ("203.0.113.0/25", "198.51.100.0/24")
    assert [e.ip for e in backends.endpoints] == ["10.180.0.1"]
    (backends,) = state_of(svc, slice_of(endpoint("FD00:10::0:1")), family="ip6")
    port = backends.port
    assert (port.cluster_ip, port.load_balancer_ips) == ("fd00::41", ("2001:db8::2",))
    assert (port.external_ips, port.source_ranges) == (("2001:db8::1",), ("2001:db8::/32",))
    assert [e.ip for e in backends.endpoints] == ["fd00:10::1"]


@pytest.mark.parametrize(
    "text", ["300.1.1.1", "1.2.3", "1.2.3.4.5", "1.2.3.4\nflush ruleset", "fe80::1%eth0", "x", "", "9" * 6000]
)
def test_what_is_no_address_is_left_out_of_the_rules(text: str) -> None:
    """One object's mistake would have the kernel refuse everybody's rules."""
    svc = service(
        type="LoadBalancer",
        externalIPs=[text, "192.0.2.1"],
        loadBalancerSourceRanges=[f"{text}/24", "198.51.100.0/24", f"10.0.0.0/{text}"],
        status={"loadBalancer": {"ingress": [{"ip": text}]}},
    )
    (backends,) = state_of(svc, slice_of(endpoint("10.244.0.2"), endpoint(text)))
    port = backends.port
    assert (port.external_ips, port.load_balancer_ips) == (("192.0.2.1",), ())
    assert port.source_ranges == ("198.51.100.0/24",)
    assert [e.ip for e in backends.endpoints] == ["10.244.0.2"]
    assert service_ports(service(cluster_ip=text), "ip") == ()


def test_a_terminating_endpoint_gives_way_to_a_new_pod_with_its_address() -> None:
    old = endpoint("10.244.0.2", ready=False, terminating=True)
    for order in ((old, endpoint("10.244.0.2")), (endpoint("10.244.0.2"), old)):
        (backends,) = state_of(service(), slice_of(*order))
        assert [e.ready for e in backends.endpoints] == [True]


def test_ready_endpoints_are_preferred_and_draining_ones_are_the_fallback() -> None:
    ready = endpoint("10.0.0.1")
    draining = endpoint("10.0.0.2", ready=False, serving=True, terminating=True)
    down = endpoint("10.0.0.3", ready=False, serving=False)
    assert used(ready, draining, down)[0] == {"10.0.0.1"}
    assert used(draining, down)[0] == {"10.0.0.2"}
    assert used(down)[0] == set()


def test_local_falls_back_to_draining_endpoints_on_its_own() -> None:
    draining_here = endpoint("10.0.0.1", ready=False, serving=True, terminating=True)
    there = endpoint("10.0.0.2", node="node-2")
    spec = {"type": "NodePort", "externalTrafficPolicy": "Local"}
    assert used(draining_here, there, **spec) == ({"10.0.0.2"}, {"10.0.0.1"})


def _zoned(address: str, zone: str, **more: object) -> dict[str, object]:
    return endpoint(address, hints={"forZones": [{"name": zone}]}, **more)


def test_zone_hints_count_where_every_ready_endpoint_has_one() -> None:
    a, b, bare = _zoned("10.0.0.1", "zone-a"), _zoned("10.0.0.2", "zone-b"), endpoint("10.0.0.3")
    assert used(a, b)[0] == {"10.0.0.1"}
    assert used(a, b, bare)[0] == {"10.0.0.1", "10.0.0.2", "10.0.0.3"}
    assert used(a, b, place=Place("node-1", "zone-c"))[0] == {"10.0.0.1", "10.0.0.2"}
    assert used(a, b, place=Place("node-1"))[0] == {"10.0.0.1", "10.0.0.2"}


def test_node_hints_come_before_zone_hints() -> None:
    def hinted(address: str, node: str) -> dict[str, object]:
        return endpoint(address, hints={"forNodes": [{"name": node}], "forZones": [{"name": "zone-a"}]})

    ours, other = hinted("10.0.0.1", "node-1"), hinted("10.0.0.2", "node-2")
    assert used(ours, other)[0] == {"10.0.0.1"}
    assert used(ours, other, place=Place("node-3", "zone-a"))[0] == {"10.0.0.1", "10.0.0.2"}


def test_a_slice_says_when_what_it_shows_happened() -> None:
    tracker = Tracker("ip", "node-1")
    tracker.service_changed(service())
    slice_ = slice_of(endpoint("10.244.0.2"))
    for text in ("2026-11-30T10:00:00Z", "no time", "2026-11-30T10:00:05.5Z"):
        slice_["metadata"]["annotations"] = {TRIGGER_TIME: text}
        tracker.slice_changed(slice_)
    assert tracker.take_triggers() == [parse_seconds("2026-11-30T10:00:05.5Z")]
    assert tracker.take_triggers() == []
    tracker.slice_changed(slice_)
    tracker.slice_deleted(slice_)
    assert tracker.take_triggers() == []
