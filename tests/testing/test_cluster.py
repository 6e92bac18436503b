"""The in-process cluster: store, API server, controllers, scheduler and nodes in one event loop, on virtual time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tiphys.client.errors import Forbidden
from tiphys.client.resources import CONFIG_MAPS, NAMESPACES, PODS
from tiphys.client.rest import Client
from tiphys.testing import Cluster, TimedOut


def deployment(replicas: int = 3, annotations: dict[str, str] | None = None) -> dict[str, Any]:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}, "annotations": annotations or {}},
                "spec": {"containers": [{"name": "httpd", "image": "httpd"}]},
            },
        },
    }


def running(cluster: Cluster) -> list[dict[str, Any]]:
    return cluster.list("v1", "Pod", phase="Running")


def test_a_deployments_pods_are_bound_and_run(tiphys_cluster: Cluster) -> None:
    tiphys_cluster.create(deployment())
    pods = tiphys_cluster.wait_until(lambda: len(found := running(tiphys_cluster)) == 3 and found)
    assert {p["spec"]["nodeName"] for p in pods} == {"node-0"}
    assert tiphys_cluster.clock.monotonic() < 5
    tiphys_cluster.wait_until(
        lambda: tiphys_cluster.get("apps/v1", "Deployment", "web")["status"].get("availableReplicas") == 3
    )


def test_an_hour_passes_and_changes_nothing(tiphys_cluster: Cluster) -> None:
    tiphys_cluster.create(deployment())
    tiphys_cluster.wait_until(lambda: len(running(tiphys_cluster)) == 3)
    before = {p["metadata"]["uid"] for p in running(tiphys_cluster)}
    started = tiphys_cluster.clock.now()
    tiphys_cluster.run_for(3600)
    assert tiphys_cluster.clock.now() == pytest.approx(started + 3600)
    assert {p["metadata"]["uid"] for p in running(tiphys_cluster)} == before
    lease = tiphys_cluster.get("coordination.k8s.io/v1", "Lease", "node-0", "kube-node-lease")
    assert lease is not None


def test_scaling_and_deleting(tiphys_cluster: Cluster) -> None:
    tiphys_cluster.create(deployment())
    tiphys_cluster.wait_until(lambda: len(running(tiphys_cluster)) == 3)
    tiphys_cluster.patch("apps/v1", "Deployment", "web", {"spec": {"replicas": 5}})
    tiphys_cluster.wait_until(lambda: len(running(tiphys_cluster)) == 5)
    tiphys_cluster.delete("apps/v1", "Deployment", "web")
    tiphys_cluster.wait_until(lambda: not tiphys_cluster.list("v1", "Pod"))
    assert tiphys_cluster.get("apps/v1", "Deployment", "web") is None


def test_a_dead_nodes_pods_move_to_another() -> None:
    with Cluster(nodes=2) as cluster:
        cluster.create(deployment(4))
        cluster.wait_until(lambda: len(running(cluster)) == 4)
        assert {p["spec"]["nodeName"] for p in running(cluster)} == {"node-0", "node-1"}
        cluster.stop_node("node-1")
        cluster.wait_until(
            lambda: (
                {p["spec"]["nodeName"] for p in running(cluster) if not p["metadata"].get("deletionTimestamp")}
                == {"node-0"}
            ),
            timeout=900,
        )


def test_a_node_is_added_with_its_labels() -> None:
    with Cluster(nodes=0) as cluster:
        cluster.create(deployment())
        cluster.run_for(5)
        assert running(cluster) == []
        cluster.add_node("late", labels={"disk": "ssd"}, capacity={"cpu": "2", "memory": "4Gi", "pods": "10"})
        pods = cluster.wait_until(lambda: len(found := running(cluster)) == 3 and found)
        assert {p["spec"]["nodeName"] for p in pods} == {"late"}
        assert cluster.list("v1", "Node", label_selector="disk=ssd")[0]["status"]["capacity"]["cpu"] == "2"


def test_a_pod_ends_as_its_annotations_say(tiphys_cluster: Cluster) -> None:
    annotations = {"tiphys.dev/run-seconds": "60", "tiphys.dev/exit-code": "3"}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "job", "annotations": annotations},
        "spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "x"}]},
    }
    tiphys_cluster.create(pod)
    tiphys_cluster.wait_until(lambda: tiphys_cluster.list("v1", "Pod", phase="Failed"), timeout=90)
    assert tiphys_cluster.clock.monotonic() >= 60


def test_the_same_seed_gives_the_same_cluster() -> None:
    def names(seed: int) -> set[str]:
        with Cluster(seed=seed) as cluster:
            cluster.create(deployment())
            cluster.wait_until(lambda: len(running(cluster)) == 3)
            return {p["metadata"]["name"] for p in running(cluster)}

    assert names(1) == names(1) != names(2)


def test_what_never_happens_times_out_in_cluster_time(tiphys_cluster: Cluster) -> None:
    with pytest.raises(TimedOut, match="within 600 s"):
        tiphys_cluster.wait_until(lambda: False, timeout=600)
    assert tiphys_cluster.clock.monotonic() >= 600


async def welcome(client: Client) -> None:
    """The operator of docs/testing.md."""
    async for event in client.watch(NAMESPACES):
        name = event.object["metadata"]["name"]
        await client.create(CONFIG_MAPS, {"metadata": {"name": "welcome"}}, namespace=name)


def test_an_operator_in_the_same_loop(tiphys_cluster: Cluster) -> None:
    client = tiphys_cluster.client_for("welcomer", "kubernetes-admin", ("system:masters", "system:authenticated"))
    task = tiphys_cluster.loop.create_task(welcome(client))
    tiphys_cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "new"}})
    tiphys_cluster.wait_until(lambda: tiphys_cluster.get("v1", "ConfigMap", "welcome", "new"))
    task.cancel()
    tiphys_cluster.run(asyncio.wait([task]))


def test_a_user_may_do_what_rbac_lets_it(tiphys_cluster: Cluster) -> None:
    nobody = tiphys_cluster.client_for("test", "nobody")
    with pytest.raises(Forbidden, match='User "nobody" cannot list resource "pods"'):
        tiphys_cluster.run(nobody.list(PODS, "default"))


def test_yaml_is_applied_and_the_server_tracks_who_set_what(tiphys_cluster: Cluster) -> None:
    (applied,) = tiphys_cluster.apply("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {a: '1'}\n")
    assert applied["metadata"]["managedFields"][0]["operation"] == "Apply"


def test_a_kind_that_is_not_served_is_named(tiphys_cluster: Cluster) -> None:
    with pytest.raises(LookupError, match="'Gadget'"):
        tiphys_cluster.get("v1", "Gadget", "x")


def test_a_timeout_shows_what_is_not_ready_and_the_last_events() -> None:
    with Cluster(nodes=0) as cluster:
        cluster.create(deployment(1))
        with pytest.raises(TimedOut) as timed_out:
            cluster.wait_until(lambda: running(cluster), timeout=5)
        assert "it last gave []" in str(timed_out.value)
        assert "PodScheduled: no nodes available to schedule pods" in str(timed_out.value)
        assert "event Deployment web: ScalingReplicaSet: Scaled up replica set" in str(timed_out.value)
        made = cluster.get("apps/v1", "Deployment", "web")
        assert made is not None
        assert [event["reason"] for event in cluster.events(made)] == ["ScalingReplicaSet"]
