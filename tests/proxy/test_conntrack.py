"""Which tracked flows are stale: upstream's ``TestCleanStaleEntries`` and ``TestServiceWithoutEndpoints``."""

from __future__ import annotations

from typing import Any

import pytest

from tests.proxy.objects import endpoint, service, slice_of, state_of
from tiphys.proxy.conntrack import Flow, parse, stale
from tiphys.proxy.state import ServiceState

CLUSTER, BALANCER, EXTERNAL = "172.30.1.1", "192.168.0.1", "203.0.113.1"
NODE = "192.168.50.1"
SERVING, NOT_SERVING, DELETED = "10.240.0.4", "10.240.1.5", "10.240.2.6"
PORT, OTHER_PORT, NODE_PORT = 8000, 9000, 32000
TARGET, OLD_TARGET = 8080, 5000


def state(*endpoints: dict[str, Any]) -> ServiceState:
    ports = [
        {"name": protocol.lower(), "port": PORT, "protocol": protocol, **more}
        for protocol, more in (("TCP", {}), ("UDP", {"nodePort": NODE_PORT}), ("SCTP", {"nodePort": NODE_PORT}))
    ]
    svc = service(
        cluster_ip=CLUSTER,
        type="LoadBalancer",
        externalIPs=[EXTERNAL],
        status={"loadBalancer": {"ingress": [{"ip": BALANCER}]}},
    )
    svc["spec"]["ports"] = ports
    described = slice_of(*endpoints)
    described["ports"] = [{"name": p["name"], "port": TARGET, "protocol": p["protocol"]} for p in ports]
    return state_of(svc, described)


STATE = state(endpoint(SERVING), endpoint(NOT_SERVING, ready=False, serving=False))


def flow(destination: str, port: int, answers: str, answers_port: int = TARGET) -> Flow:
    return Flow("10.0.0.9", 40000, destination, port, answers, answers_port)


@pytest.mark.parametrize("destination", [CLUSTER, BALANCER, EXTERNAL])
@pytest.mark.parametrize(
    ("port", "answers", "answers_port", "expected"),
    [
        (PORT, SERVING, TARGET, False),
        (PORT, SERVING, OLD_TARGET, True),
        (PORT, NOT_SERVING, TARGET, True),
        (PORT, DELETED, TARGET, True),
        (OTHER_PORT, SERVING, TARGET, False),
        (OTHER_PORT, NOT_SERVING, TARGET, False),
        (OTHER_PORT, DELETED, TARGET, False),
    ],
)
def test_flows_to_a_services_addresses(
    destination: str, port: int, answers: str, answers_port: int, expected: bool
) -> None:
    tracked = flow(destination, port, answers, answers_port)
    assert stale([tracked], [STATE]) == ([tracked] if expected else [])


@pytest.mark.parametrize("destination", [CLUSTER, BALANCER, EXTERNAL])
@pytest.mark.parametrize(("port", "expected"), [(PORT, True), (OTHER_PORT, False)])
def test_a_flow_that_was_led_nowhere(destination: str, port: int, expected: bool) -> None:
    """From before there were rules: whoever was asked answers."""
    tracked = flow(destination, port, destination, 0)
    assert bool(stale([tracked], [STATE])) is expected


@pytest.mark.parametrize(("answers", "expected"), [(SERVING, False), (NOT_SERVING, True), (DELETED, True)])
def test_flows_to_a_node_port(answers: str, expected: bool) -> None:
    assert bool(stale([flow(NODE, NODE_PORT, answers)], [STATE])) is expected


def test_a_service_without_serving_endpoints_keeps_its_flows() -> None:
    tracked = [flow(EXTERNAL, PORT, SERVING), flow(EXTERNAL, PORT, DELETED)]
    for endpoints in ((), (endpoint(NOT_SERVING, ready=False, serving=False),)):
        assert stale(tracked, [state(*endpoints)]) == []


def test_the_listing_has_both_directions() -> None:
    line = (
        "udp 17 25 src=10.0.0.9 dst=172.30.1.1 sport=40000 dport=8000 "
        "src=10.240.0.4 dst=10.0.0.9 sport=8080 dport=40000 [ASSURED] mark=0 use=1\n"
        "icmp 1 29 src=10.0.0.9 dst=10.0.0.1 type=8 code=0 id=1 src=10.0.0.1 dst=10.0.0.9 type=0 code=0 id=1\n"
    )
    assert list(parse(line)) == [flow(CLUSTER, PORT, SERVING)]
