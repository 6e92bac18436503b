"""The decisions of the cloud's controllers, as tables; the cases are those of upstream's unit tests."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest

from tiphys.api.meta.copying import copy
from tiphys.api.object import Object
from tiphys.cloud import routing, services
from tiphys.cloud.addresses import PROVIDED_NODE_IP, node_addresses
from tiphys.cloud.controllers.node import initialized, renewed_labels
from tiphys.cloud.provider import CloudError, InstanceMetadata, Route, load_balancer_name


def address(kind: str, text: str) -> Object:
    return {"type": kind, "address": text}


INTERNAL, SECOND = address("InternalIP", "10.0.0.1"), address("InternalIP", "10.0.0.2")
EXTERNAL, HOST = address("ExternalIP", "132.143.154.163"), address("Hostname", "node0")


def node(
    name: str = "n", *, annotations: Object | None = None, shown: list[Object] | None = None, **spec: Any
) -> Object:
    return {
        "metadata": {"name": name, "uid": f"uid-{name}", "annotations": annotations or {}, "labels": {}},
        "spec": spec,
        "status": {"addresses": shown or []},
    }


@pytest.mark.parametrize(
    ("provided", "shown", "known", "wanted"),
    [
        (None, [], [INTERNAL, EXTERNAL, HOST], [INTERNAL, EXTERNAL, HOST]),
        (None, [HOST], [INTERNAL], [INTERNAL, HOST]),
        ("10.0.0.2", [], [INTERNAL, SECOND, EXTERNAL], [SECOND, EXTERNAL]),
        ("132.143.154.163", [], [INTERNAL, EXTERNAL], [EXTERNAL, INTERNAL]),
        ("10.0.0.1,10.0.0.2", [], [SECOND, INTERNAL], [INTERNAL, SECOND]),
        ("10.0.0.9", [], [INTERNAL], "failed to get node address from cloud provider that matches ip: 10.0.0.9"),
        ("garbage", [], [INTERNAL], 'failed to parse node IP "garbage"'),
    ],
)
def test_addresses(provided: str | None, shown: list[Object], known: list[Object], wanted: list[Object] | str) -> None:
    annotations = {} if provided is None else {PROVIDED_NODE_IP: provided}
    made = node(annotations=annotations, shown=shown)
    if isinstance(wanted, str):
        with pytest.raises(CloudError, match=wanted):
            node_addresses(made, known)
    else:
        assert node_addresses(made, known) == wanted


def test_a_node_is_completed_and_keeps_what_it_says_itself() -> None:
    taints = [
        {"key": "node.cloudprovider.kubernetes.io/uninitialized", "effect": "NoSchedule"},
        {"key": "mine", "effect": "NoSchedule"},
    ]
    waiting = node(taints=taints)
    waiting["metadata"]["labels"] = {"rack": "7"}
    before = copy(waiting)
    labels = {"rack": "8", "color": "red", "foo.kubernetes.io/x": "1", "k8s.io/y": "2", "notk8s.io/z": "3"}
    made = initialized(waiting, InstanceMetadata("c://1", "large", (), "z", "r", labels))
    assert made["spec"] == {"taints": [{"key": "mine", "effect": "NoSchedule"}], "providerID": "c://1"}
    assert made["metadata"]["labels"] == {
        "rack": "7",
        "color": "red",
        "notk8s.io/z": "3",
        "beta.kubernetes.io/instance-type": "large",
        "node.kubernetes.io/instance-type": "large",
        "failure-domain.beta.kubernetes.io/zone": "z",
        "topology.kubernetes.io/zone": "z",
        "failure-domain.beta.kubernetes.io/region": "r",
        "topology.kubernetes.io/region": "r",
    }
    assert waiting == before


def test_a_provider_id_is_never_changed_and_never_missing() -> None:
    assert initialized(node(providerID="c://old"), InstanceMetadata("c://new"))["spec"]["providerID"] == "c://old"
    with pytest.raises(CloudError, match="cloud provider does not set node provider ID for node n"):
        initialized(node(), InstanceMetadata(""))


def test_labels_follow_those_of_older_names() -> None:
    labelled = node()
    labelled["metadata"]["labels"] = {
        "failure-domain.beta.kubernetes.io/zone": "a",
        "topology.kubernetes.io/zone": "b",
        "failure-domain.beta.kubernetes.io/region": "r",
        "node.kubernetes.io/instance-type": "kept",
    }
    assert renewed_labels(labelled) == {"topology.kubernetes.io/zone": "a", "topology.kubernetes.io/region": "r"}


# Services


def service(**spec: Any) -> Object:
    ports = [{"name": "p", "protocol": "TCP", "port": 80, "targetPort": 8080, "nodePort": 30080}]
    return {
        "metadata": {"name": "s", "namespace": "default", "uid": "1-2"},
        "spec": {"type": "LoadBalancer", "ports": ports, **spec},
    }


def changed(**spec: Any) -> Object:
    return service(**spec)


@pytest.mark.parametrize(
    ("new", "answer"),
    [
        (service(), False),
        (changed(type="ClusterIP"), True),
        (changed(loadBalancerClass="other"), True),
        (changed(loadBalancerSourceRanges=["10.0.0.0/8"]), True),
        (changed(sessionAffinity="ClientIP"), True),
        (changed(sessionAffinityConfig={"clientIP": {"timeoutSeconds": 9}}), True),
        (changed(loadBalancerIP="1.2.3.4"), True),
        (changed(externalIPs=["1.2.3.4"]), True),
        (changed(externalIPs=[]), False),
        (changed(externalTrafficPolicy="Local"), True),
        (changed(healthCheckNodePort=30001), True),
        (changed(ipFamilies=["IPv4", "IPv6"]), True),
        (changed(ports=[{"name": "p", "protocol": "TCP", "port": 81, "targetPort": 8080, "nodePort": 30080}]), True),
        (changed(ports=[{"name": "q", "protocol": "TCP", "port": 80, "targetPort": 8080, "nodePort": 30080}]), True),
        (changed(ports=[{"name": "p", "protocol": "TCP", "port": 80, "targetPort": 8081, "nodePort": 30080}]), True),
        (changed(ports=[]), True),
        (changed(selector={"a": "b"}), False),
        (service() | {"metadata": {**service()["metadata"], "annotations": {"a": "b"}}}, True),
        (service() | {"metadata": {**service()["metadata"], "labels": {"a": "b"}}}, False),
        (service() | {"metadata": {**service()["metadata"], "uid": "other"}}, True),
    ],
)
def test_what_is_news_to_a_load_balancer(new: Object, answer: bool) -> None:
    assert services.needs_update(service(), new) is answer
    assert services.needs_update(new, service()) is answer


def test_what_never_was_one_is_no_news() -> None:
    assert not services.needs_update(service(type="ClusterIP"), service(type="NodePort"))


@pytest.mark.parametrize(
    ("finalizers", "deleting", "type_", "answer"),
    [
        ([], False, "LoadBalancer", False),
        ([], True, "LoadBalancer", False),
        ([services.FINALIZER], False, "LoadBalancer", False),
        ([services.FINALIZER], True, "LoadBalancer", True),
        ([services.FINALIZER], False, "NodePort", True),
        ([services.FINALIZER, "other"], True, "NodePort", True),
        (["other"], True, "NodePort", False),
    ],
)
def test_cleanup(finalizers: list[str], deleting: bool, type_: str, answer: bool) -> None:
    made = service(type=type_)
    made["metadata"]["finalizers"] = finalizers
    if deleting:
        made["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert services.needs_cleanup(made) is answer


@pytest.mark.parametrize(
    ("text", "answer"), [(None, True), ("", False), ("true", False), ("false", True), ("0", True), ("garbage", False)]
)
def test_nodes_that_load_balancers_leave_out(text: str | None, answer: bool) -> None:
    made = node()
    if text is not None:
        made["metadata"]["labels"][services.EXCLUDED] = text
    assert (services.backends([made]) == [made]) is answer


def test_nodes_that_leave_get_no_traffic() -> None:
    leaving, deleted = node(taints=[{"key": services.LEAVING_TAINT}]), node("d")
    deleted["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    not_ready = node("r")
    not_ready["status"]["conditions"] = [{"type": "Ready", "status": "False"}]
    assert services.backends([leaving, deleted, not_ready]) == [not_ready]
    assert services.same_backends([node("a"), node("b")], [node("b"), node("a")])
    assert not services.same_backends([node("a")], [node("a", providerID="x://1")])


def test_the_name_of_a_load_balancer() -> None:
    assert load_balancer_name({"metadata": {"uid": "0123-4567" * 9}}) == "a" + "01234567" * 3 + "0123456"


# Routes

CLUSTER = [ipaddress.ip_network("10.120.0.0/16"), ipaddress.ip_network("fd00::/32")]


def routed(name: str, *cidrs: str) -> Object:
    return node(name, podCIDRs=list(cidrs), shown=[INTERNAL])


def route(name: str, cidr: str, **more: Any) -> Route:
    return Route(f"r-{name}", name, cidr, **more)


@pytest.mark.parametrize(
    ("nodes", "routes", "deleted", "created"),
    [
        ([routed("a", "10.120.0.0/24")], [route("a", "10.120.0.0/24")], [], []),
        ([routed("a", "10.120.0.0/24")], [], [], [("a", "10.120.0.0/24")]),
        ([routed("a", "10.120.0.0/24", "fd00::/64")], [route("a", "10.120.0.0/24")], [], [("a", "fd00::/64")]),
        ([routed("a")], [route("a", "10.120.0.0/24")], ["10.120.0.0/24"], []),
        ([], [route("gone", "10.120.0.0/24")], ["10.120.0.0/24"], []),
        (
            [routed("a", "10.120.1.0/24")],
            [route("a", "10.120.0.0/24")],
            ["10.120.0.0/24"],
            [("a", "10.120.1.0/24")],
        ),
        ([routed("a", "10.120.0.0/24")], [route("a", "10.120.0.0/24", addresses=[INTERNAL])], [], []),
        (
            [routed("a", "10.120.0.0/24")],
            [route("a", "10.120.0.0/24", addresses=[SECOND])],
            ["10.120.0.0/24"],
            [("a", "10.120.0.0/24")],
        ),
        (
            [routed("a", "10.120.0.0/24")],
            [route("", "10.120.0.0/24", blackhole=True)],
            ["10.120.0.0/24"],
            [("a", "10.120.0.0/24")],
        ),
        ([], [route("x", "0.0.0.0/0"), route("y", "192.168.0.0/24"), route("z", "nonsense")], [], []),
    ],
)
def test_routes(nodes: list[Object], routes: list[Route], deleted: list[str], created: list[tuple[str, str]]) -> None:
    made = routing.plan(nodes, routes, CLUSTER)
    assert [one.cidr for one in made.delete] == deleted
    assert [(one.node, one.cidr) for _, one in made.create] == created
    assert all(hint == f"uid-{one.node}" for hint, one in made.create)
