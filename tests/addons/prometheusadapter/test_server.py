"""The APIs over a real Prometheus that scrapes a small server, and an autoscaler that follows what they say."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.apiserver.apiworld import World
from tests.controlplane import free_port
from tiphys.addons.prometheusadapter.catalog import Catalog
from tiphys.addons.prometheusadapter.handler import AdapterHandler, MetricTarget, target_of
from tiphys.addons.prometheusadapter.prometheus import Prometheus, PrometheusError
from tiphys.addons.prometheusadapter.relister import Relister
from tiphys.addons.prometheusadapter.rules import read_rules
from tiphys.client.delegated import DelegatedAccess, Trust
from tiphys.client.rest import Client
from tiphys.controllers.config import ControllerManagerConfig
from tiphys.controllers.manager import ControllerManager
from tiphys.runtime.clock import SystemClock
from tiphys.wire.http import ClientResponse, Headers, Peer, Request, Response
from tiphys.wire.inprocess import InProcessTransport
from tiphys.wire.server import serve

Object = dict[str, Any]
CUSTOM, EXTERNAL = "/apis/custom.metrics.k8s.io/v1beta2", "/apis/external.metrics.k8s.io/v1beta1"
CUSTOM_GROUP = "custom.metrics.k8s.io"
RULES = """
rules:
- seriesQuery: 'jobs_waiting{pod!=""}'
  resources: {overrides: {namespace: {resource: namespace}, pod: {resource: pod}}}
  metricsQuery: 'sum by (<<.GroupBy>>) (<<.Series>>{<<.LabelMatchers>>})'
externalRules:
- seriesQuery: '{__name__=~"queue_.*"}'
  resources: {overrides: {namespace: {resource: namespace}}}
  name: {matches: "^queue_(.*)$"}
  metricsQuery: '<<.Series>>{<<.LabelMatchers>>}'
"""
PAGE = """
jobs_waiting{namespace="shop",pod="web-0",kind="big"} 12
jobs_waiting{namespace="shop",pod="web-1",kind="big"} 8
jobs_waiting{namespace="shop",pod="web-1",kind="small"} 4.5
jobs_waiting{namespace="other",pod="web-0",kind="big"} 99
queue_length{namespace="shop",topic="a"} 70
queue_length{namespace="shop",topic="b"} 30
queue_length{namespace="other",topic="a"} 5
"""
with_prometheus = pytest.mark.skipif(shutil.which("prometheus") is None, reason="needs Debian's package prometheus")


@pytest.mark.parametrize(
    ("path", "target"),
    [
        (
            f"{CUSTOM}/namespaces/n/pods/*/m",
            MetricTarget(CUSTOM_GROUP, "v1beta2", ("", "pods"), "n", "*", "m"),
        ),
        (
            f"{CUSTOM}/namespaces/n/pods/%2A/m",
            MetricTarget(CUSTOM_GROUP, "v1beta2", ("", "pods"), "n", "*", "m"),
        ),
        (
            f"{CUSTOM}/namespaces/n/deployments.apps/d/m",
            MetricTarget(CUSTOM_GROUP, "v1beta2", ("apps", "deployments"), "n", "d", "m"),
        ),
        (f"{CUSTOM}/nodes/a/m", MetricTarget(CUSTOM_GROUP, "v1beta2", ("", "nodes"), "", "a", "m")),
        (
            f"{CUSTOM}/namespaces/n/metrics/m",
            MetricTarget(CUSTOM_GROUP, "v1beta2", ("", "namespaces"), "", "n", "m"),
        ),
        (f"{CUSTOM}/namespaces/n/m", None),
        (f"{EXTERNAL}/namespaces/n/m", MetricTarget("external.metrics.k8s.io", "v1beta1", ("", ""), "n", "", "m")),
        ("/apis/external.metrics.k8s.io/v1beta2/namespaces/n/m", None),
        (CUSTOM, None),
    ],
)
def test_paths(path: str, target: MetricTarget | None) -> None:
    assert target_of(path) == target


class Fake:
    """A Prometheus that misbehaves."""

    def __init__(self, response: Response, seconds: float = 0) -> None:
        self.response, self.seconds = response, seconds

    async def __call__(self, request: Request) -> Response:
        await asyncio.sleep(self.seconds)
        return self.response


@pytest.mark.parametrize(
    ("fake", "says"),
    [
        (Fake(Response(200, {}, b"{}"), 30), "no answer within 0.3 s"),
        (Fake(Response(200, {}, b"x" * (17 << 20))), "larger than"),
        (Fake(Response(200, {}, b"<html>")), "unexpected character"),
        (Fake(Response(502, {}, b"[]")), "an answer that is none .status 502."),
        (Fake(Response(422, {}, b'{"status":"error","error":"bad query"}')), "bad query"),
        (Fake(Response(200, {}, b'{"status":"success","data":{"resultType":"scalar","result":[1,"2"]}}')), "no vector"),
    ],
)
def test_what_prometheus_answers_is_bounded_in_time_and_size(fake: Fake, says: str) -> None:
    async def main() -> None:
        server = await serve(fake, "127.0.0.1", 0)
        prometheus = Prometheus(f"http://127.0.0.1:{server.port}", 0.3 if fake.seconds else 60)
        try:
            with pytest.raises(PrometheusError, match=says):
                await prometheus.query("x")
        finally:
            await prometheus.close()
            await server.close(grace=0)

    asyncio.run(main())


class Scene:
    """An API server in memory, the adapter before a real Prometheus, and ``page``: what that scrapes."""

    def __init__(self, world: World, prometheus: Prometheus) -> None:
        self.world, self.page = world, PAGE
        self.relister = Relister(
            read_rules(RULES, "rules"), prometheus, world.admin, SystemClock(), interval=60, max_age=300
        )
        client = world.client_of("adapter", ("system:masters",))
        access = DelegatedAccess.over(client, SystemClock(), Trust())
        self.handler = AdapterHandler(lambda: self.relister.catalog, prometheus, client, access)

    async def get(self, path: str, user: Any = ("root", ("system:masters",))) -> tuple[int, Object]:
        path, _, query = path.partition("?")
        response = await self.handler(Request("GET", path, query, Headers(), b"", Peer(identity=user)))
        assert isinstance(response.body, bytes)
        return response.status, orjson.loads(response.body) if response.body.startswith(b"{") else {}

    async def values(self, path: str) -> dict[str, str]:
        status, answer = await self.get(path)
        assert status == 200, answer
        return {item["describedObject"]["name"]: item["value"] for item in answer["items"]}


@asynccontextmanager
async def scene(folder: Path) -> AsyncIterator[Scene]:
    """On real time, as Prometheus keeps no other."""
    holder: list[Scene] = []

    async def page(request: Request) -> Response:
        return Response(200, {"Content-Type": "text/plain"}, holder[0].page.encode() if holder else b"")

    scraped = await serve(page, "127.0.0.1", 0)
    port = free_port()
    job = {"job_name": "queue", "honor_labels": True, "static_configs": [{"targets": [f"127.0.0.1:{scraped.port}"]}]}
    document = {"global": {"scrape_interval": "200ms", "scrape_timeout": "200ms"}, "scrape_configs": [job]}
    (folder / "prometheus.json").write_text(json.dumps(document))
    process = await asyncio.create_subprocess_exec(
        "prometheus", "--config.file=prometheus.json", f"--web.listen-address=127.0.0.1:{port}",
        "--storage.tsdb.path=series", cwd=folder, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    prometheus = Prometheus(f"http://127.0.0.1:{port}", 5)
    world = World(SystemClock())
    try:
        async with world.running():
            made = Scene(world, prometheus)
            holder.append(made)
            yield made
    finally:
        await prometheus.close()
        process.terminate()
        await process.wait()
        await scraped.close(grace=0)


def run(folder: Path, work: Callable[[Scene], Awaitable[None]]) -> None:
    async def main() -> None:
        async with scene(folder) as made:
            await work(made)

    asyncio.run(main())


async def until(condition: Callable[[], Awaitable[Any]], seconds: float = 60) -> Any:
    async with asyncio.timeout(seconds):
        while not (value := await condition()):
            await asyncio.sleep(0.1)
    return value


async def known(scene: Scene) -> Catalog | None:
    """The catalog once Prometheus has scraped the page."""
    try:
        catalog = await scene.relister.look()
    except PrometheusError:
        return None
    if not (catalog.custom and catalog.external):
        return None
    scene.relister.catalog = catalog
    return catalog


async def pods(scene: Scene, *names: str) -> None:
    await scene.world.namespace("shop")
    await scene.world.settle()
    for name in names:
        body = {"metadata": {"name": name, "labels": {"app": "web", "pod": name}}}
        body["spec"] = {"containers": [{"name": "c", "image": "i"}]}
        assert (await scene.world.raw("POST", "/api/v1/namespaces/shop/pods", body)).status == 201


@with_prometheus
def test_metrics_of_pods_namespaces_and_queues(tmp_path: Path) -> None:
    async def work(scene: Scene) -> None:
        assert (await scene.get("/readyz"))[0] == 500
        assert (await scene.get(f"{CUSTOM}/namespaces/shop/pods/*/jobs_waiting"))[0] == 503
        await pods(scene, "web-0", "web-1", "web-2")
        await until(lambda: known(scene))
        assert (await scene.get("/readyz"))[0] == 200

        place = f"{CUSTOM}/namespaces/shop/pods"
        assert await scene.values(f"{place}/*/jobs_waiting") == {"web-0": "12", "web-1": "12500m"}
        assert await scene.values(f"{place}/*/jobs_waiting?labelSelector=pod=web-1") == {"web-1": "12500m"}
        assert await scene.values(f"{place}/*/jobs_waiting?labelSelector=app=none") == {}
        assert await scene.values(f"{place}/*/jobs_waiting?metricLabelSelector=kind=small") == {"web-1": "4500m"}
        assert await scene.values(f"{place}/web-0/jobs_waiting") == {"web-0": "12"}
        assert await scene.values(f"{CUSTOM}/namespaces/shop/metrics/jobs_waiting") == {"shop": "24500m"}
        status, missing = await scene.get(f"{place}/web-2/jobs_waiting")
        assert (status, missing["message"]) == (404, "the server could not find the metric jobs_waiting for pods web-2")
        status, missing = await scene.get(f"{place}/*/nothing")
        assert (status, missing["reason"], missing["message"]) == (
            404,
            "NotFound",
            "the server could not find the metric nothing for pods",
        )
        assert (await scene.get(f"{place}/*/jobs_waiting?labelSelector=!!"))[0] == 400
        assert (await scene.get(f"{place}/*/jobs_waiting?metricLabelSelector=example.com/a=b"))[0] == 400

        _, newer = await scene.get(f"{place}/web-0/jobs_waiting")
        (item,) = newer["items"]
        assert item["metric"] == {"name": "jobs_waiting"}
        assert item["describedObject"] == {"kind": "Pod", "name": "web-0", "namespace": "shop", "apiVersion": "v1"}
        _, older = await scene.get(f"{place.replace('v1beta2', 'v1beta1')}/web-0/jobs_waiting")
        assert (older["apiVersion"], older["items"][0]["metricName"]) == (
            "custom.metrics.k8s.io/v1beta1",
            "jobs_waiting",
        )

        _, queues = await scene.get(f"{EXTERNAL}/namespaces/shop/length")
        assert {item["metricLabels"]["topic"]: item["value"] for item in queues["items"]} == {"a": "70", "b": "30"}
        _, queues = await scene.get(f"{EXTERNAL}/namespaces/shop/length?labelSelector=topic=a")
        assert [item["value"] for item in queues["items"]] == ["70"]
        assert (await scene.get(f"{EXTERNAL}/namespaces/shop/depth"))[0] == 404

        _, listed = await scene.get(CUSTOM)
        assert {row["name"]: row["namespaced"] for row in listed["resources"]} == {
            "namespaces/jobs_waiting": False,
            "pods/jobs_waiting": True,
        }
        _, listed = await scene.get(EXTERNAL)
        assert [row["name"] for row in listed["resources"]] == ["length"]
        status, refused = await scene.get(f"{place}/*/jobs_waiting", user=("ann", ("system:authenticated",)))
        assert status == 403
        assert 'cannot get resource "pods/jobs_waiting" in API group "custom.metrics.k8s.io"' in refused["message"]
        status, refused = await scene.get(f"{EXTERNAL}/namespaces/shop/length", user=("ann", ()))
        assert 'cannot list resource "length" in API group "external.metrics.k8s.io"' in refused["message"]

    run(tmp_path, work)


class Aggregated:
    """The API server's transport with the adapter's APIs behind it."""

    def __init__(self, scene: Scene, user: tuple[str, tuple[str, ...]]) -> None:
        self._inner = InProcessTransport(scene.world.server.handler, user)
        self._adapter = InProcessTransport(scene.handler, user)

    async def send(self, request: Request, timeout: float | None = None) -> ClientResponse:
        adapter = request.path.startswith(("/apis/custom.metrics", "/apis/external.metrics"))
        return await (self._adapter if adapter else self._inner).send(request, timeout)

    async def close(self) -> None:
        await self._inner.close()


def autoscaler(metric: Object) -> Object:
    return {
        "metadata": {"name": "web"},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
            "minReplicas": 1,
            "maxReplicas": 9,
            "metrics": [metric],
            "behavior": {"scaleDown": {"stabilizationWindowSeconds": 0}},
        },
    }


PODS_METRIC = {"type": "Pods", "pods": {"metric": {"name": "jobs_waiting"},
    "target": {"type": "AverageValue", "averageValue": "5"}}}  # fmt: skip
EXTERNAL_METRIC = {"type": "External", "external": {
    "metric": {"name": "length", "selector": {"matchLabels": {"topic": "a"}}},
    "target": {"type": "AverageValue", "averageValue": "12"}}}  # fmt: skip
OBJECT_METRIC = {"type": "Object", "object": {"metric": {"name": "jobs_waiting"},
    "describedObject": {"apiVersion": "v1", "kind": "Namespace", "name": "shop"},
    "target": {"type": "AverageValue", "averageValue": "6"}}}  # fmt: skip


@with_prometheus
@pytest.mark.parametrize(
    ("metric", "sizes"),
    [
        (PODS_METRIC, (5, 1)),  # 12 and 12.5 where 5 are wanted of each of 2: 5; then 0.5 each: 1
        (EXTERNAL_METRIC, (6, 1)),  # 70, 12 for each
        (OBJECT_METRIC, (5, 1)),  # 24.5 in all, 6 for each
    ],
    ids=["pods", "external", "object"],
)
def test_an_autoscaler_follows_prometheus(tmp_path: Path, metric: Object, sizes: tuple[int, int]) -> None:
    async def work(scene: Scene) -> None:
        await pods(scene, "web-0", "web-1")
        await until(lambda: known(scene))
        labels = {"app": "web"}
        template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
        deployment = {
            "metadata": {"name": "web"},
            "spec": {"replicas": 2, "selector": {"matchLabels": labels}, "template": template},
        }
        base = "/apis/apps/v1/namespaces/shop/deployments"
        made = await scene.world.json("POST", base, deployment)
        made["status"] = {"replicas": 2}
        await scene.world.json("PUT", f"{base}/web/status", made)
        for name in ("web-0", "web-1"):
            now = "2026-01-01T00:00:00Z"
            ready = {"type": "Ready", "status": "True", "lastTransitionTime": now}
            status = {"status": {"phase": "Running", "startTime": now, "conditions": [ready]}}
            path = f"/api/v1/namespaces/shop/pods/{name}/status"
            patched = await scene.world.raw("PATCH", path, status, content_type="application/merge-patch+json")
            assert patched.status == 200
        hpa = await scene.world.raw(
            "POST", "/apis/autoscaling/v2/namespaces/shop/horizontalpodautoscalers", autoscaler(metric)
        )
        assert hpa.status == 201, hpa.body

        transport = Aggregated(scene, ("admin", ("system:masters",)))
        config = ControllerManagerConfig(
            controllers=("horizontalpodautoscaling",), horizontal_pod_autoscaler_sync_period=0.2
        )

        async def client_for(name: str) -> Client:
            return Client(transport, user_agent=name)

        manager = ControllerManager(config, scene.world.admin, SystemClock(), client_for=client_for)
        task = asyncio.get_running_loop().create_task(manager.run())

        async def size_is(count: int) -> bool:
            found: bool = (await scene.world.json("GET", f"{base}/web"))["spec"]["replicas"] == count
            return found

        try:
            await until(lambda: size_is(sizes[0]))
            scene.page = (
                PAGE.replace(" 12\n", " 0.5\n")
                .replace(" 8\n", " 0.25\n")
                .replace(" 4.5\n", " 0.25\n")
                .replace(" 70\n", " 2\n")
            )
            await until(lambda: size_is(sizes[1]))
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    run(tmp_path, work)
