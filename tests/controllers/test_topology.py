"""Hints by the zones' processors (``topology-mode: Auto``). The tables hold the cases that upstream's tests have.

An endpoint is written as its zone, then ``>`` and the zones that it has hints for, then ``!`` if it is not ready or
``?`` if its readiness is not known.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiphys.api.object import Object
from tiphys.controllers.network.endpointslice import topology
from tiphys.controllers.network.endpointslice.plan import plan
from tiphys.controllers.network.endpointslice.topology import (
    NO_FACTS,
    NO_ZONE,
    OVERLOADED,
    TOO_FEW,
    Hinting,
    Refusal,
    ZoneAllocation,
)
from tiphys.testing import Cluster


def endpoint(text: str) -> Object:
    ready = {"!": {"ready": False}, "?": {}}.get(text[-1:], {"ready": True})
    zone, arrow, zones = text.rstrip("!?").partition(">")
    found: Object = {"addresses": ["10.1.2.3"], "conditions": ready}
    if zone:
        found["zone"] = zone
    if arrow:
        found["hints"] = {"forZones": [{"name": name} for name in zones]}
    return found


def written(found: Object) -> str:
    zones = "".join(entry["name"] for entry in found.get("hints", {}).get("forZones", ()))
    ready = {True: "", False: "!", None: "?"}[found["conditions"].get("ready")]
    return found.get("zone", "") + (f">{zones}" if "hints" in found else "") + ready


def slices(*texts: str) -> list[Object]:
    return [
        {"metadata": {"name": f"s{number}"}, "endpoints": [endpoint(word) for word in text.split()]}
        for number, text in enumerate(texts)
    ]


def texts(found: list[Object]) -> list[str]:
    return [" ".join(map(written, endpoint_slice["endpoints"])) for endpoint_slice in found]


# The zones' shares


def node(zone: str, cpu: str, ready: str = "True", **labels: str) -> Object:
    status = {"conditions": [{"type": "Ready", "status": ready}], "allocatable": {"cpu": cpu} if cpu else {}}
    zones = {"topology.kubernetes.io/zone": zone} if zone else {}
    return {"metadata": {"name": "n", "labels": zones | labels}, "status": status}


CONTROL_PLANE = {"node-role.kubernetes.io/control-plane": ""}


@pytest.mark.parametrize(
    ("nodes", "shares"),
    [
        ([], None),
        ([node("a", "1000m")], None),
        ([node("a", "1000m"), node("a", "1000m")], None),
        ([node("a", "1000m"), node("b", "1")], {"a": 0.5, "b": 0.5}),
        ([node("a", "1000m", "False"), node("b", "1000m")], None),
        ([node("a", "1000m"), node("b", "1000m", **CONTROL_PLANE)], None),
        ([node("a", "1000m"), node("b", "1000m"), node("b", "1000m", "Unknown")], {"a": 0.5, "b": 0.5}),
        ([node("a", "1000m"), node("b", "1000m"), node("b", "1", **CONTROL_PLANE)], {"a": 0.5, "b": 0.5}),
        (
            [node("a", cpu) for cpu in ("1000m", "1000m", "1000m", "2000m")]
            + [node("b", "3000m"), node("b", "1500m"), node("c", "500m")],
            {"a": 0.5, "b": 0.45, "c": 0.05},
        ),
        ([node("a", "1"), node("b", "1"), node("", "1")], None),
        ([node("a", "1"), node("b", "1"), node("b", "")], None),
    ],
)
def test_shares_of_the_zones(nodes: list[Object], shares: dict[str, float] | None) -> None:
    assert topology.zone_shares(nodes) == shares


def test_only_readiness_and_zone_of_a_node_move_the_shares() -> None:
    before = node("a", "1")
    assert not topology.moves_shares(before, node("a", "2", extra=""))
    assert topology.moves_shares(before, node("b", "1"))
    assert topology.moves_shares(before, node("a", "1", "False"))


@pytest.mark.parametrize(
    ("annotations", "auto"),
    [
        ({}, False),
        ({topology.MODE: "Auto"}, True),
        ({topology.MODE: "auto"}, True),
        ({topology.MODE: "AUTO"}, False),
        ({topology.DEPRECATED_MODE: "auto"}, True),
        ({topology.DEPRECATED_MODE: "disabled", topology.MODE: "Auto"}, False),
    ],
)
def test_the_annotations(annotations: dict[str, str], auto: bool) -> None:
    assert topology.is_auto({"metadata": {"annotations": annotations}}) is auto


# Who gives and who receives


@pytest.mark.parametrize(
    ("desired", "have", "giving", "receiving"),
    [
        ({}, {}, {}, {}),
        ({"a": 1.2, "b": 1.1, "c": 1.0}, {"a": 1, "b": 1, "c": 1}, {}, {}),
        ({"a": 5.1, "b": 5.1, "c": 5.8}, {"a": 16}, {"a": 10}, {"b": 5, "c": 5}),
        ({"a": 5.0, "b": 5.6, "c": 5.4}, {"a": 16}, {"a": 11}, {"b": 6, "c": 5}),
        ({"a": 5.0, "b": 5.6, "c": 5.4}, {"b": 8, "c": 8}, {"b": 2, "c": 3}, {"a": 5}),
        ({"a": 5.0, "b": 5.0, "c": 5.0}, {"a": 6, "b": 6, "c": 6}, {}, {}),
        ({"a": -5.0, "b": -5.0, "c": -5.0}, {"a": 6, "b": 6, "c": 6}, {}, {}),
        ({"a": 5.0, "b": 5.0, "c": 5.0}, {"a": -4, "b": -3, "c": -2}, {}, {}),
        ({"a": 5.0, "b": 5.0, "c": 5.0}, {"a": -40, "b": 20, "c": 20}, {"b": 15, "c": 15}, {"a": 30}),
    ],
)
def test_as_few_as_possible_change_hands(
    desired: dict[str, float], have: dict[str, int], giving: dict[str, int], receiving: dict[str, int]
) -> None:
    allocations = {zone: ZoneAllocation(desired=count) for zone, count in desired.items()}
    assert topology.giving_and_receiving(allocations, have) == (giving, receiving)


@pytest.mark.parametrize(
    ("endpoints", "giving", "receiving", "changes"),
    [
        ("", {}, {}, {}),
        ("a>a", {"a": 1}, {"b": 1}, {"a": -1, "b": 1}),
        ("a>a a>a a>a", {"a": 2}, {"b": 1, "c": 1}, {"a": -2, "b": 1, "c": 1}),
        ("a>a b>b", {"b": 1}, {"c": 2}, {"b": -1, "c": 1}),
    ],
)
def test_endpoints_change_zones(
    endpoints: str, giving: dict[str, int], receiving: dict[str, int], changes: dict[str, int]
) -> None:
    found = [endpoint(word) for word in endpoints.split()]
    assert topology.redistribute(found, giving, receiving) == changes
    moved = [one for one in found if one["hints"]["forZones"][0]["name"] != one["zone"]]
    assert len(moved) == sum(count for count in changes.values() if count > 0)


# Hints that are there


@pytest.mark.parametrize(
    ("text", "given_before", "maximums", "kept"),
    [
        ("", {}, {}, {}),
        ("a>a", {"a": 1}, {"a": 3}, {"a": 1}),
        ("a>a a>a! a>a?", {"a": 1}, {"a": 3}, {"a": 1}),
        ("a>a a>b b>b", {"a": 1, "b": 1, "c": 1}, {"a": 3, "b": 3, "c": 3}, {"a": 1, "b": 2}),
        ("a>x", {"a": 1, "b": 1, "c": 1}, {"a": 3}, None),
        ("a", {}, {"a": 3}, None),
        ("a>", {}, {"a": 3}, None),
        ("a>a a>a", {"a": 1}, {"a": 2}, None),
    ],
)
def test_whether_a_slices_hints_can_stay(
    text: str, given_before: dict[str, int], maximums: dict[str, int], kept: dict[str, int] | None
) -> None:
    (found,) = slices(text)
    allocations = {zone: ZoneAllocation(maximum=count) for zone, count in maximums.items()}
    assert topology.hints_by_zone(found, given_before, allocations) == kept


@pytest.mark.parametrize(
    ("zones", "shares", "overloaded"),
    [
        ({}, {"a": 0.5, "b": 0.5}, False),
        ({"a": 1}, None, True),
        ({"a": 5, "b": 5}, {"a": 0.5, "b": 0.5}, False),
        ({"a": 6, "b": 5}, {"a": 0.5, "b": 0.5}, False),
        ({"a": 7, "b": 3}, {"a": 0.5, "b": 0.5}, True),
        ({"a": 5, "b": 5}, {"a": 0.4, "b": 0.4, "c": 0.2}, True),
    ],
)
def test_overload(zones: dict[str, int], shares: dict[str, float] | None, overloaded: bool) -> None:
    assert topology.is_overloaded(zones, shares) is overloaded


# Adding hints

THREE = {"a": 0.35, "b": 0.35, "c": 0.30}


@pytest.mark.parametrize(
    ("shares", "create", "update", "unchanged", "refusal"),
    [
        (None, [], [], [], NO_FACTS),
        (None, ["a"], [], [], NO_FACTS),
        ({"a": 0.3, "b": 0.4, "c": 0.3}, ["a b"], [], [], f"{TOO_FEW} (2 endpoints, 3 zones)"),
        ({"a": 0.3, "b": 0.4, "c": 0.3}, ["a b c! c?"], [], [], f"{TOO_FEW} (2 endpoints, 3 zones)"),
        ({"a": 0.9, "b": 0.1}, ["a b"], [], [], f"{OVERLOADED} (2 endpoints, 2 zones)"),
        ({"a": 0.5, "b": 0.5}, [], ["a a", ">a b"], [], NO_ZONE),
    ],
)
def test_refusals(
    shares: dict[str, float] | None, create: list[str], update: list[str], unchanged: list[str], refusal: str
) -> None:
    found = topology.add_hints(slices(*create), slices(*update), slices(*unchanged), shares)
    assert found == Refusal(refusal)


@pytest.mark.parametrize(
    ("shares", "create", "update", "unchanged", "created", "updated", "zones"),
    [
        ({"a": 0.45, "b": 0.55}, ["a b"], [], [], ["a>a b>b"], [], {"a": 1, "b": 1}),
        ({"a": 0.45, "b": 0.55}, ["a b b! b?"], [], [], ["a>a b>b b! b?"], [], {"a": 1, "b": 1}),
        (
            THREE,
            ["a b", "c c a"],
            ["a a", "b c a"],
            [],
            ["a>b b>b", "c>c c>c a>a"],
            ["a>a a>a", "b>b c>c a>a"],
            {"a": 4, "b": 3, "c": 3},
        ),
        ({"a": 0.5, "b": 0.5}, ["a"], [], ["b>b"], ["a>a"], [], {"a": 1, "b": 1}),
        ({"a": 0.5, "b": 0.5}, [], [], ["a>a b>b b!"], [], [], {"a": 1, "b": 1}),
        ({"a": 0.6, "b": 0.4}, [], [], ["a>a a>a a>a", "b>b b"], [], ["b>b b>b"], {"a": 3, "b": 2}),
        ({"a": 0.5, "b": 0.5}, [], [], ["a>a a>c"], [], ["a>b a>a"], {"a": 1, "b": 1}),
    ],
)
def test_hints(
    shares: dict[str, float],
    create: list[str],
    update: list[str],
    unchanged: list[str],
    created: list[str],
    updated: list[str],
    zones: dict[str, int],
) -> None:
    to_create, to_update, there = slices(*create), slices(*update), slices(*unchanged)
    assert topology.add_hints(to_create, to_update, there, shares) == zones
    assert (texts(to_create), texts(to_update), texts(there)) == (created, updated, unchanged)


@given(
    st.lists(st.sampled_from("abcd"), min_size=2, max_size=40),
    st.lists(st.integers(1, 64), min_size=2, max_size=4),
)
def test_no_zone_is_overloaded_by_hints_from_nothing(zones: list[str], processors: list[int]) -> None:
    shares = {zone: count / sum(processors) for zone, count in zip("abcd", processors, strict=False)}
    create = slices(" ".join(zone for zone in zones if zone in shares))
    found = topology.add_hints(create, [], [], shares)
    if not isinstance(found, Refusal):
        assert found.total() == len(create[0]["endpoints"])
        assert all(count >= 0 for count in found.values())
        assert all("hints" in one for one in create[0]["endpoints"])
        assert not topology.is_overloaded(found, shares)


# In the plan of a Service


def service(mode: str | None = "Auto", **spec: Any) -> Object:
    annotations = {topology.MODE: mode} if mode else {}
    base = {"clusterIP": "10.96.0.5", "ipFamilies": ["IPv4"], "ports": [{"port": 80, "targetPort": 80}]}
    meta = {"name": "web", "namespace": "default", "uid": "svc", "annotations": annotations}
    return {"metadata": meta, "spec": base | spec}


def pod(name: str, place: str) -> Object:
    addresses = [f"10.0.0.{name}", f"fd00::{name}"]
    status = {"phase": "Running", "podIP": addresses[0], "podIPs": [{"ip": ip} for ip in addresses]}
    status["conditions"] = [{"type": "Ready", "status": "True"}]
    return {
        "metadata": {"name": name, "namespace": "default", "uid": name},
        "spec": {"nodeName": place, "containers": []},
        "status": status,
    }


def make_plan(svc: Object, there: list[Object], hinting: Hinting) -> Any:
    pods = [pod("1", "a"), pod("2", "b")]
    planned, _ = plan(svc, pods, there, lambda name: node(name, "1"), 100, hinting)
    return planned


HALVES = {"a": 0.5, "b": 0.5}


def test_the_annotation_counts_more_than_traffic_distribution() -> None:
    svc = service(trafficDistribution="PreferSameNode")
    (made,) = make_plan(svc, [], Hinting(HALVES)).create
    assert [one["hints"] for one in made["endpoints"]] == [{"forZones": [{"name": zone}]} for zone in "ab"]


def test_events_when_hints_begin_and_end() -> None:
    began = make_plan(service(ipFamilies=["IPv4", "IPv6"]), [], Hinting(HALVES))
    assert began.hinted == {"IPv4": {"a": 1, "b": 1}, "IPv6": {"a": 1, "b": 1}}
    (notice,) = began.notices
    message = "Topology Aware Hints has been enabled, addressType: IPv4"
    assert (notice.type, notice.reason, notice.message) == ("Normal", "TopologyAwareHintsEnabled", message)

    there = [{**made, "metadata": {**made["metadata"], "name": made["addressType"]}} for made in began.create]
    both = service(ipFamilies=["IPv4", "IPv6"])
    again = make_plan(both, there, Hinting(HALVES, was_hinted=True))
    assert (again.create, again.update, again.delete, again.notices) == ([], [], [], [])

    lost = make_plan(both, there, Hinting(None, was_hinted=True))
    assert not lost.hinted
    assert [one["addressType"] for one in lost.update] == ["IPv4", "IPv6"]
    assert all("hints" not in one for found in lost.update for one in found["endpoints"])
    assert [notice.message for notice in lost.notices] == [f"{NO_FACTS}, addressType: {f}" for f in ("IPv4", "IPv6")]
    assert {(notice.type, notice.reason) for notice in lost.notices} == {("Warning", "TopologyAwareHintsDisabled")}

    ended = make_plan(service(None, ipFamilies=["IPv4", "IPv6"]), there, Hinting(HALVES, was_hinted=True))
    assert len(ended.update) == 2
    assert [notice.message for notice in ended.notices] == ["Topology Aware Hints has been disabled, addressType: IPv4"]


# With the controllers


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with Cluster(nodes=3) as cluster:
        yield cluster


def label(cluster: Cluster, zones: dict[str, str | None]) -> None:
    for name, zone in zones.items():
        cluster.patch("v1", "Node", name, {"metadata": {"labels": {topology.ZONE: zone}}}, namespace="")


def hints_of(cluster: Cluster) -> dict[str, str]:
    """Of each ready endpoint's node the zones that its hints name."""
    found = cluster.list(
        "discovery.k8s.io/v1", "EndpointSlice", "default", label_selector="kubernetes.io/service-name=web"
    )
    return {
        one["nodeName"]: written(one).partition(">")[2]
        for endpoint_slice in found
        for one in endpoint_slice["endpoints"] or ()
        if one["conditions"]["ready"]
    }


def reasons(cluster: Cluster) -> list[str]:
    found = [event for event in cluster.list("v1", "Event", "default") if event["involvedObject"]["kind"] == "Service"]
    return [event["reason"] for event in found]


def test_hints_follow_the_nodes(cluster: Cluster) -> None:
    cluster.wait_until(lambda: len(cluster.list("v1", "Node", "")) == 3)
    names = sorted(found["metadata"]["name"] for found in cluster.list("v1", "Node", ""))
    zones = dict(zip(names, "abc", strict=True))
    label(cluster, dict(zones))
    meta = {"name": "web", "namespace": "default", "annotations": {topology.MODE: "Auto"}}
    ports = [{"port": 80, "targetPort": 80}]
    cluster.create(
        {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": {"selector": {"app": "web"}, "ports": ports}}
    )
    labels = {"app": "web"}
    spec = {"containers": [{"name": "c", "image": "example"}]}
    template = {"metadata": {"labels": labels}, "spec": spec}
    cluster.create(
        {
            "apiVersion": "apps/v1",
            "kind": "DaemonSet",
            "metadata": {"name": "web", "namespace": "default"},
            "spec": {"selector": {"matchLabels": labels}, "template": template},
        }
    )
    cluster.wait_until(lambda: hints_of(cluster) == zones)
    assert "TopologyAwareHintsEnabled" in reasons(cluster)
    label(cluster, {names[0]: None})
    cluster.wait_until(lambda: hints_of(cluster) == dict.fromkeys(names, ""))
    cluster.wait_until(lambda: reasons(cluster)[-1] == "TopologyAwareHintsDisabled")
