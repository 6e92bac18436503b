"""A node dies and comes back, as users see it: pods leave and are replaced, and nothing is there twice."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.controllers.test_scenarios import condition, rolled_out, template, workload
from tiphys.api.object import Object
from tiphys.testing import Cluster

PREFERRED = {
    "preferredDuringSchedulingIgnoredDuringExecution": [
        {
            "weight": 100,
            "preference": {"matchExpressions": [{"key": "which", "operator": "In", "values": ["doomed"]}]},
        }
    ]
}


TOLERATED = 20
"""Seconds: users shorten the five minutes that are the default."""
UNREACHABLE = ("node.kubernetes.io/unreachable", "node.kubernetes.io/not-ready")


def tolerations(**seconds: int) -> list[Object]:
    return [{"key": key, "operator": "Exists", "effect": "NoExecute", **seconds} for key in UNREACHABLE]


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with Cluster(nodes=2) as made:
        made.run_for(1)
        made.add_node("doomed", labels={"which": "doomed"})
        made.run_for(2)
        yield made


def start(cluster: Cluster, kind: str, **spec: object) -> Object:
    """A workload of one pod on the node that is going to die, with a Service; returns the pod."""
    described = workload(kind, "web", replicas=1, **spec)
    described["spec"]["template"]["spec"] |= {
        "affinity": {"nodeAffinity": PREFERRED},
        "tolerations": tolerations(tolerationSeconds=TOLERATED),
    }
    cluster.create(described)
    ports = [{"port": 80, "targetPort": "http"}]
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "default"}}
    cluster.create({**service, "spec": {"selector": {"app": "web"}, "ports": ports}})
    (pod,) = cluster.wait_until(lambda: ready(cluster))
    assert pod["spec"]["nodeName"] == "doomed"
    return pod


def pods(cluster: Cluster) -> list[Object]:
    return cluster.list("v1", "Pod", "default")


def ready(cluster: Cluster) -> list[Object]:
    return [pod for pod in pods(cluster) if (condition(pod, "Ready") or {}).get("status") == "True"]


def uids(cluster: Cluster) -> set[str]:
    return {pod["metadata"]["uid"] for pod in pods(cluster)}


def ready_endpoints(cluster: Cluster) -> list[str]:
    """The nodes of the Service's endpoints that are ready."""
    everybody = cluster.list("discovery.k8s.io/v1", "EndpointSlice", "default")
    slices = [one for one in everybody if one["metadata"]["labels"]["kubernetes.io/service-name"] == "web"]
    return [
        endpoint["nodeName"]
        for slice_ in slices
        for endpoint in slice_.get("endpoints") or ()
        if endpoint["conditions"]["ready"]
    ]


def is_evicted(cluster: Cluster, uid: str) -> bool:
    return any(pod["metadata"]["uid"] == uid and "deletionTimestamp" in pod["metadata"] for pod in pods(cluster))


def test_endpoints_of_a_dead_node_leave_the_rules_before_its_pods_do(cluster: Cluster) -> None:
    pod = start(cluster, "Deployment")
    cluster.wait_until(lambda: ready_endpoints(cluster) == ["doomed"])
    cluster.stop_node("doomed")
    cluster.wait_until(lambda: ready_endpoints(cluster) == [], timeout=90)
    assert uids(cluster) == {pod["metadata"]["uid"]}, "its pod waits for the end of its toleration"
    cluster.wait_until(lambda: ready_endpoints(cluster) not in ([], ["doomed"]), timeout=200)


def test_a_deployments_pod_is_replaced_and_not_doubled_when_its_node_comes_back(cluster: Cluster) -> None:
    old = start(cluster, "Deployment")["metadata"]["uid"]
    cluster.stop_node("doomed")
    cluster.wait_until(lambda: [p for p in ready(cluster) if p["spec"]["nodeName"] != "doomed"], timeout=200)
    assert is_evicted(cluster, old), "nobody can say that it has ended"
    cluster.add_node("doomed", labels={"which": "doomed"})
    cluster.wait_until(lambda: old not in uids(cluster), timeout=90)
    for _ in range(10):
        cluster.run_for(3)
        assert len(pods(cluster)) == 1
    assert rolled_out(cluster, "web")
    assert ready(cluster)[0]["spec"]["nodeName"] != "doomed"


def test_a_stateful_sets_pod_is_never_there_twice(cluster: Cluster) -> None:
    old = start(cluster, "StatefulSet", serviceName="web")["metadata"]["uid"]
    cluster.stop_node("doomed")
    cluster.wait_until(lambda: is_evicted(cluster, old), timeout=200)
    for _ in range(20):
        cluster.run_for(6)
        assert uids(cluster) == {old}, "its successor waits until it is known to have ended"
    cluster.add_node("doomed", labels={"which": "doomed"})
    seen = [uids(cluster)]
    while not (ready(cluster) and old not in seen[-1]):
        assert len(seen) < 300
        cluster.run_for(0.5)
        seen.append(uids(cluster))
    assert all(len(there) <= 1 for there in seen)
    assert [pod["metadata"]["name"] for pod in ready(cluster)] == ["web-0"]


def test_a_node_that_is_out_of_service_gives_a_stateful_sets_pod_up(cluster: Cluster) -> None:
    old = start(cluster, "StatefulSet", serviceName="web")["metadata"]["uid"]
    cluster.stop_node("doomed")
    cluster.wait_until(lambda: is_evicted(cluster, old), timeout=200)
    taints = cluster.get("v1", "Node", "doomed")["spec"]["taints"]  # type: ignore[index]
    out = {"key": "node.kubernetes.io/out-of-service", "value": "nodeshutdown", "effect": "NoExecute"}
    cluster.patch("v1", "Node", "doomed", {"spec": {"taints": [*taints, out]}})
    cluster.wait_until(lambda: ready(cluster) and old not in uids(cluster), timeout=120)
    (pod,) = pods(cluster)
    assert (pod["metadata"]["name"], pod["spec"]["nodeName"] != "doomed") == ("web-0", True)


def test_a_pod_that_tolerates_a_node_that_is_gone_stays(cluster: Cluster) -> None:
    tolerating = template("stays")
    tolerating["spec"]["tolerations"] = tolerations()
    tolerating["spec"]["nodeSelector"] = {"which": "doomed"}
    cluster.create(
        {"apiVersion": "v1", "kind": "Pod", **tolerating, "metadata": {"name": "stays", "namespace": "default"}}
    )
    (pod,) = cluster.wait_until(lambda: ready(cluster))
    cluster.stop_node("doomed")
    cluster.wait_until(lambda: not ready(cluster), timeout=120)
    cluster.run_for(120)
    assert uids(cluster) == {pod["metadata"]["uid"]}
    assert not is_evicted(cluster, pod["metadata"]["uid"])
