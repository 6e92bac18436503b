"""Routes to the pods of other nodes: what is wanted, and the way there from what is present."""

from __future__ import annotations

from typing import Any

from tiphys.proxy.podnetwork.routes import commands, pod_ranges, wanted


def node(name: str, address: str, *ranges: str) -> dict[str, Any]:
    return {
        "metadata": {"name": name},
        "spec": {"podCIDRs": list(ranges)},
        "status": {"addresses": [{"type": "Hostname", "address": name}, {"type": "InternalIP", "address": address}]},
    }


ONE = node("one", "192.0.2.2", "10.244.0.0/24")
TWO = node("two", "10.243.0.2", "10.244.1.0/24")
THREE = node("three", "10.243.0.3", "10.244.2.0/24")
WIRE = "10.243.0.1/24"


def test_each_other_node_on_the_wire_gets_a_route_to_its_pods() -> None:
    assert wanted([ONE, TWO, THREE], "one", [WIRE]) == {"10.244.1.0/24": "10.243.0.2", "10.244.2.0/24": "10.243.0.3"}


def test_a_node_behind_a_router_is_left_to_the_default_route() -> None:
    assert wanted([ONE, TWO, THREE], "two", [WIRE]) == {"10.244.2.0/24": "10.243.0.3"}


def test_a_node_without_range_or_address_gets_none() -> None:
    bare = {"metadata": {"name": "bare"}}
    assert pod_ranges(bare) == ()
    assert wanted([bare, node("two", "10.243.0.2"), {**TWO, "status": {}}], "one", [WIRE]) == {}


def test_only_what_differs_is_changed() -> None:
    present = {"10.244.1.0/24": "10.243.0.2", "10.244.7.0/24": "10.243.0.7", "10.244.2.0/24": "10.243.0.9"}
    batch = commands(present, wanted([ONE, TWO, THREE], "one", [WIRE]))
    assert batch == [
        "route delete 10.244.7.0/24 proto 85",
        "route replace 10.244.2.0/24 via 10.243.0.3 proto 85",
    ]
    assert commands({"10.244.1.0/24": "10.243.0.2"}, {"10.244.1.0/24": "10.243.0.2"}) == []
