"""Clients that leave midway: each request is cancelled at its first wait, at its second, and so on until it is through.

After every cut the server must answer others, whatever backend it stands on: what a request shares with others, such as
the stream by which the server follows etcd, outlives it.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import orjson
import pytest

from tests.apiserver.apiworld import ADMIN, config_map, pod
from tests.store.etcds import HAVE_ETCD, backend_of, real_etcd
from tiphys.apiserver.config import Config
from tiphys.apiserver.server import APIServer
from tiphys.runtime.clock import SystemClock
from tiphys.store.backend import Backend, Put
from tiphys.wire.http import Headers, Peer, Request, Response
from tiphys.wire.memory import MemorySink

KINDS = ["memory", "sqlite", "grpc", pytest.param("etcd", marks=pytest.mark.etcd)]
PATIENCE = 10.0
Identity = tuple[str, tuple[str, ...]]
BOSS: Identity = ("boss", ("system:authenticated",))
"""May do everything, and yet counts among the requests in flight."""
BINDING = {
    "metadata": {"name": "boss"},
    "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
    "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "boss"}],
}
MAPS = "/api/v1/namespaces/default/configmaps"
PODS = "/api/v1/namespaces/default/pods"
SERVICES = "/api/v1/namespaces/default/services"
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"
MERGE, STRATEGIC = "application/merge-patch+json", "application/strategic-merge-patch+json"
JSON_PATCH, APPLY = "application/json-patch+json", "application/apply-patch+yaml"
_numbers = itertools.count()


def deployment(name: str) -> dict[str, Any]:
    template = {"metadata": {"labels": {"a": "b"}}, "spec": pod("x")["spec"]}
    spec = {"replicas": 1, "selector": {"matchLabels": {"a": "b"}}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}


def review(kind: str, group: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": f"{group}/v1", "kind": kind, "spec": spec}


REQUESTS: list[tuple[str, str, Any, str]] = [
    ("GET", f"{MAPS}/kept", None, ""),
    ("GET", f"{MAPS}/kept?resourceVersion=0", None, ""),
    ("GET", MAPS, None, ""),
    ("GET", f"{MAPS}?limit=1", None, ""),
    ("GET", f"{MAPS}?resourceVersion={{start}}&resourceVersionMatch=Exact", None, ""),
    ("GET", "/api/v1/events?fieldSelector=type=Normal", None, ""),
    ("GET", f"{MAPS}?watch=1", None, ""),
    ("GET", "/api/v1/pods?watch=1&resourceVersion=0", None, ""),
    ("POST", MAPS, config_map("new{n}"), ""),
    ("POST", MAPS, {"metadata": {"generateName": "made-"}}, ""),
    ("PUT", f"{MAPS}/kept", {**config_map("kept"), "data": {"put": "{n}"}}, ""),
    ("PATCH", f"{MAPS}/kept", {"data": {"a": "{n}"}}, MERGE),
    ("PATCH", f"{MAPS}/kept", {"data": {"b": "{n}"}}, STRATEGIC),
    ("PATCH", f"{MAPS}/kept", [{"op": "add", "path": "/data/c", "value": "{n}"}], JSON_PATCH),
    ("PATCH", f"{MAPS}/applied{{n}}?fieldManager=m&force=true", config_map("applied{n}"), APPLY),
    ("DELETE", f"{MAPS}/victim", None, ""),
    ("DELETE", f"{MAPS}?labelSelector=gone=yes", None, ""),
    ("POST", PODS, pod("new{n}"), ""),
    ("PATCH", f"{PODS}/kept/status", {"status": {"message": "{n}"}}, STRATEGIC),
    ("POST", f"{PODS}/kept/binding", {"metadata": {"name": "kept"}, "target": {"kind": "Node", "name": "n"}}, ""),
    ("POST", f"{PODS}/kept/eviction", {"metadata": {"name": "kept"}}, ""),
    ("GET", f"{DEPLOYMENTS}/kept/scale", None, ""),
    ("PATCH", f"{DEPLOYMENTS}/kept/scale", {"spec": {"replicas": 3}}, MERGE),
    ("POST", SERVICES, {"metadata": {"name": "s{n}"}, "spec": {"ports": [{"port": 1}]}}, ""),
    ("POST", "/api/v1/namespaces/default/serviceaccounts/default/token", {"spec": {}}, ""),
    ("POST", "/api/v1/namespaces", {"metadata": {"name": "space{n}"}}, ""),
    ("POST", "/api/v1/namespaces/default/events", {"metadata": {"name": "e{n}"}, "involvedObject": {}}, ""),
    ("POST", "/apis/authentication.k8s.io/v1/tokenreviews",
     review("TokenReview", "authentication.k8s.io", {"token": "x"}), ""),
    ("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
     review("SelfSubjectAccessReview", "authorization.k8s.io", {"resourceAttributes": {"verb": "get"}}), ""),
    ("GET", "/readyz", None, ""),
    ("GET", "/openapi/v3", None, ""),
]  # fmt: skip


class Cut(Coroutine[Any, Any, Any]):
    """A coroutine whose task is cancelled at its ``at``-th wait. ``waits`` counts them."""

    def __init__(self, work: Coroutine[Any, Any, Any], at: int) -> None:
        self._work = work
        self._at = at
        self.waits = 0
        self.task: asyncio.Task[Any] = asyncio.get_running_loop().create_task(self)

    def send(self, value: Any) -> Any:
        waits_for = self._work.send(value)
        self.waits += 1
        if self.waits == self._at:
            asyncio.get_running_loop().call_soon(self.task.cancel)
        return waits_for

    def throw(self, kind: Any, value: BaseException | None = None, trace: TracebackType | None = None) -> Any:  # type: ignore[override]
        return self._work.throw(kind if value is None else value)

    def close(self) -> None:
        self._work.close()

    def __await__(self) -> Any:
        raise TypeError("only a task may run this")


class World:
    def __init__(self, backend: Backend, root: str) -> None:
        self.backend = backend
        self.server = APIServer(Config(seed=1, storage_root=root), backend, SystemClock())
        self.start = 0

    async def request(
        self, method: str, path: str, body: Any, media: str, *, read: bool = True, who: Identity = BOSS
    ) -> Response:
        """One request to its end, that of a streamed answer included."""
        number = str(next(_numbers))
        path = path.replace("{n}", number).replace("{start}", str(self.start))
        data = b"" if body is None else orjson.dumps(body).replace(b"{n}", number.encode())
        headers = Headers({"content-type": media or "application/json"} if data else {})
        path, _, query = path.partition("?")
        peer = Peer(identity=who, secure=True)
        response = await self.server.handler(Request(method, path, query, headers, data, peer))
        if read and callable(response.body):
            sink = MemorySink()
            asyncio.get_running_loop().call_later(0.02, sink.abandon)
            await response.body(sink)
        return response

    async def prepare(self) -> None:
        for path, body in ((MAPS, config_map("kept")), (MAPS, config_map("victim")), (PODS, pod("kept")),
                           (MAPS, config_map("bulk", gone="yes")), (DEPLOYMENTS, deployment("kept"))):  # fmt: skip
            await self.request("POST", path, body, "")

    async def others_are_served(self) -> None:
        """A consistent read of a kind that the request was about, and of one that it was not."""
        async with asyncio.timeout(PATIENCE):
            await self.backend.put(Put(b"/elsewhere", str(next(_numbers)).encode()))
            for path in (f"{MAPS}/kept", "/api/v1/namespaces/default", "/readyz"):
                assert (await self.request("GET", path, None, "")).status == 200, path


@asynccontextmanager
async def world_on(kind: str, directory: Path, endpoint: str) -> AsyncIterator[World]:
    root = f"/registry{next(_numbers)}" if kind == "etcd" else "/registry"
    async with backend_of(kind, directory, endpoint) as backend:
        world = World(backend, "/registry" if kind != "etcd" else root)
        await world.server.start()
        try:
            bindings = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"
            await world.request("POST", bindings, BINDING, "", who=ADMIN)
            await world.server._feed.fresh()
            await world.request(
                "POST", "/api/v1/namespaces/default/serviceaccounts", {"metadata": {"name": "default"}}, ""
            )
            world.start = await backend.current_revision()
            yield world
        finally:
            await world.server.stop()


@pytest.fixture
def endpoint(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if "etcd" not in request.node.name:
        yield ""
        return
    if not HAVE_ETCD:
        pytest.skip("etcd is not installed")
    with real_etcd(tmp_path / "etcd") as members:
        yield members[0].endpoint


@pytest.mark.parametrize("kind", KINDS)
def test_every_request_cut_at_every_wait_leaves_the_others_served(kind: str, tmp_path: Path, endpoint: str) -> None:
    async def main() -> int:
        cuts = 0
        async with world_on(kind, tmp_path, endpoint) as world:
            for method, path, body, media in REQUESTS:
                for at in itertools.count(1):
                    await world.prepare()
                    ahead = asyncio.ensure_future(world.backend.put(Put(b"/ahead", str(at).encode())))
                    cut = Cut(world.request(method, path, body, media), at)
                    await asyncio.wait((cut.task,), timeout=PATIENCE)
                    assert cut.task.done(), f"{method} {path} does not end when it is cancelled at wait {at}"
                    if not cut.task.cancelled():
                        cut.task.result()
                    await ahead
                    await world.others_are_served()
                    if cut.waits < at:
                        break
                    cuts += 1
            assert (world.server.gate.in_flight.reading, world.server.gate.in_flight.mutating) == (0, 0)
        return cuts

    assert asyncio.run(main()) >= (10 if kind in ("memory", "sqlite") else 30)


@pytest.mark.parametrize("kind", KINDS)
def test_a_hundred_cut_requests_at_once_leave_open_watches_whole(kind: str, tmp_path: Path, endpoint: str) -> None:
    """What is shared most: a watch that was opened before sees every change that was acknowledged, in order."""

    async def main() -> None:
        async with world_on(kind, tmp_path, endpoint) as world:
            await world.prepare()
            sink = MemorySink()
            response = await world.request("GET", f"{MAPS}?watch=1&resourceVersion={{start}}", None, "", read=False)
            assert callable(response.body)
            watching = asyncio.ensure_future(response.body(sink))
            for at in range(1, 12):
                cuts = [Cut(world.request(*request), at) for request in REQUESTS if "watch=" not in request[1]]
                await asyncio.wait([cut.task for cut in cuts], timeout=PATIENCE)
                assert all(cut.task.done() for cut in cuts)
                await world.others_are_served()
            await world.request("POST", MAPS, config_map("last"), "")
            seen = b""
            async with asyncio.timeout(PATIENCE):
                async for piece in sink.take():
                    seen += piece
                    if b'"name":"last"' in seen and seen.endswith(b"\n"):
                        break
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            revisions = [int(orjson.loads(line)["object"]["metadata"]["resourceVersion"]) for line in seen.splitlines()]
            assert revisions == sorted(revisions)

    asyncio.run(main())
