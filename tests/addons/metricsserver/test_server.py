"""The API over real objects, and rounds of questions to real HTTPS servers in place of kubelets."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.apiserver.apiworld import World, run
from tests.wire.certificates import Authority
from tiphys.addons.metricsserver.exposition import Point, Sample
from tiphys.addons.metricsserver.handler import MetricsHandler, Target, target_of
from tiphys.addons.metricsserver.scraper import Scraper, kubelet_address
from tiphys.addons.metricsserver.usage import Usage
from tiphys.client.delegated import AccessReviews, DelegatedAccess, TokenReviews, Trust
from tiphys.client.informer import Informer
from tiphys.client.resources import NODES, PODS
from tiphys.runtime.clock import SystemClock
from tiphys.wire.http import Headers, Peer, Request, Response
from tiphys.wire.server import serve
from tiphys.wire.tls.contexts import client_context, server_context

ROOT = "/apis/metrics.k8s.io/v1beta1"
Object = dict[str, Any]


class Api:
    """A handler over the nodes and pods of a world."""

    def __init__(self, world: World) -> None:
        self.usage = Usage()
        self.nodes, self.pods = Informer(world.admin, NODES, world.clock), Informer(world.admin, PODS, world.clock)
        client = world.client_of("metrics-server", ("system:masters",))
        tokens, reviews = TokenReviews(client, world.clock, 10), AccessReviews(client, world.clock, 10, 10)
        self.handler = MetricsHandler(
            self.usage, self.nodes, self.pods, world.clock,
            access=DelegatedAccess(Trust(), tokens, reviews),
        )  # fmt: skip

    async def get(self, path: str, user: Any = ("root", ("system:masters",)), accept: str = "") -> tuple[int, Object]:
        path, _, query = path.partition("?")
        request = Request("GET", path, query, Headers({"accept": accept}), b"", Peer(identity=user))
        response = await self.handler(request)
        assert isinstance(response.body, bytes)
        return response.status, orjson.loads(response.body) if response.body.startswith(b"{") else {}

    def measure(self, at: float, cpu: float) -> None:
        point = Point(at, cpu, 2048)
        containers = {("shop", "web", name): point for name in ("a", "b")}
        self.usage.store({"n1": Sample(point, containers), "n2": Sample(None, {})})


async def with_objects(world: World) -> None:
    for name in ("n1", "n2"):
        await world.json("POST", "/api/v1/nodes", {"metadata": {"name": name, "labels": {"zone": name}}})
    await world.namespace("shop")
    await world.settle()
    containers = [{"name": name, "image": "i"} for name in ("a", "b")]
    pod = {"metadata": {"name": "web", "labels": {"app": "web"}}, "spec": {"containers": containers}}
    assert (await world.raw("POST", "/api/v1/namespaces/shop/pods", pod)).status == 201


def test_nodes_pods_selectors_tables_and_what_is_missing() -> None:
    async def work(world: World) -> None:
        await with_objects(world)
        api = Api(world)
        tasks = [asyncio.ensure_future(informer.run()) for informer in (api.nodes, api.pods)]
        await api.nodes.wait_synced()
        await api.pods.wait_synced()
        assert (await api.get("/readyz"))[0] == 500
        api.measure(1000, 1)
        api.measure(1020, 2)
        assert (await api.get("/readyz"))[0] == 200

        status, node = await api.get(f"{ROOT}/nodes/n1")
        assert (status, node["usage"]) == (200, {"cpu": "50m", "memory": "2Ki"})
        assert node["metadata"]["labels"] == {"zone": "n1"}
        status, missing = await api.get(f"{ROOT}/nodes/n2")
        assert (status, missing["message"]) == (404, 'nodes.metrics.k8s.io "n2" not found')
        _, nodes = await api.get(f"{ROOT}/nodes")
        assert [item["metadata"]["name"] for item in nodes["items"]] == ["n1"]
        assert nodes["kind"] == "NodeMetricsList"

        _, pod = await api.get(f"{ROOT}/namespaces/shop/pods/web")
        assert [container["name"] for container in pod["containers"]] == ["a", "b"]
        assert pod["window"] == "20s"
        for query, count in (
            ("", 1),
            ("?labelSelector=app=web", 1),
            ("?labelSelector=app=db", 0),
            ("?fieldSelector=metadata.name=web", 1),
            ("?fieldSelector=metadata.name=x", 0),
        ):
            for place in ("pods", "namespaces/shop/pods"):
                _, pods = await api.get(f"{ROOT}/{place}{query}")
                assert len(pods["items"]) == count, query
        assert (await api.get(f"{ROOT}/namespaces/other/pods"))[1]["items"] == []
        assert (await api.get(f"{ROOT}/pods?labelSelector=!!"))[0] == 400
        assert (await api.get(f"{ROOT}/pods?fieldSelector=spec.nodeName=x"))[0] == 400
        _, table = await api.get(f"{ROOT}/pods", accept="application/json;as=Table;v=v1;g=meta.k8s.io")
        assert table["rows"][0]["cells"] == ["web", "100m", "4Ki", "20s"]
        assert (await api.get("/apis/metrics.k8s.io/v1beta1"))[1]["kind"] == "APIResourceList"
        for task in tasks:
            task.cancel()

    run(work)


def test_rights_decide_what_is_shown() -> None:
    async def work(world: World) -> None:
        await with_objects(world)
        api = Api(world)
        status, refused = await api.get(f"{ROOT}/nodes", user=("ann", ("system:authenticated",)))
        assert (status, refused["reason"]) == (403, "Forbidden")
        assert 'User "ann" cannot list resource "nodes" in API group "metrics.k8s.io"' in refused["message"]
        assert (await api.get("/healthz", user=None))[0] == 200
        assert (await api.get(f"{ROOT}/nodes", user=None))[1]["message"].count("system:anonymous") == 1
        rbac = "/apis/rbac.authorization.k8s.io/v1"
        rules = [{"apiGroups": ["metrics.k8s.io"], "resources": ["pods"], "verbs": ["list"]}]
        await world.json("POST", f"{rbac}/namespaces/shop/roles", {"metadata": {"name": "r"}, "rules": rules})
        reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"}
        subject = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "ann"}
        binding = {"metadata": {"name": "b"}, "roleRef": reference, "subjects": [subject]}
        await world.json("POST", f"{rbac}/namespaces/shop/rolebindings", binding)
        await world.clock.sleep(11)
        assert (await api.get(f"{ROOT}/namespaces/shop/pods", user=("ann", ())))[0] == 200
        assert (await api.get(f"{ROOT}/namespaces/shop/pods/web", user=("ann", ())))[0] == 403
        assert (await api.get(f"{ROOT}/pods", user=("ann", ())))[0] == 403

    run(work)


@pytest.mark.parametrize(
    ("path", "target"),
    [
        (f"{ROOT}/nodes", Target("nodes")),
        (f"{ROOT}/nodes/a", Target("nodes", name="a")),
        (f"{ROOT}/namespaces/n/pods/p", Target("pods", "n", "p")),
        (f"{ROOT}/namespaces/n/nodes", None),
        (f"{ROOT}/pods/p", None),
        ("/apis/other/v1/pods", None),
    ],
)
def test_paths(path: str, target: Target | None) -> None:
    assert target_of(path) == target


def test_where_a_kubelet_is() -> None:
    addresses = [{"type": "InternalIP", "address": "10.0.0.1"}, {"type": "InternalIP", "address": "fd00::1"},
                 {"type": "Hostname", "address": "h"}]  # fmt: skip
    node = {"metadata": {"name": "n"}, "status": {"addresses": addresses}}
    assert kubelet_address(node, ("InternalIP", "Hostname")) == ("10.0.0.1", 10250)
    node["status"]["daemonEndpoints"] = {"kubeletEndpoint": {"Port": 7}}  # type: ignore[index]
    assert kubelet_address(node, ("ExternalIP", "Hostname")) == ("h", 7)
    with pytest.raises(LookupError, match="no address of the types ExternalIP"):
        kubelet_address(node, ("ExternalIP",))


class Kubelets:
    """HTTPS servers that answer as a kubelet does: well, slowly, with an error, or without end."""

    async def __call__(self, request: Request) -> Response:
        assert request.path == "/metrics/resource"
        assert request.headers["authorization"] == "Bearer t"
        match request.headers["host"].rpartition(":")[0]:
            case "127.0.0.2":
                await asyncio.sleep(30)
            case "127.0.0.3":
                return Response(403, {}, b"Forbidden")
            case "127.0.0.4":
                return Response(200, {}, b"x" * (9 << 20))
        return Response(200, {}, b"node_cpu_usage_seconds_total 3 1000\nnode_memory_working_set_bytes 4 1000\n")


def test_a_round_leaves_out_who_does_not_answer(tmp_path: Path) -> None:
    authority = Authority()
    addresses = [f"127.0.0.{number}" for number in range(1, 5)]
    cert, key = authority.issue("kubelet", server=True, addresses=tuple(addresses))

    async def main() -> dict[str, Sample]:
        tls = server_context(cert, key)
        first = await serve(Kubelets(), "127.0.0.1", 0, tls=tls)
        port = first.port
        others = [await serve(Kubelets(), address, port, tls=tls) for address in addresses[1:]]
        nodes = [
            {
                "metadata": {"name": address},
                "status": {
                    "addresses": [{"type": "InternalIP", "address": address}],
                    "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
                },
            }
            for address in (*addresses, "127.0.0.9")
        ]
        context: ssl.SSLContext = client_context(authority.pem)
        scraper = Scraper(
            _Nodes(nodes), Usage(), SystemClock(), tls=context, token=lambda: "t",  # type: ignore[arg-type]
            address_types=("InternalIP",), resolution=15, timeout=1,
        )  # fmt: skip
        try:
            return await scraper.round()
        finally:
            for server in (first, *others):
                await server.close(grace=0)

    assert asyncio.run(main()) == {"127.0.0.1": Sample(Point(1.0, 3.0, 4), {})}


class _Nodes:
    def __init__(self, nodes: list[Object]) -> None:
        self.store = self
        self._nodes = nodes

    def list(self) -> list[Object]:
        return self._nodes
