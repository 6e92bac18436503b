"""The controllers at work: against the real API server, in one event loop, on virtual time, with simulated nodes."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest

from tiphys.api.object import Object
from tiphys.apiserver.config import Config as APIServerConfig
from tiphys.client.errors import Conflict, NotFound
from tiphys.client.resources import DEPLOYMENTS, NAMESPACES, PODS, SECRETS, ResourcePath
from tiphys.client.rest import Client
from tiphys.controllers.nodes.lifecycle.tainter import ZoneQueue
from tiphys.testing import Cluster


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with Cluster(nodes=2) as cluster:
        yield cluster


def template(app: str, seconds: int | None = None, exit_code: int = 0, restart: str = "Always") -> Object:
    annotations = {}
    if seconds is not None:
        annotations = {"tiphys.dev/run-seconds": str(seconds), "tiphys.dev/exit-code": str(exit_code)}
    return {
        "metadata": {"labels": {"app": app}, "annotations": annotations},
        "spec": {
            "containers": [{"name": "c", "image": "example", "ports": [{"containerPort": 80, "name": "http"}]}],
            "restartPolicy": restart,
            "terminationGracePeriodSeconds": 5,
        },
    }


def workload(kind: str, name: str, **spec: Any) -> Object:
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"selector": {"matchLabels": {"app": name}}, "template": template(name), **spec},
    }


def names(cluster: Cluster, api_version: str, kind: str, namespace: str = "default") -> list[str]:
    return sorted(found["metadata"]["name"] for found in cluster.list(api_version, kind, namespace))


def events(cluster: Cluster, kind: str, name: str) -> list[tuple[str, str]]:
    found = cluster.list("v1", "Event", "")
    about = [event for event in found if event["involvedObject"]["kind"] == kind]
    return [(event["reason"], event["message"]) for event in about if event["involvedObject"]["name"] == name]


def rolled_out(cluster: Cluster, name: str) -> bool:
    found = cluster.get("apps/v1", "Deployment", name)
    assert found is not None
    status, wanted = found.get("status", {}), found["spec"]["replicas"]
    return (
        status.get("observedGeneration") == found["metadata"]["generation"]
        and all(status.get(f, 0) == wanted for f in ("replicas", "updatedReplicas", "availableReplicas"))
        and not status.get("terminatingReplicas")
    )


def deploy(cluster: Cluster, name: str = "web", **spec: Any) -> None:
    cluster.create(workload("Deployment", name, **spec))
    cluster.wait_until(lambda: rolled_out(cluster, name))


def condition(obj: Object | None, type_: str) -> Object | None:
    assert obj is not None
    found = obj.get("status", {}).get("conditions", [])
    return next((condition for condition in found if condition["type"] == type_), None)


def add_node(cluster: Cluster, name: str, **options: Any) -> Any:
    async def add() -> Any:
        return cluster.add_node(name, **options)

    return cluster.run(add())


# Deployments


def test_a_deployment_is_rolled_out_scaled_updated_and_undone(cluster: Cluster) -> None:
    deploy(cluster, replicas=3)
    (first,) = cluster.list("apps/v1", "ReplicaSet", "default")
    assert first["metadata"]["name"].startswith("web-")
    assert first["metadata"]["labels"]["pod-template-hash"] in first["metadata"]["name"]
    for replicas in (5, 2):
        cluster.patch("apps/v1", "Deployment", "web", {"spec": {"replicas": replicas}})
        cluster.wait_until(lambda: rolled_out(cluster, "web"))
    assert len(cluster.list("v1", "Pod", "default")) == 2
    change = {"spec": {"template": {"metadata": {"labels": {"version": "2"}}}}}
    cluster.patch("apps/v1", "Deployment", "web", change)
    cluster.wait_until(lambda: rolled_out(cluster, "web"))
    found = cluster.get("apps/v1", "Deployment", "web")
    assert found is not None
    assert found["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "2"
    progressing = condition(found, "Progressing")
    assert progressing is not None
    assert progressing["reason"] == "NewReplicaSetAvailable"
    # kubectl rollout undo writes the old template back: the old ReplicaSet is found again, as revision 3
    cluster.patch("apps/v1", "Deployment", "web", {"spec": {"template": {"metadata": {"labels": {"version": None}}}}})
    cluster.wait_until(lambda: rolled_out(cluster, "web"))
    again = cluster.get("apps/v1", "ReplicaSet", first["metadata"]["name"])
    assert again is not None
    assert again["spec"]["replicas"] == 2
    assert again["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "3"
    assert again["metadata"]["annotations"]["deployment.kubernetes.io/revision-history"] == "1"
    told = [message for reason, message in events(cluster, "Deployment", "web") if reason == "ScalingReplicaSet"]
    assert f"Scaled up replica set {first['metadata']['name']} from 0 to 3" in told


def test_a_rolling_update_keeps_its_bounds(cluster: Cluster) -> None:
    deploy(cluster, replicas=6, strategy={"rollingUpdate": {"maxSurge": 2, "maxUnavailable": 1}}, minReadySeconds=2)
    cluster.patch("apps/v1", "Deployment", "web", {"spec": {"template": {"metadata": {"labels": {"version": "2"}}}}})
    seen = []

    def settled() -> bool:
        status = (cluster.get("apps/v1", "Deployment", "web") or {})["status"]
        seen.append((status.get("replicas", 0), status.get("availableReplicas", 0)))
        return rolled_out(cluster, "web")

    cluster.wait_until(settled, timeout=120)
    assert max(replicas for replicas, _ in seen) <= 8
    assert min(available for _, available in seen) >= 5


def test_recreate_starts_new_pods_when_the_old_ones_are_gone(cluster: Cluster) -> None:
    deploy(cluster, replicas=2, strategy={"type": "Recreate"})
    old = set(names(cluster, "v1", "Pod"))
    cluster.patch("apps/v1", "Deployment", "web", {"spec": {"template": {"metadata": {"labels": {"version": "2"}}}}})

    def settled() -> bool:
        present = set(names(cluster, "v1", "Pod"))
        assert not (present & old and present - old), "old and new pods at once"
        return rolled_out(cluster, "web")

    cluster.wait_until(settled)
    assert not set(names(cluster, "v1", "Pod")) & old


def test_a_paused_deployment_scales_but_does_not_roll(cluster: Cluster) -> None:
    deploy(cluster, replicas=2)
    change = {"spec": {"paused": True, "replicas": 3, "template": {"metadata": {"labels": {"version": "2"}}}}}
    cluster.patch("apps/v1", "Deployment", "web", change)
    cluster.run_for(5)
    (only,) = cluster.list("apps/v1", "ReplicaSet", "default")
    assert only["spec"]["replicas"] == 3
    progressing = condition(cluster.get("apps/v1", "Deployment", "web"), "Progressing")
    assert progressing is not None
    assert progressing["reason"] == "DeploymentPaused"
    cluster.patch("apps/v1", "Deployment", "web", {"spec": {"paused": False}})
    cluster.wait_until(lambda: rolled_out(cluster, "web"))
    assert len(cluster.list("apps/v1", "ReplicaSet", "default")) == 2


def test_a_stuck_rollout_exceeds_its_deadline(cluster: Cluster) -> None:
    stuck = workload("Deployment", "web", replicas=1, progressDeadlineSeconds=30)
    stuck["spec"]["template"]["metadata"]["annotations"] = {"tiphys.dev/ready": "false"}
    cluster.create(stuck)

    def exceeded() -> bool:
        found = condition(cluster.get("apps/v1", "Deployment", "web"), "Progressing")
        return found is not None and found["reason"] == "ProgressDeadlineExceeded" and found["status"] == "False"

    cluster.wait_until(exceeded, timeout=45)


def test_a_deleted_pod_is_replaced(cluster: Cluster) -> None:
    deploy(cluster, replicas=2)
    before = names(cluster, "v1", "Pod")
    cluster.delete("v1", "Pod", before[0])
    cluster.wait_until(lambda: rolled_out(cluster, "web") and before[0] not in names(cluster, "v1", "Pod"))
    assert before[1] in names(cluster, "v1", "Pod")


def test_a_pod_is_released_and_an_orphan_adopted_by_its_labels(cluster: Cluster) -> None:
    deploy(cluster, replicas=1)
    (pod,) = names(cluster, "v1", "Pod")
    cluster.patch("v1", "Pod", pod, {"metadata": {"labels": {"app": "other"}}})
    cluster.wait_until(lambda: len(names(cluster, "v1", "Pod")) == 2 and rolled_out(cluster, "web"))
    released = cluster.get("v1", "Pod", pod)
    assert released is not None
    assert not released["metadata"].get("ownerReferences")
    cluster.patch("v1", "Pod", pod, {"metadata": {"labels": {"app": "web"}}})  # one too many now
    cluster.wait_until(lambda: len(names(cluster, "v1", "Pod")) == 1)


# Deleting owners


def test_background_deletion_takes_the_dependents_afterwards(cluster: Cluster) -> None:
    deploy(cluster, replicas=2)
    cluster.delete("apps/v1", "Deployment", "web")
    assert cluster.get("apps/v1", "Deployment", "web") is None
    cluster.wait_until(lambda: not names(cluster, "apps/v1", "ReplicaSet") and not names(cluster, "v1", "Pod"))


def test_foreground_deletion_waits_for_the_dependents(cluster: Cluster) -> None:
    deploy(cluster, replicas=2)
    cluster.run(cluster.client.delete(DEPLOYMENTS, "web", "default", propagation="Foreground"))
    found = cluster.get("apps/v1", "Deployment", "web")
    assert found is not None
    assert found["metadata"]["finalizers"] == ["foregroundDeletion"]
    gone_first: list[str] = []

    def gone() -> bool:
        if not names(cluster, "v1", "Pod"):
            gone_first.append("pods")
        return cluster.get("apps/v1", "Deployment", "web") is None

    cluster.wait_until(gone)
    assert gone_first
    assert not names(cluster, "apps/v1", "ReplicaSet")


def test_orphaned_dependents_stay_and_can_be_adopted(cluster: Cluster) -> None:
    deploy(cluster, replicas=1)
    pods = names(cluster, "v1", "Pod")
    cluster.run(cluster.client.delete(DEPLOYMENTS, "web", "default", propagation="Orphan"))
    cluster.wait_until(lambda: cluster.get("apps/v1", "Deployment", "web") is None)
    (orphan,) = cluster.list("apps/v1", "ReplicaSet", "default")
    assert not orphan["metadata"].get("ownerReferences")
    deploy(cluster, replicas=1)
    assert names(cluster, "v1", "Pod") == pods


def test_an_object_whose_owner_never_was_is_collected(cluster: Cluster) -> None:
    owner = {"apiVersion": "v1", "kind": "Pod", "name": "nobody", "uid": "11111111-1111-1111-1111-111111111111"}
    meta = {"name": "lost", "namespace": "default", "ownerReferences": [owner]}
    cluster.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta})
    cluster.wait_until(lambda: cluster.get("v1", "ConfigMap", "lost") is None)


# Namespaces


def test_a_namespace_gets_its_service_account_and_is_emptied_when_deleted(cluster: Cluster) -> None:
    cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team"}})
    cluster.wait_until(lambda: cluster.get("v1", "ServiceAccount", "default", "team"))
    inside = workload("Deployment", "web", replicas=2)
    inside["metadata"]["namespace"] = "team"
    cluster.create(inside)
    cluster.wait_until(lambda: len(cluster.list("v1", "Pod", "team", phase="Running")) == 2)
    cluster.run(cluster.client.delete(NAMESPACES, "team"))
    cluster.wait_until(lambda: (cluster.get("v1", "Namespace", "team") or {}).get("status") != {"phase": "Active"})
    cluster.wait_until(lambda: cluster.get("v1", "Namespace", "team") is None, timeout=90)
    assert not cluster.list("v1", "Pod", "team")
    assert not cluster.list("apps/v1", "Deployment", "team")


def test_a_finalizer_holds_the_namespace_and_the_conditions_say_so(cluster: Cluster) -> None:
    cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "held"}})
    meta = {"name": "kept", "namespace": "held", "finalizers": ["example.com/keep"]}
    cluster.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta})
    cluster.run(cluster.client.delete(NAMESPACES, "held"))
    held = cluster.wait_until(lambda: condition(cluster.get("v1", "Namespace", "held"), "NamespaceFinalizersRemaining"))
    assert held["message"] == (
        "Some content in the namespace has finalizers remaining: example.com/keep in 1 resource instances"
    )
    remaining = condition(cluster.get("v1", "Namespace", "held"), "NamespaceContentRemaining")
    assert remaining is not None
    assert remaining["message"] == "Some resources are remaining: configmaps. has 1 resource instances"
    cluster.patch("v1", "ConfigMap", "kept", {"metadata": {"finalizers": None}}, "held")
    cluster.wait_until(lambda: cluster.get("v1", "Namespace", "held") is None, timeout=90)


# Services


def service(cluster: Cluster, **spec: Any) -> None:
    meta = {"name": "web", "namespace": "default", "labels": {"team": "a"}}
    ports = [{"port": 80, "targetPort": "http"}]
    spec = {"selector": {"app": "web"}, "ports": ports, **spec}
    cluster.create({"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": spec})


def ready_endpoints(cluster: Cluster) -> int:
    slices = cluster.list("discovery.k8s.io/v1", "EndpointSlice", "default", label_selector="team=a")
    return sum(endpoint["conditions"]["ready"] for found in slices for endpoint in found.get("endpoints") or ())


def test_endpoints_and_slices_follow_the_pods(cluster: Cluster) -> None:
    service(cluster)
    cluster.wait_until(lambda: cluster.list("discovery.k8s.io/v1", "EndpointSlice", "default", label_selector="team=a"))
    assert ready_endpoints(cluster) == 0  # an empty slice tells that there are none
    deploy(cluster, replicas=3)
    cluster.wait_until(lambda: ready_endpoints(cluster) == 3)
    (found,) = cluster.list("discovery.k8s.io/v1", "EndpointSlice", "default", label_selector="team=a")
    assert found["metadata"]["labels"]["kubernetes.io/service-name"] == "web"
    assert found["ports"] == [{"name": "", "port": 80, "protocol": "TCP"}]
    endpoint = found["endpoints"][0]
    assert endpoint["conditions"] == {"ready": True, "serving": True, "terminating": False}
    assert endpoint["nodeName"].startswith("node-")
    legacy = cluster.wait_until(lambda: cluster.get("v1", "Endpoints", "web"))
    (subset,) = legacy["subsets"]
    assert len(subset["addresses"]) == 3
    assert subset["ports"] == [{"port": 80, "protocol": "TCP"}]
    cluster.patch("apps/v1", "Deployment", "web", {"spec": {"replicas": 1}})
    cluster.wait_until(lambda: ready_endpoints(cluster) == 1)
    cluster.delete("v1", "Service", "web")
    cluster.wait_until(lambda: cluster.get("v1", "Endpoints", "web") is None)
    cluster.wait_until(lambda: ready_endpoints(cluster) == 0)


def test_endpoints_that_a_user_writes_are_mirrored(cluster: Cluster) -> None:
    service(cluster, selector=None)
    subset = {"addresses": [{"ip": "10.1.2.3"}, {"ip": "2001:db8::1"}], "ports": [{"port": 80, "name": "http"}]}
    meta = {"name": "web", "namespace": "default", "labels": {"team": "b"}}
    cluster.create({"apiVersion": "v1", "kind": "Endpoints", "metadata": meta, "subsets": [subset]})

    def mirrored() -> dict[str, list[str]]:
        slices = cluster.list("discovery.k8s.io/v1", "EndpointSlice", "default", label_selector="team=b")
        return {found["addressType"]: [e["addresses"][0] for e in found["endpoints"]] for found in slices}

    cluster.wait_until(lambda: mirrored() == {"IPv4": ["10.1.2.3"], "IPv6": ["2001:db8::1"]})
    (found, _) = cluster.list("discovery.k8s.io/v1", "EndpointSlice", "default", label_selector="team=b")
    assert found["metadata"]["labels"]["endpointslice.kubernetes.io/managed-by"] == (
        "endpointslicemirroring-controller.k8s.io"
    )
    cluster.patch("v1", "Endpoints", "web", {"subsets": [{**subset, "addresses": [{"ip": "10.1.2.4"}]}]})
    cluster.wait_until(lambda: mirrored() == {"IPv4": ["10.1.2.4"]})
    cluster.delete("v1", "Endpoints", "web")
    cluster.wait_until(lambda: mirrored() == {})


def test_endpoints_without_a_service_are_left_alone(cluster: Cluster) -> None:
    subset = {"addresses": [{"ip": "10.1.2.3"}], "ports": [{"port": 80}]}
    meta = {"name": "by-hand", "namespace": "default"}
    cluster.create({"apiVersion": "v1", "kind": "Endpoints", "metadata": meta, "subsets": [subset]})
    deploy(cluster, replicas=1)
    service(cluster)
    cluster.wait_until(lambda: cluster.get("v1", "Endpoints", "web"))
    assert cluster.get("v1", "Endpoints", "by-hand") is not None


def test_a_service_cidr_is_ready_and_goes_after_its_grace(cluster: Cluster) -> None:
    meta = {"name": "extra"}
    spec = {"cidrs": ["10.200.0.0/24"]}
    api_version = "networking.k8s.io/v1"
    cluster.create({"apiVersion": api_version, "kind": "ServiceCIDR", "metadata": meta, "spec": spec})
    ready = cluster.wait_until(lambda: condition(cluster.get(api_version, "ServiceCIDR", "extra"), "Ready"))
    assert (ready["status"], ready["message"]) == ("True", "Kubernetes Service CIDR is ready")
    cluster.delete(api_version, "ServiceCIDR", "extra")
    cluster.run_for(5)
    assert cluster.get(api_version, "ServiceCIDR", "extra") is not None
    cluster.wait_until(lambda: cluster.get(api_version, "ServiceCIDR", "extra") is None)


# Nodes


def test_pods_leave_a_dead_node_after_five_minutes(cluster: Cluster) -> None:
    cluster.run_for(1)
    doomed = add_node(cluster, "doomed", labels={"which": "doomed"})
    pinned = workload("Deployment", "web", replicas=1)
    preferred = {"matchExpressions": [{"key": "which", "operator": "In", "values": ["doomed"]}]}
    affinity = {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "preference": preferred}]}
    pinned["spec"]["template"]["spec"]["affinity"] = {"nodeAffinity": affinity}
    cluster.run_for(2)
    cluster.create(pinned)
    cluster.wait_until(lambda: rolled_out(cluster, "web"))
    (pod,) = cluster.list("v1", "Pod", "default")
    assert pod["spec"]["nodeName"] == "doomed"
    died = cluster.clock.now()
    cluster.run(doomed._runner.close())

    def taints() -> set[tuple[str, str]]:
        node = cluster.get("v1", "Node", "doomed") or {"spec": {}}
        return {(taint["key"], taint["effect"]) for taint in node["spec"].get("taints", ())}

    unreachable = "node.kubernetes.io/unreachable"
    cluster.wait_until(lambda: {(unreachable, "NoSchedule"), (unreachable, "NoExecute")} <= taints(), timeout=120)
    ready = condition(cluster.get("v1", "Node", "doomed"), "Ready")
    assert ready is not None
    assert (ready["status"], ready["reason"]) == ("Unknown", "NodeStatusUnknown")
    assert 40 <= cluster.clock.now() - died <= 75
    cluster.run_for(240)
    assert all(p["spec"].get("nodeName") == "doomed" for p in cluster.list("v1", "Pod", "default"))
    cluster.wait_until(
        lambda: any(p["spec"].get("nodeName") != "doomed" for p in cluster.list("v1", "Pod", "default")), timeout=400
    )
    assert 300 <= cluster.clock.now() - died <= 400
    assert any(reason == "TaintManagerEviction" for reason, _ in events(cluster, "Pod", pod["metadata"]["name"]))
    cluster.delete("v1", "Node", "doomed")
    cluster.wait_until(lambda: rolled_out(cluster, "web"), timeout=90)  # the pod collector removes what was left
    assert all(p["spec"]["nodeName"] != "doomed" for p in cluster.list("v1", "Pod", "default"))


def test_a_pod_that_cannot_be_marked_keeps_no_other_of_a_dead_node_ready(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.run_for(1)
    cluster.add_node("doomed", labels={"which": "doomed"})
    three = workload("Deployment", "web", replicas=3)
    three["spec"]["template"]["spec"]["nodeSelector"] = {"which": "doomed"}
    cluster.create(three)
    cluster.wait_until(lambda: rolled_out(cluster, "web"))
    refused: list[str] = []
    real = Client.update_status

    async def update_status(self: Client, resource: ResourcePath, obj: Object) -> Object:
        ours = str(vars(self).get("_user_agent", "")).startswith("kube-controller-manager")
        if ours and resource is PODS and not refused:
            refused.append(obj["metadata"]["name"])
            raise Conflict(409, {"reason": "Conflict", "message": "written meanwhile"})
        return await real(self, resource, obj)

    monkeypatch.setattr(Client, "update_status", update_status)
    cluster.stop_node("doomed")

    def ready() -> set[str]:
        pods = cluster.list("v1", "Pod", "default")
        return {pod["metadata"]["name"] for pod in pods if (condition(pod, "Ready") or {})["status"] == "True"}

    cluster.wait_until(lambda: refused, timeout=120)
    cluster.run_for(1)
    assert ready() == set(refused), "the others are marked at once"
    cluster.run_for(6)
    assert ready() == set(), "this one in the next round"


def test_where_all_nodes_are_silent_no_pod_is_evicted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is a node queued for the taint that evicts, as the queue is served while the zones are looked at."""
    queued: list[str] = []
    monkeypatch.setattr(ZoneQueue, "add", lambda self, name: queued.append(name))
    without_tolerations = APIServerConfig(disable_admission_plugins=("DefaultTolerationSeconds",))
    with Cluster(nodes=0, apiserver=without_tolerations) as cluster:
        cluster.create({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "silent"}})
        spec = {"nodeName": "silent", "containers": [{"name": "c", "image": "i"}]}
        cluster.create({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "stays"}, "spec": spec})
        cluster.wait_until(lambda: condition(cluster.get("v1", "Node", "silent"), "Ready"), timeout=120)
        cluster.run_for(60)
        pod = cluster.get("v1", "Pod", "stays")
        assert pod is not None
        assert "deletionTimestamp" not in pod["metadata"]
        assert queued == []
        add_node(cluster, "lively")
        cluster.wait_until(lambda: queued == ["silent"] * len(queued) and queued, timeout=30)


def test_every_node_has_its_own_pod_addresses(cluster: Cluster) -> None:
    add_node(cluster, "third")
    cidrs = cluster.wait_until(
        lambda: (
            [node["spec"]["podCIDR"] for node in cluster.list("v1", "Node")]
            if all(node["spec"].get("podCIDR") for node in cluster.list("v1", "Node"))
            and len(cluster.list("v1", "Node")) == 3
            else None
        )
    )
    assert sorted(cidrs) == ["10.244.0.0/24", "10.244.1.0/24", "10.244.2.0/24"]


def test_a_cordoned_node_is_tainted(cluster: Cluster) -> None:
    cluster.run_for(1)
    cluster.patch("v1", "Node", "node-0", {"spec": {"unschedulable": True}})
    cluster.wait_until(lambda: (cluster.get("v1", "Node", "node-0") or {})["spec"].get("taints"))
    cluster.patch("v1", "Node", "node-0", {"spec": {"unschedulable": None}})
    cluster.wait_until(lambda: not (cluster.get("v1", "Node", "node-0") or {})["spec"].get("taints"))


# Daemon sets and stateful sets


def daemons_settled(cluster: Cluster, wanted: int) -> bool:
    found = cluster.get("apps/v1", "DaemonSet", "agent")
    assert found is not None
    status = found.get("status", {})
    fields = ("desiredNumberScheduled", "numberAvailable", "updatedNumberScheduled")
    return status.get("observedGeneration") == found["metadata"]["generation"] and all(
        status.get(field, 0) == wanted for field in fields
    )


def test_a_daemon_set_follows_the_nodes_and_its_template(cluster: Cluster) -> None:
    cluster.create(workload("DaemonSet", "agent"))
    cluster.wait_until(lambda: daemons_settled(cluster, 2))
    add_node(cluster, "third")
    cluster.wait_until(lambda: daemons_settled(cluster, 3))
    assert {p["spec"]["nodeName"] for p in cluster.list("v1", "Pod", "default")} == {"node-0", "node-1", "third"}
    cluster.patch("apps/v1", "DaemonSet", "agent", {"spec": {"template": {"metadata": {"labels": {"version": "2"}}}}})
    cluster.wait_until(lambda: daemons_settled(cluster, 3))
    assert [found["revision"] for found in cluster.list("apps/v1", "ControllerRevision", "default")] in ([1, 2], [2, 1])


def test_a_stateful_set_works_in_order(cluster: Cluster) -> None:
    cluster.create(workload("StatefulSet", "db", replicas=3, serviceName="db"))
    order: list[str] = []

    def settled() -> bool:
        for name in names(cluster, "v1", "Pod"):
            if name not in order:
                order.append(name)
        status = (cluster.get("apps/v1", "StatefulSet", "db") or {}).get("status", {})
        return bool(status.get("availableReplicas") == status.get("updatedReplicas") == 3)

    cluster.wait_until(settled)
    assert order == ["db-0", "db-1", "db-2"]
    pod = cluster.get("v1", "Pod", "db-1")
    assert pod is not None
    assert (pod["spec"]["hostname"], pod["spec"]["subdomain"]) == ("db-1", "db")
    assert pod["metadata"]["labels"]["apps.kubernetes.io/pod-index"] == "1"
    cluster.patch("apps/v1", "StatefulSet", "db", {"spec": {"replicas": 1}})
    cluster.wait_until(lambda: names(cluster, "v1", "Pod") == ["db-0"])


# Jobs


def finished(cluster: Cluster, name: str) -> str:
    found = cluster.get("batch/v1", "Job", name)
    for type_ in ("Complete", "Failed"):
        if (ended := condition(found, type_)) is not None and ended["status"] == "True":
            return f"{type_} {ended['reason']}"
    return ""


def job(name: str, exit_code: int = 0, **spec: Any) -> Object:
    meta = {"name": name, "namespace": "default"}
    pod = template(name, seconds=3, exit_code=exit_code, restart="Never")
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": meta, "spec": {"template": pod, **spec}}


@pytest.mark.parametrize(
    ("spec", "exit_code", "end", "counts"),
    [
        ({"completions": 5, "parallelism": 2}, 0, "Complete CompletionsReached", (5, 0)),
        ({"completions": 4, "parallelism": 4, "completionMode": "Indexed"}, 0, "Complete CompletionsReached", (4, 0)),
        ({"backoffLimit": 2}, 1, "Failed BackoffLimitExceeded", (0, 3)),
        ({"activeDeadlineSeconds": 2}, 0, "Failed DeadlineExceeded", (0, 1)),
    ],
)
def test_jobs_end(cluster: Cluster, spec: Object, exit_code: int, end: str, counts: tuple[int, int]) -> None:
    cluster.create(job("work", exit_code, **spec))
    assert cluster.wait_until(lambda: finished(cluster, "work"), timeout=300) == end
    status = (cluster.get("batch/v1", "Job", "work") or {})["status"]
    assert (status.get("succeeded", 0), status.get("failed", 0)) == counts
    assert status["uncountedTerminatedPods"] == {}
    cluster.run_for(2)
    assert all(not pod["metadata"].get("finalizers") for pod in cluster.list("v1", "Pod", "default"))
    if spec.get("completionMode"):
        assert status["completedIndexes"] == "0-3"


def test_a_cron_job_starts_jobs_and_keeps_the_last_ones(cluster: Cluster) -> None:
    spec = {"schedule": "*/10 * * * *", "successfulJobsHistoryLimit": 2, "jobTemplate": {"spec": job("tick")["spec"]}}
    meta = {"name": "tick", "namespace": "default"}
    cluster.create({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": meta, "spec": spec})
    cluster.run_for(3660)
    found = cluster.get("batch/v1", "CronJob", "tick")
    assert found is not None
    assert found["status"]["lastScheduleTime"] == "2026-01-01T01:00:00Z"
    assert found["status"]["lastSuccessfulTime"].startswith("2026-01-01T01:00:")
    jobs = cluster.list("batch/v1", "Job", "default")
    assert len(jobs) == 2
    assert {found["metadata"]["annotations"]["batch.kubernetes.io/cronjob-scheduled-timestamp"] for found in jobs} == {
        "2026-01-01T00:50:00Z",
        "2026-01-01T01:00:00Z",
    }
    told = [reason for reason, _ in events(cluster, "CronJob", "tick")]
    assert {"SuccessfulCreate", "SawCompletedJob", "SuccessfulDelete"} <= set(told)


def test_a_cron_job_whose_schedule_never_comes_says_so(cluster: Cluster) -> None:
    meta = {"name": "never", "namespace": "default"}
    spec = {"schedule": "59 23 31 2 *", "jobTemplate": {"spec": job("never")["spec"]}}
    cluster.create({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": meta, "spec": spec})
    message = "invalid schedule: 59 23 31 2 * : time difference between two schedules is less than 1 second"
    assert cluster.wait_until(lambda: events(cluster, "CronJob", "never")) == [("InvalidSchedule", message)]
    cluster.run_for(600)
    assert len(events(cluster, "CronJob", "never")) == 1


def test_a_cron_job_that_changes_to_a_schedule_that_never_comes_says_so(cluster: Cluster) -> None:
    meta = {"name": "once", "namespace": "default"}
    spec = {"schedule": "0 0 1 1 *", "jobTemplate": {"spec": job("once")["spec"]}}
    cluster.create({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": meta, "spec": spec})
    cluster.run_for(5)
    cluster.patch("batch/v1", "CronJob", "once", {"spec": {"schedule": "0 0 30 2 *"}})
    told = cluster.wait_until(lambda: events(cluster, "CronJob", "once"))
    assert [reason for reason, _ in told] == ["InvalidSchedule"]


def test_a_finished_job_is_deleted_after_its_ttl(cluster: Cluster) -> None:
    cluster.create(job("short", ttlSecondsAfterFinished=100))
    cluster.wait_until(lambda: finished(cluster, "short"))
    cluster.run_for(90)
    assert cluster.get("batch/v1", "Job", "short") is not None
    cluster.wait_until(lambda: cluster.get("batch/v1", "Job", "short") is None, timeout=20)
    cluster.wait_until(lambda: not names(cluster, "v1", "Pod"))


# Budgets, quotas, roles, claims


def test_revisions_carry_the_hash_label_of_their_kind(cluster: Cluster) -> None:
    cluster.create(workload("StatefulSet", "db", replicas=0, serviceName="db"))
    cluster.create(workload("DaemonSet", "agent"))
    cluster.wait_until(lambda: len(cluster.list("apps/v1", "ControllerRevision", "default")) == 2)
    labels = {
        o["metadata"]["name"]: o["metadata"]["labels"] for o in cluster.list("apps/v1", "ControllerRevision", "default")
    }
    digests = {name.rpartition("-")[0]: name.rpartition("-")[2] for name in labels}
    assert sorted(labels.values(), key=str) == [
        {"app": "agent", "controller-revision-hash": digests["agent"]},
        {"app": "db", "controller.kubernetes.io/hash": digests["db"]},
    ]


def test_a_second_revision_of_a_template_stays_until_something_changes(cluster: Cluster) -> None:
    def revisions() -> list[str]:
        return names(cluster, "apps/v1", "ControllerRevision")

    cluster.create(workload("DaemonSet", "agent"))
    cluster.wait_until(lambda: len(revisions()) == 1)
    cluster.run_for(5)
    first = cluster.list("apps/v1", "ControllerRevision", "default")[0]
    owner, labels = first["metadata"]["ownerReferences"], {**first["metadata"]["labels"]}
    meta = {"name": "agent-again", "namespace": "default", "labels": labels | {"controller-revision-hash": "again"}}
    again = {"apiVersion": "apps/v1", "kind": "ControllerRevision", "data": first["data"], "revision": 2}
    cluster.create({**again, "metadata": {**meta, "ownerReferences": owner}})
    cluster.run_for(20)
    assert len(revisions()) == 2
    cluster.patch("apps/v1", "DaemonSet", "agent", {"metadata": {"annotations": {"a": "b"}}})
    cluster.wait_until(lambda: revisions() == ["agent-again"])
    orphan = {**again, "metadata": {**meta, "name": "agent-orphan"}, "revision": 3}
    cluster.create(orphan)
    cluster.wait_until(lambda: revisions() == ["agent-orphan"])


def test_pods_without_a_controller_are_told_of_as_upstream_does(cluster: Cluster) -> None:
    selector = {"matchLabels": {"app": "bare"}}
    spec = {"selector": selector, "maxUnavailable": 1}
    cluster.create({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "b"}, "spec": spec})
    pod = template("bare")
    cluster.create(
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", **pod["metadata"]}, "spec": pod["spec"]}
    )
    told = cluster.wait_until(lambda: dict(events(cluster, "PodDisruptionBudget", "b")).get("UnmanagedPods"))
    printed = "&LabelSelector{MatchLabels:map[string]string{app: bare,},MatchExpressions:[]LabelSelectorRequirement{},}"
    assert told.startswith(
        f"Pods selected by this PodDisruptionBudget (selector: {printed}) were found to be unmanaged."
    )


def test_autoscalers_of_the_same_pods_are_named(cluster: Cluster) -> None:
    deploy(cluster, replicas=1)
    for name in ("a", "b"):
        metric = {
            "type": "Resource",
            "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}},
        }
        target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}
        spec = {"scaleTargetRef": target, "maxReplicas": 3, "metrics": [metric]}
        kind = "HorizontalPodAutoscaler"
        cluster.create({"apiVersion": "autoscaling/v2", "kind": kind, "metadata": {"name": name}, "spec": spec})

    def told() -> str | None:
        every = [*events(cluster, kind, "a"), *events(cluster, kind, "b")]
        return next((message for reason, message in every if reason == "AmbiguousSelector"), None)

    assert cluster.wait_until(told) == "pods by selector app=web are controlled by multiple HPAs: [default/a default/b]"


def test_a_disruption_budget_counts_healthy_pods(cluster: Cluster) -> None:
    meta = {"name": "web", "namespace": "default"}
    spec = {"maxUnavailable": "34%", "selector": {"matchLabels": {"app": "web"}}}
    cluster.create({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": meta, "spec": spec})
    deploy(cluster, replicas=3)

    def status() -> tuple[int, ...]:
        found = (cluster.get("policy/v1", "PodDisruptionBudget", "web") or {}).get("status", {})
        fields = ("expectedPods", "desiredHealthy", "currentHealthy", "disruptionsAllowed")
        return tuple(found.get(field, -1) for field in fields)

    cluster.wait_until(lambda: status() == (3, 1, 3, 2))
    cluster.patch("apps/v1", "Deployment", "web", {"spec": {"replicas": 1}})
    cluster.wait_until(lambda: status() == (1, 0, 1, 1))
    found = condition(cluster.get("policy/v1", "PodDisruptionBudget", "web"), "DisruptionAllowed")
    assert found is not None
    assert (found["status"], found["reason"]) == ("True", "SufficientPods")


def test_a_pod_of_two_disruption_budgets_is_told_of(cluster: Cluster) -> None:
    for name in ("one", "two"):
        spec = {"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}}
        meta = {"name": name, "namespace": "default"}
        cluster.create({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": meta, "spec": spec})
    deploy(cluster, replicas=1)

    def told() -> str:
        (pod,) = cluster.list("v1", "Pod", "default") or [None]
        name = pod["metadata"]["name"] if pod else ""
        return dict(events(cluster, "Pod", name)).get("MultiplePodDisruptionBudgets", "").replace(name, "POD")

    message = 'Pod "default"/"POD" matches multiple PodDisruptionBudgets.  Chose "one" arbitrarily.'
    assert cluster.wait_until(told) == message


def test_a_quota_is_counted_and_given_back(cluster: Cluster) -> None:
    meta = {"name": "all", "namespace": "default"}
    hard = {"pods": "10", "count/deployments.apps": "2", "requests.cpu": "4", "secrets": "5", "services": "1"}
    cluster.create({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": meta, "spec": {"hard": hard}})

    def used() -> Object:
        return (cluster.get("v1", "ResourceQuota", "all") or {}).get("status", {}).get("used", {})

    nothing = {"pods": "0", "count/deployments.apps": "0", "requests.cpu": "0", "secrets": "0", "services": "1"}
    cluster.wait_until(lambda: used() == nothing)
    wanted = workload("Deployment", "web", replicas=2)
    wanted["spec"]["template"]["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "250m"}}
    cluster.create(wanted)
    cluster.wait_until(lambda: rolled_out(cluster, "web"))
    cluster.wait_until(lambda: used() == nothing | {"pods": "2", "count/deployments.apps": "1", "requests.cpu": "500m"})
    cluster.delete("apps/v1", "Deployment", "web")
    cluster.wait_until(lambda: used() == nothing)


def test_aggregated_roles_have_the_rules_of_those_they_select(cluster: Cluster) -> None:
    def role(name: str, **fields: Any) -> None:
        labels = fields.pop("labels", {})
        meta = {"name": name, "labels": labels}
        cluster.create(
            {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": meta, **fields}
        )

    rule = {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}
    role("whole", aggregationRule={"clusterRoleSelectors": [{"matchLabels": {"part": "yes"}}]}, rules=[])
    role("part", labels={"part": "yes"}, rules=[rule])

    def rules() -> Any:
        return (cluster.get("rbac.authorization.k8s.io/v1", "ClusterRole", "whole") or {}).get("rules")

    cluster.wait_until(lambda: rules() == [rule])
    cluster.delete("rbac.authorization.k8s.io/v1", "ClusterRole", "part")
    cluster.wait_until(lambda: not rules())


def test_a_claim_in_use_is_kept(cluster: Cluster) -> None:
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, "storageClassName": ""}
    meta = {"name": "data", "namespace": "default"}
    cluster.create({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": meta, "spec": spec})
    pod = template("user")
    pod["spec"] |= {
        "nodeName": "node-0",
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}],
    }
    cluster.run_for(1)
    meta = {"name": "user", "namespace": "default"}
    cluster.create({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": pod["spec"]})
    cluster.wait_until(lambda: cluster.list("v1", "Pod", "default", phase="Running"))
    cluster.delete("v1", "PersistentVolumeClaim", "data")
    cluster.run_for(10)
    kept = cluster.get("v1", "PersistentVolumeClaim", "data")
    assert kept is not None
    assert kept["metadata"]["finalizers"] == ["kubernetes.io/pvc-protection"]
    cluster.delete("v1", "Pod", "user")
    cluster.wait_until(lambda: cluster.get("v1", "PersistentVolumeClaim", "data") is None)


def test_a_class_of_attributes_stays_while_a_claim_uses_it(cluster: Cluster) -> None:
    version = "storage.k8s.io/v1"
    head = {"apiVersion": version, "kind": "VolumeAttributesClass", "driverName": "d.example.com"}
    cluster.create(head | {"metadata": {"name": "gold"}, "parameters": {"iops": "100"}})
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, "storageClassName": ""}
    meta = {"name": "data", "namespace": "default"}
    claim = {"metadata": meta, "spec": spec | {"volumeAttributesClassName": "gold"}}
    cluster.create({"apiVersion": "v1", "kind": "PersistentVolumeClaim", **claim})
    cluster.run_for(1)
    cluster.delete(version, "VolumeAttributesClass", "gold")
    cluster.run_for(10)
    assert cluster.get(version, "VolumeAttributesClass", "gold") is not None
    cluster.delete("v1", "PersistentVolumeClaim", "data")
    cluster.wait_until(lambda: cluster.get(version, "VolumeAttributesClass", "gold") is None)


# The whole


def test_an_idle_cluster_stays_quiet(cluster: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    deploy(cluster, replicas=2)
    service(cluster)
    cluster.run_for(60)
    before = cluster.run(cluster.client.list(DEPLOYMENTS))["metadata"]["resourceVersion"]
    with caplog.at_level(logging.WARNING, logger="tiphys"):
        cluster.run_for(240)
    after = cluster.run(cluster.client.list(DEPLOYMENTS))["metadata"]["resourceVersion"]
    assert not [record for record in caplog.records if record.name.startswith("tiphys.control")]
    leases = 3 * 24 + 3  # two nodes and the API server renew every ten seconds
    assert int(after) - int(before) <= leases + 6


def test_nothing_fails_without_reason(cluster: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="tiphys"):
        deploy(cluster, replicas=3)
        cluster.delete("apps/v1", "Deployment", "web")
        cluster.wait_until(lambda: not names(cluster, "v1", "Pod"))
        with pytest.raises(NotFound):
            cluster.run(cluster.client.get(SECRETS, "none", "default"))
    problems = [r.getMessage() for r in caplog.records if r.levelno >= logging.ERROR]
    assert problems == []
