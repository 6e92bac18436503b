"""The horizontal pod autoscaler: what metrics ask for, how fast it is followed, and a cluster under load."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from typing import Any

import pytest

from tiphys.api import gotext
from tiphys.api.object import Object
from tiphys.client.rest import Client
from tiphys.controlkit.objects import timestamp
from tiphys.controllers.config import ControllerManagerConfig
from tiphys.controllers.manager import ControllerManager
from tiphys.controllers.podautoscaler import replicas
from tiphys.controllers.podautoscaler.behavior import Bounds, History, ScalingDecision, decide
from tiphys.controllers.podautoscaler.metrics import seconds, used
from tiphys.controllers.podautoscaler.replicas import CannotCompute, PodMetric, Startup, Tolerance
from tiphys.testing import Cluster
from tiphys.wire.http import ClientResponse, Request

NOW = 1_767_225_600.0
TENTH = Tolerance(0.1, 0.1)


def pod(name: str, phase: str = "Running", ready: str = "True", age: float = 3600, since: float = 3600) -> Object:
    condition = {"type": "Ready", "status": ready, "lastTransitionTime": timestamp(NOW - since)}
    return {
        "metadata": {"name": name},
        "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "1"}}}]},
        "status": {"phase": phase, "startTime": timestamp(NOW - age), "conditions": [condition]},
    }


def metrics(*values: int, at: float = NOW) -> dict[str, PodMetric]:
    return {f"p{number}": PodMetric(value, at) for number, value in enumerate(values)}


def running(count: int, **more: Any) -> list[Object]:
    return [pod(f"p{number}", **more) for number in range(count)]


# What a metric asks for


@pytest.mark.parametrize(
    ("current", "pods", "used", "target", "wanted", "utilization"),
    [
        (3, running(3), (300, 500, 700), 30, 5, 50),
        (3, running(3), (300, 500, 700), 50, 3, 50),
        (3, running(3), (1010, 1030, 1020), 100, 3, 102),  # within the tolerance
        (5, running(5), (100, 300, 500, 250, 250), 50, 3, 28),
        (3, [*running(2), pod("p2", "Pending")], (300, 500), 30, 3, 40),  # the pending pod will take its share
        (3, running(3), (1000, 1000), 50, 4, 100),  # a missing metric counts as no use on the way up
        (3, running(3), (100, 100), 100, 2, 10),  # and as full use on the way down
        (3, [*running(2), pod("p2", "Failed")], (500, 500), 50, 3, 50),
    ],
)
def test_by_utilization(
    current: int, pods: list[Object], used: tuple[int, ...], target: int, wanted: int, utilization: int
) -> None:
    found = metrics(*used)
    groups = replicas.group(pods, found, "cpu", Startup(), NOW)
    requests = replicas.requests_of(pods, "", "cpu")
    proposal = replicas.by_utilization(current, found, groups, requests, target, TENTH)
    assert (proposal.replicas, proposal.utilization) == (wanted, utilization)


@pytest.mark.parametrize(
    ("current", "pods", "used", "target", "wanted", "average"),
    [
        (3, running(3), (20000, 10000, 30000), 15000, 4, 20000),
        (4, running(4), (2000, 2000, 2000, 2000), 2000, 4, 2000),
        (5, running(5), (12000,) * 5, 20000, 3, 12000),
        (3, running(3), (50000, 15000), 15000, 5, 32500),
    ],
)
def test_by_average(
    current: int, pods: list[Object], used: tuple[int, ...], target: int, wanted: int, average: int
) -> None:
    found = metrics(*used)
    proposal = replicas.by_average(current, found, replicas.group(pods, found, "", Startup(), NOW), target, TENTH)
    assert (proposal.replicas, proposal.average) == (wanted, average)


def test_values_served_by_all_pods_together() -> None:
    assert replicas.by_total(3, 20000, 15000, TENTH, running(3)).replicas == 4
    assert replicas.by_total(3, 15500, 15000, TENTH, running(3)).replicas == 3
    assert replicas.by_total(0, 40000, 10000, TENTH, []).replicas == 4
    with pytest.raises(CannotCompute, match="no pods returned"):
        replicas.by_total(3, 20000, 15000, TENTH, [])
    assert replicas.by_total_per_pod(3, 12000, 2000, TENTH) == replicas.Proposal(6, 4000)
    assert replicas.by_total_per_pod(3, 6100, 2000, TENTH) == replicas.Proposal(3, 2034)


def test_the_use_of_cpu_while_starting_says_nothing() -> None:
    fresh = [
        pod("p0", age=60, since=120),  # ready, and measured after that
        pod("p1", age=60, since=30),  # measured before it was ready for long enough
        pod("p2", age=60, ready="False"),
        pod("p3", age=600, since=599, ready="False"),  # never was ready
        pod("p4", age=600, since=10, ready="False"),  # has been, so its load tells something
    ]
    groups = replicas.group(fresh, metrics(1, 1, 1, 1, 1), "cpu", Startup(), NOW)
    assert groups.unready == {"p1", "p2", "p3"}
    assert groups.ready == 2
    assert replicas.group(fresh, metrics(1, 1, 1, 1, 1), "memory", Startup(), NOW).ready == 5


def test_requests_that_are_missing_are_named() -> None:
    bare = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c"}]}}
    with pytest.raises(CannotCompute, match="missing request for cpu in container c of Pod p"):
        replicas.requests_of([bare], "", "cpu")
    with pytest.raises(CannotCompute, match="container x not found in Pod p0"):
        replicas.requests_of(running(1), "x", "cpu")


def test_reading_pod_metrics() -> None:
    item = {"containers": [{"name": "a", "usage": {"cpu": "250m"}}, {"name": "b", "usage": {"cpu": "1500000n"}}]}
    assert used(item, "cpu", "") == 252
    assert used(item, "cpu", "a") == 250
    assert used(item, "memory", "") is None
    assert used(item, "cpu", "x") is None
    assert [seconds(text) for text in ("30s", "1m30.5s", "0", "500ms")] == [30, 90.5, 0, 0.5]
    assert gotext.label_selector(None) == "nil"
    selector = {
        "matchLabels": {"b": "2", "a": "1"},
        "matchExpressions": [{"key": "k", "operator": "In", "values": ["x", "y"]}],
    }
    assert gotext.label_selector(selector) == (
        "&LabelSelector{MatchLabels:map[string]string{a: 1,b: 2,},"
        "MatchExpressions:[]LabelSelectorRequirement{LabelSelectorRequirement{Key:k,Operator:In,Values:[x y],},},}"
    )


# How fast it is followed


def test_without_behavior() -> None:
    def ask(current: int, wanted: int, *recent: tuple[float, int]) -> ScalingDecision:
        return decide(History(list(recent)), current, wanted, Bounds(2, 10), None, 300, NOW)

    assert ask(3, 5).replicas == 5
    assert ask(2, 9) == ScalingDecision(4, ("ReadyForNewScale", ask(3, 5).able[1]), ask(2, 9).limited, is_limited=True)
    assert ask(2, 9).limited[0] == "ScaleUpLimit"
    assert ask(8, 99).limited[0] == "TooManyReplicas"
    assert ask(3, 1).limited[0] == "TooFewReplicas"
    stabilized = ask(8, 3, (NOW - 200, 7), (NOW - 400, 9))
    assert (stabilized.replicas, stabilized.able[0]) == (7, "ScaleDownStabilized")


def rules(*policies: tuple[str, int, int], select: str = "Max", window: int | None = 0) -> Object:
    listed = [{"type": sort, "value": value, "periodSeconds": period} for sort, value, period in policies]
    return {"policies": listed, "selectPolicy": select, "stabilizationWindowSeconds": window}


UP = rules(("Pods", 4, 15), ("Percent", 100, 15))
DOWN = rules(("Percent", 100, 15), window=None)


@pytest.mark.parametrize(
    ("current", "wanted", "up", "down", "history", "decided", "reason"),
    [
        (3, 20, UP, DOWN, History(), 7, "ScaleUpLimit"),
        (10, 50, UP, DOWN, History(), 20, "ScaleUpLimit"),
        (10, 50, UP, DOWN, History(ups=[(NOW - 5, 5)]), 10, "ScaleUpLimit"),  # 5 have doubled to 10 already
        (10, 50, UP, DOWN, History(ups=[(NOW - 20, 5)]), 20, "ScaleUpLimit"),
        (10, 50, rules(("Pods", 4, 15), ("Percent", 100, 15), select="Min"), DOWN, History(), 14, "ScaleUpLimit"),
        (10, 50, rules(("Pods", 4, 15), select="Disabled"), DOWN, History(), 10, "ScaleUpLimit"),
        (90, 200, UP, DOWN, History(), 100, "TooManyReplicas"),
        (10, 1, UP, rules(("Pods", 2, 60)), History(), 8, "ScaleDownLimit"),
        (10, 1, UP, rules(("Pods", 2, 60)), History(downs=[(NOW - 30, 1)]), 9, "ScaleDownLimit"),
        (10, 1, UP, rules(("Percent", 25, 60), ("Pods", 4, 60)), History(), 6, "ScaleDownLimit"),
        (10, 1, UP, rules(("Percent", 25, 60), ("Pods", 4, 60), select="Min"), History(), 7, "ScaleDownLimit"),
        (10, 1, UP, DOWN, History([(NOW - 299, 6)]), 6, "DesiredWithinRange"),  # the default window
        (10, 1, UP, DOWN, History([(NOW - 301, 6)]), 2, "TooFewReplicas"),
        (10, 12, rules(("Pods", 4, 15), window=60), DOWN, History([(NOW - 30, 11)]), 11, "DesiredWithinRange"),
    ],
)
def test_behavior(
    current: int, wanted: int, up: Object, down: Object, history: History, decided: int, reason: str
) -> None:
    behavior = {"scaleUp": up, "scaleDown": down}
    decision = decide(history, current, wanted, Bounds(2, 100), behavior, 300, NOW)
    assert (decision.replicas, decision.limited[0]) == (decided, reason)


# In a cluster


class Answer:
    """A response of the metrics API."""

    status = 200

    def __init__(self, body: Object) -> None:
        self.headers = {"content-type": "application/json"}
        self._body = json.dumps(body).encode()

    async def read(self, most: int | None = None) -> bytes:
        return self._body

    async def chunks(self) -> AsyncIterator[bytes]:
        yield self._body

    def upgraded(self) -> Any:
        raise ConnectionError("nothing to upgrade to")

    async def close(self) -> None:
        return


class MetricsTransport:
    """The cluster's API server with a metrics server behind it, which tells ``load`` for each pod."""

    def __init__(self, cluster: Cluster, user: str, groups: Iterable[str]) -> None:
        self._inner, self._cluster = cluster.transport_for(user, groups), cluster
        self.load = "100m"

    async def send(self, request: Request, timeout: float | None = None) -> ClientResponse:
        if not request.path.startswith("/apis/metrics.k8s.io/") or not self.load:
            return await self._inner.send(request, timeout)
        pods = await Client(self._inner, user_agent="metrics").list(self._cluster.path("v1", "Pod"), "default")
        now = timestamp(self._cluster.clock.now())
        items = [
            {
                "metadata": {"name": found["metadata"]["name"], "namespace": "default"},
                "timestamp": now,
                "window": "15s",
                "containers": [{"name": "c", "usage": {"cpu": self.load}}],
            }
            for found in pods["items"]
        ]
        return Answer({"kind": "PodMetricsList", "apiVersion": "metrics.k8s.io/v1beta1", "items": items})

    async def close(self) -> None:
        await self._inner.close()


def deployment(count: int) -> Object:
    container = {"name": "c", "image": "example", "resources": {"requests": {"cpu": "200m"}}}
    template = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [container]}}
    spec = {"replicas": count, "selector": {"matchLabels": {"app": "web"}}, "template": template}
    meta = {"name": "web", "namespace": "default"}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta, "spec": spec}


def autoscaler(**spec: Any) -> Object:
    target = {"type": "Utilization", "averageUtilization": 50}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
            "minReplicas": 2,
            "maxReplicas": 5,
            "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}],
            **spec,
        },
    }


def conditions(cluster: Cluster) -> dict[str, tuple[str, str, str]]:
    found = cluster.get("autoscaling/v2", "HorizontalPodAutoscaler", "web")
    assert found is not None
    listed = (found.get("status") or {}).get("conditions") or []
    return {one["type"]: (one["status"], one["reason"], one["message"]) for one in listed}


def size(cluster: Cluster) -> int:
    found = cluster.get("apps/v1", "Deployment", "web")
    assert found is not None
    return int(found["spec"]["replicas"])


def test_a_deployment_follows_its_load() -> None:
    with Cluster(nodes=1, controllers=("*", "-horizontal-pod-autoscaler-controller")) as cluster:
        account = "system:serviceaccount:kube-system:horizontal-pod-autoscaler"
        groups = ("system:serviceaccounts", "system:serviceaccounts:kube-system", "system:authenticated")
        transport = MetricsTransport(cluster, account, groups)
        config = ControllerManagerConfig(controllers=("horizontalpodautoscaling",))

        async def client_for(name: str) -> Client:
            return Client(transport, user_agent=name)

        manager = ControllerManager(config, cluster.client, cluster.clock, client_for=client_for)

        async def start() -> asyncio.Task[None]:
            return asyncio.get_running_loop().create_task(manager.run())

        task = cluster.run(start())
        cluster.create(deployment(2))
        cluster.create(autoscaler())
        cluster.run_for(600)
        assert size(cluster) == 2
        assert conditions(cluster)["ScalingActive"][:2] == ("True", "ValidMetricFound")
        transport.load = "180m"  # 90 % of the request, where 50 % is wanted
        cluster.wait_until(lambda: size(cluster) == 4)
        cluster.wait_until(lambda: size(cluster) == 5, timeout=900)
        cluster.wait_until(lambda: conditions(cluster)["ScalingLimited"][:2] == ("True", "TooManyReplicas"))
        transport.load = "20m"
        cluster.run_for(200)
        assert size(cluster) == 5
        cluster.wait_until(lambda: size(cluster) == 2, timeout=400)
        found = cluster.get("autoscaling/v2", "HorizontalPodAutoscaler", "web")
        assert found is not None
        shown = found["status"]["currentMetrics"][0]["resource"]["current"]
        assert shown == {"averageUtilization": 10, "averageValue": "20m"}
        told = [event["message"] for event in cluster.list("v1", "Event", "") if event["reason"] == "SuccessfulRescale"]
        assert "New size: 2; reason: All metrics below target" in told
        assert any("cpu resource utilization (percentage of request) above target" in message for message in told)
        task.cancel()
        cluster.run(asyncio.wait_for(asyncio.gather(task, return_exceptions=True), 10))


def test_what_is_missing_is_told() -> None:
    with Cluster(nodes=1) as cluster:
        cluster.create(autoscaler())
        cluster.run_for(20)
        assert conditions(cluster)["AbleToScale"][:2] == ("False", "FailedGetScale")
        assert conditions(cluster)["AbleToScale"][2].endswith('deployments.apps "web" not found')
        cluster.create(deployment(1))
        cluster.wait_until(lambda: size(cluster) == 2)  # the least, whatever the metrics say
        cluster.run_for(20)
        active = conditions(cluster)["ScalingActive"]
        assert active[:2] == ("False", "FailedGetResourceMetric")
        assert active[2] == (
            "the HPA was unable to compute the replica count: failed to get cpu utilization: unable to get metrics for "
            "resource cpu: unable to fetch metrics from resource metrics API: the server could not find the requested "
            "resource (get pods.metrics.k8s.io)"
        )
        cluster.patch("apps/v1", "Deployment", "web", {"spec": {"replicas": 0}})
        cluster.wait_until(lambda: conditions(cluster)["ScalingActive"][1] == "ScalingDisabled")
