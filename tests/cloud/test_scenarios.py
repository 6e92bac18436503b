"""The cloud controller manager at work: against the real API server, in one event loop, on virtual time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.cloud.simulated import SimulatedCloud
from tiphys.api.object import Object
from tiphys.cloud.context import CloudConfig
from tiphys.cloud.manager import CloudControllerManager
from tiphys.cloud.provider import CloudError, ImplementedElsewhere, RetryAfter, Route
from tiphys.cloud.services import EXCLUDED, FINALIZER
from tiphys.testing import Cluster

UNINITIALIZED = {"key": "node.cloudprovider.kubernetes.io/uninitialized", "value": "true", "effect": "NoSchedule"}
SHUTDOWN = {"key": "node.cloudprovider.kubernetes.io/shutdown", "effect": "NoSchedule"}
CONFIG = CloudConfig(allocate_node_cidrs=True, cluster_cidrs=("10.244.0.0/16",))


@pytest.fixture
def cloud() -> SimulatedCloud:
    return SimulatedCloud()


@pytest.fixture
def cluster(cloud: SimulatedCloud) -> Iterator[Cluster]:
    with Cluster(nodes=0) as made:
        client = made.client_for("cloud-controller-manager", "cloud", ("system:masters",))
        made.start_controller(
            lambda context: CloudControllerManager(config=CONFIG, cloud=cloud, client=client, clock=context.clock)
        )
        yield made


def node(name: str, *, taints: list[Object] | None = None, ready: str = "True", **spec: Any) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name},
        "spec": {"taints": taints or [], **spec},
        "status": {
            "conditions": [{"type": "Ready", "status": ready}],
            "addresses": [{"type": "Hostname", "address": name}],
        },
    }


def service(name: str, **spec: Any) -> Object:
    wanted = {"type": "LoadBalancer", "selector": {"app": name}, "ports": [{"port": 80}], **spec}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "default"}, "spec": wanted}


def add(cluster: Cluster, obj: Object) -> None:
    """Create a node with its status, which creation alone does not set."""
    made = cluster.create(obj)
    patch = {"status": obj["status"]}
    client = cluster.client_for("kubelet", "admin", ("system:masters",))
    cluster.run(client.patch(cluster.path("v1", "Node"), made["metadata"]["name"], patch, subresource="status"))


def spec_of(cluster: Cluster, name: str) -> Object:
    found = cluster.get("v1", "Node", name, "")
    return {} if found is None else dict(found["spec"])


def taints(cluster: Cluster, name: str) -> list[str]:
    return [taint["key"] for taint in spec_of(cluster, name).get("taints") or []]


def reasons(cluster: Cluster, obj: Object) -> list[str]:
    return [event["reason"] for event in cluster.events(obj)]


def shown(cluster: Cluster, name: str) -> list[Object]:
    found = cluster.get("v1", "Service", name)
    assert found is not None
    return list(((found.get("status") or {}).get("loadBalancer") or {}).get("ingress") or [])


# Nodes


def test_a_new_node_waits_until_the_cloud_has_said_what_it_is(cluster: Cluster, cloud: SimulatedCloud) -> None:
    add(cluster, node("one", taints=[UNINITIALIZED]))
    cluster.run_for(5)
    assert UNINITIALIZED["key"] in taints(cluster, "one")  # there is no such machine yet
    cloud.add_machine("one", 7, rack="3")
    cluster.wait_until(lambda: UNINITIALIZED["key"] not in taints(cluster, "one"), 120)
    made = cluster.get("v1", "Node", "one", "")
    assert made is not None
    assert made["spec"]["providerID"] == "simulated://one"
    labels = made["metadata"]["labels"]
    assert (labels["topology.kubernetes.io/zone"], labels["topology.kubernetes.io/region"]) == ("zone-1", "region-1")
    assert (labels["node.kubernetes.io/instance-type"], labels["rack"]) == ("small", "3")
    internal, hostname = {"type": "InternalIP", "address": "192.0.2.7"}, {"type": "Hostname", "address": "one"}
    cluster.wait_until(lambda: cluster.get("v1", "Node", "one", "")["status"]["addresses"] == [internal, hostname])  # type: ignore[index]
    cluster.wait_until(lambda: "Synced" in reasons(cluster, made))


def test_addresses_are_followed_and_one_machines_trouble_is_its_own(cluster: Cluster, cloud: SimulatedCloud) -> None:
    for number, name in enumerate(("a", "b"), 1):
        cloud.add_machine(name, number)
        add(cluster, node(name, taints=[UNINITIALIZED]))
    cluster.wait_until(lambda: not {UNINITIALIZED["key"]} & {*taints(cluster, "a"), *taints(cluster, "b")})
    del cloud.machines["a"]
    cloud.add_machine("b", 9)

    def addresses() -> list[str]:
        found = cluster.get("v1", "Node", "b", "")
        assert found is not None
        return [entry["address"] for entry in found["status"]["addresses"]]

    cluster.wait_until(lambda: addresses() == ["192.0.2.9", "b"], 400)


def test_a_node_without_a_machine_is_deleted_unless_it_is_ready(cluster: Cluster, cloud: SimulatedCloud) -> None:
    add(cluster, node("ready"))
    add(cluster, node("silent", ready="Unknown"))
    add(cluster, node("kept", ready="Unknown"))
    cloud.add_machine("kept")
    cluster.wait_until(lambda: cluster.get("v1", "Node", "silent", "") is None)
    cluster.run_for(30)
    assert cluster.get("v1", "Node", "ready", "") is not None
    assert cluster.get("v1", "Node", "kept", "") is not None


def test_a_cloud_that_fails_deletes_nothing(cluster: Cluster, cloud: SimulatedCloud) -> None:
    cloud.failures["exists"] = CloudError("timeout")
    add(cluster, node("silent", ready="Unknown"))
    cluster.run_for(60)
    assert cluster.get("v1", "Node", "silent", "") is not None


def test_a_machine_that_is_shut_down_is_marked_until_it_is_back(cluster: Cluster, cloud: SimulatedCloud) -> None:
    cloud.add_machine("n").shut_down = True
    add(cluster, node("n", ready="Unknown", taints=[{"key": "mine", "effect": "NoSchedule"}]))
    cluster.wait_until(lambda: SHUTDOWN["key"] in taints(cluster, "n"))
    assert "mine" in taints(cluster, "n")
    client = cluster.client_for("kubelet", "admin", ("system:masters",))
    patch = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
    cluster.run(client.patch(cluster.path("v1", "Node"), "n", patch, subresource="status"))
    cluster.wait_until(lambda: SHUTDOWN["key"] not in taints(cluster, "n"))
    assert "mine" in taints(cluster, "n")


# Services


def test_the_life_of_a_load_balancer(cluster: Cluster, cloud: SimulatedCloud) -> None:
    add(cluster, node("one"))
    made = cluster.create(service("web"))
    cluster.wait_until(lambda: shown(cluster, "web") == [{"ip": "203.0.113.1", "ipMode": "VIP"}])
    assert FINALIZER in cluster.get("v1", "Service", "web")["metadata"]["finalizers"]  # type: ignore[index]
    ((_, backends),) = cloud.balancers.values()
    assert backends == ["one"]
    add(cluster, node("two"))
    cluster.wait_until(lambda: [names for _, names in cloud.balancers.values()] == [["one", "two"]])
    cluster.patch("v1", "Node", "one", {"metadata": {"labels": {EXCLUDED: ""}}}, "")
    cluster.wait_until(lambda: [names for _, names in cloud.balancers.values()] == [["two"]])
    cluster.patch("v1", "Service", "web", {"spec": {"loadBalancerIP": "203.0.113.9"}})
    cluster.wait_until(lambda: shown(cluster, "web")[0]["ip"] == "203.0.113.9")
    before = list(cloud.calls)
    cluster.patch("v1", "Service", "web", {"metadata": {"labels": {"x": "y"}}})
    cluster.run_for(60)
    assert [call for call in cloud.calls[len(before) :] if call[1] == "web"] == []  # no news to it
    cluster.delete("v1", "Service", "web")
    cluster.wait_until(lambda: cluster.get("v1", "Service", "web") is None)
    assert cloud.balancers == {}
    cluster.wait_until(lambda: "DeletedLoadBalancer" in reasons(cluster, made))
    assert [*dict.fromkeys(reasons(cluster, made))][:2] == ["EnsuringLoadBalancer", "EnsuredLoadBalancer"]


def test_a_service_of_another_type_loses_its_load_balancer(cluster: Cluster, cloud: SimulatedCloud) -> None:
    cluster.create(service("web"))
    cluster.wait_until(lambda: shown(cluster, "web"))
    cluster.patch("v1", "Service", "web", {"spec": {"type": "NodePort"}})
    cluster.wait_until(lambda: not cloud.balancers and not shown(cluster, "web"))
    cluster.wait_until(lambda: not cluster.get("v1", "Service", "web")["metadata"].get("finalizers"))  # type: ignore[index]


def test_a_class_of_somebody_elses_is_left_alone(cluster: Cluster, cloud: SimulatedCloud) -> None:
    cluster.create(service("web", loadBalancerClass="example.com/lb"))
    cluster.run_for(30)
    assert cloud.balancers == {}
    assert not [call for call in cloud.calls if call[1] == "web"]


def test_what_the_cloud_cannot_do_is_said_and_tried_again(cluster: Cluster, cloud: SimulatedCloud) -> None:
    cloud.failures["ensure"] = CloudError("quota exceeded")
    made = cluster.create(service("web"))
    other = cluster.create(service("other", type="ClusterIP"))
    cluster.wait_until(lambda: "SyncLoadBalancerFailed" in reasons(cluster, made))
    (text,) = {e["message"] for e in cluster.events(made) if e["reason"] == "SyncLoadBalancerFailed"}
    assert text == "Error syncing load balancer: failed to ensure load balancer: quota exceeded"
    del cloud.failures["ensure"]
    cluster.wait_until(lambda: shown(cluster, "web"), 400)
    assert reasons(cluster, other) == []


def test_a_cloud_that_says_when_is_asked_then(cluster: Cluster, cloud: SimulatedCloud) -> None:
    cloud.failures["ensure"] = RetryAfter("being made", 100)
    cluster.create(service("web"))
    cluster.run_for(95)
    assert cloud.calls.count(("ensure", "web")) == 1
    del cloud.failures["ensure"]
    cluster.run_for(10)
    assert cloud.calls.count(("ensure", "web")) == 2
    cluster.wait_until(lambda: shown(cluster, "web"))


def test_what_is_made_elsewhere_is_not_shown_here(cluster: Cluster, cloud: SimulatedCloud) -> None:
    cloud.failures["ensure"] = ImplementedElsewhere("by another controller")
    made = cluster.create(service("web"))
    cluster.wait_until(lambda: ("ensure", "web") in cloud.calls)
    cluster.run_for(20)
    assert shown(cluster, "web") == []
    assert "SyncLoadBalancerFailed" not in reasons(cluster, made)


def test_a_service_without_its_finalizer_leaves_no_load_balancer(cluster: Cluster, cloud: SimulatedCloud) -> None:
    cluster.create(service("web"))
    cluster.wait_until(lambda: shown(cluster, "web"))
    cluster.patch("v1", "Service", "web", {"metadata": {"finalizers": None}})
    cluster.delete("v1", "Service", "web")
    cluster.wait_until(lambda: not cloud.balancers)


# Routes


def test_routes_follow_the_nodes_and_nodes_say_so(cluster: Cluster, cloud: SimulatedCloud) -> None:
    cloud.table = [Route("old", "gone", "10.244.9.0/24"), Route("default", "", "0.0.0.0/0")]
    add(cluster, node("one", podCIDRs=["10.244.1.0/24"], podCIDR="10.244.1.0/24"))
    cluster.wait_until(lambda: {route.cidr for route in cloud.table} == {"10.244.1.0/24", "0.0.0.0/0"})

    def condition() -> tuple[str, str]:
        found = cluster.get("v1", "Node", "one", "")
        assert found is not None
        return next(
            ((c["status"], c["reason"]) for c in found["status"]["conditions"] if c["type"] == "NetworkUnavailable"),
            ("", ""),
        )

    cluster.wait_until(lambda: condition() == ("False", "RouteCreated"))
    cloud.table.clear()
    cloud.failures["create_route"] = CloudError("no room")
    cluster.wait_until(lambda: condition() == ("True", "NoRouteCreated"))
    del cloud.failures["create_route"]
    cluster.wait_until(lambda: condition() == ("False", "RouteCreated"))
