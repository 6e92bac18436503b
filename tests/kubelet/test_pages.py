"""The kubelet's own pages: health and what was found of it, ``/statusz`` and ``/flagz``, and who may see them."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.kubelet.world import World, container, play, pod
from tiphys.client.rest import Client
from tiphys.kubelet.server.auth import subresources
from tiphys.kubelet.server.handler import KubeletServer
from tiphys.wire.http import Headers, Request, Response
from tiphys.wire.inprocess import InProcessTransport

OBJECT = "application/json;as={};v=v1beta1;g=config.k8s.io"
Ask = Callable[..., Awaitable[tuple[int, str]]]


def seen(folder: Path, scene: Callable[[World, Ask], Awaitable[None]], authorization: str = "AlwaysAllow") -> None:
    async def act(world: World) -> None:
        world.kubelet.config.authorization = authorization
        world.kubelet.config.flags = {"node_ip": "192.0.2.10", "max_pods": 7, "config": None}
        transport = InProcessTransport(KubeletServer(world.kubelet).handle, identity=("someone", ()))

        async def ask(path: str, accept: str = "*/*", method: str = "GET") -> tuple[int, str]:
            target, _, query = path.partition("?")
            response = await transport.send(Request(method, target, query, Headers(accept=accept)))
            return response.status, (await response.read()).decode()

        await scene(world, ask)

    play(folder, act)


def test_health_is_shown_part_by_part_and_counted(tmp_path: Path) -> None:
    async def scene(world: World, ask: Ask) -> None:
        assert await ask("/healthz") == (200, "ok")
        assert await ask("/healthz/syncloop") == (200, "ok")
        whole = "[+]ping ok\n[+]log ok\n[+]syncloop ok\nhealthz check passed\n"
        assert await ask("/healthz?verbose") == (200, whole)
        world.kubelet.pleg.relisted_at = world.clock.monotonic() - 181
        status, text = await ask("/healthz")
        assert (status, "[-]syncloop failed: reason withheld\n" in text) == (500, True)
        status, figures = await ask("/metrics/slis")
        assert status == 200
        assert 'kubernetes_healthcheck{name="syncloop",type="healthz"} 0\n' in figures
        assert 'kubernetes_healthchecks_total{name="ping",status="success",type="healthz"} 3\n' in figures

    seen(tmp_path, scene)


def test_what_runs_and_its_flags(tmp_path: Path) -> None:
    async def scene(world: World, ask: Ask) -> None:
        status, text = await ask("/statusz")
        assert (status, "\nkubelet statusz\n" in text, "Paths: /configz" in text) == (200, True, True)
        status, text = await ask("/flagz")
        assert (status, text.endswith("config:\nmax-pods:7\nnode-ip:192.0.2.10\n")) == (200, True)
        shown = json.loads((await ask("/flagz", OBJECT.format("Flagz")))[1])
        assert (shown["kind"], shown["apiVersion"], shown["flags"]["max-pods"]) == (
            "Flagz",
            "config.k8s.io/v1beta1",
            "7",
        )
        assert (await ask("/statusz", "application/json"))[0] == 406

    seen(tmp_path, scene)


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("/statusz", ["statusz"]),
        ("/flagz", ["configz"]),
        ("/healthz/ping", ["healthz", "proxy"]),
        ("/metrics/slis", ["metrics"]),
        ("/runningpods/", ["pods", "proxy"]),
        ("/statuszz", ["proxy"]),
    ],
)
def test_what_a_caller_must_be_allowed(path: str, asked: list[str]) -> None:
    assert subresources(path) == asked


def test_a_refusal_names_what_was_asked(tmp_path: Path) -> None:
    async def nobody(request: Request) -> Response:
        return Response(201, {"Content-Type": "application/json"}, b'{"status": {"allowed": false}}')

    async def scene(world: World) -> None:
        world.kubelet.client = Client(InProcessTransport(nobody))
        transport = InProcessTransport(KubeletServer(world.kubelet).handle, identity=("someone", ()))
        refused = "Forbidden (user=someone, verb=get, resource=nodes, subresource(s)=[{}])\n"
        for path, asked in (("/pods", "pods proxy"), ("/statusz", "statusz"), ("/flagz", "configz")):
            response = await transport.send(Request("GET", path))
            assert (response.status, (await response.read()).decode()) == (403, refused.format(asked))

    play(tmp_path, scene)


def test_a_container_is_written_to_an_archive(tmp_path: Path) -> None:
    async def scene(world: World, ask: Ask) -> None:
        async def checkpoint(path: str) -> tuple[int, str]:
            return await ask(f"/checkpoint/default/{path}", method="POST")

        world.add(pod("web", container("main"), initContainers=[container("init")]))
        await world.until(lambda: world.started("init") == 1, 5)
        assert (await ask("/checkpoint/default/web/main"))[0] == 405
        assert await checkpoint("none/main") == (404, "pod does not exist")
        assert await checkpoint("web/other") == (404, "container other does not exist")
        assert await checkpoint("web/init?timeout=soon") == (404, "cannot parse value of timeout parameter")
        failed = "checkpointing of default/web/{} failed ({})"
        assert await checkpoint("web/main") == (500, failed.format("main", "container main not found"))
        about = "CheckpointContainer requires the timeout value to be > 0"
        assert await checkpoint("web/init?timeout=-1") == (500, failed.format("init", about))
        world.runtime.checkpoints = None
        about = "rpc error: code = Unimplemented desc = method CheckpointContainer not implemented"
        assert await checkpoint("web/init") == (500, failed.format("init", about))
        world.runtime.checkpoints = []
        status, text = await checkpoint("web/init?timeout=9&timeout=500")
        [location] = json.loads(text)["items"]
        assert (status, world.runtime.checkpoints[0][1:]) == (200, (location, 500))
        assert location.startswith(f"{world.folder}/kubelet/checkpoints/checkpoint-web_default-init-20")
        assert (world.folder / "kubelet" / "checkpoints").stat().st_mode & 0o777 == 0o700

    seen(tmp_path, scene)
