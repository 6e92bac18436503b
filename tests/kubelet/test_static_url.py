"""Static pods of a URL: what is asked, what is read, and what becomes of the pods."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.kubelet.handclock import HandClock
from tests.kubelet.world import NODE, World, play_in_real_time
from tiphys.kubelet.command import configuration, parser
from tiphys.kubelet.config import KubeletConfig
from tiphys.kubelet.configz import describe
from tiphys.kubelet.pod.pods import CONFIG_HASH, CONFIG_SOURCE, Pod
from tiphys.kubelet.probes.requests import RequestFailure
from tiphys.kubelet.runtime.service import ContainerState
from tiphys.kubelet.sources.static import ManifestError
from tiphys.kubelet.sources.url import MOST, SourceFailure, UrlPods, parse_headers
from tiphys.runtime.flags import FlagError
from tiphys.wire.http import Request, Response
from tiphys.wire.server import serve


def manifest(name: str, image: str = "web:1", **meta: Any) -> dict[str, Any]:
    spec = {"containers": [{"name": "main", "image": image, "command": ["sleep", "100000"]}]}
    return {"kind": "Pod", "apiVersion": "v1", "metadata": {"name": name, **meta}, "spec": spec}


def pod_list(*pods: dict[str, Any]) -> dict[str, Any]:
    return {"kind": "PodList", "apiVersion": "v1", "items": list(pods)}


class Page:
    """Plays the server: what it answers, and what it was asked."""

    def __init__(self) -> None:
        self.status = 200
        self.body = b""
        self.location = ""
        self.requests: list[Request] = []
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/pods.yaml?a=b"

    def show(self, what: Any) -> None:
        self.body = json.dumps(what).encode()

    async def handle(self, request: Request) -> Response:
        self.requests.append(request)
        if self.location and request.path == "/pods.yaml":
            return Response(302, {"Location": self.location}, b"")
        return Response(self.status, {"Content-Type": "application/yaml"}, self.body)


@contextlib.asynccontextmanager
async def served() -> AsyncIterator[Page]:
    page = Page()
    server = await serve(page.handle, "127.0.0.1", 0)
    page.port = server.port
    try:
        yield page
    finally:
        await server.close()


def look(scene: Callable[[Page, UrlPods, list[list[Pod]]], Awaitable[None]]) -> None:
    async def main() -> None:
        async with served() as page:
            heard: list[list[Pod]] = []
            headers = [("Team", "a"), ("Team", "b")]
            source = UrlPods(
                page.url, headers, node_name="Node-1", clock=HandClock(), changed=heard.append, period=20.0
            )
            await scene(page, source, heard)

    asyncio.run(main())


def test_one_pod() -> None:
    async def scene(page: Page, source: UrlPods, heard: list[list[Pod]]) -> None:
        page.show(manifest("web", namespace="mine", annotations={"kept": "1"}))
        await source.look()
        [[one]] = heard
        assert (one["metadata"]["name"], one["metadata"]["namespace"]) == ("web-node-1", "mine")
        uid = one["metadata"]["uid"]
        assert (
            one["metadata"]["annotations"] | {CONFIG_SOURCE: "http", CONFIG_HASH: uid, "kept": "1"}
            == (one["metadata"]["annotations"])
        )
        assert (one["spec"]["nodeName"], one["spec"].get("tolerations")) == ("Node-1", None)
        [request] = page.requests
        assert (request.path, request.query) == ("/pods.yaml", "a=b")
        assert request.headers.get("team") is not None
        await source.look()
        assert len(heard) == 1  # nothing new
        page.show(manifest("web", "web:2", namespace="mine"))
        await source.look()
        assert heard[1][0]["metadata"]["uid"] != uid

    look(scene)


def test_several_pods() -> None:
    async def scene(page: Page, source: UrlPods, heard: list[list[Pod]]) -> None:
        page.show(pod_list(manifest("one", uid="given"), {**manifest("two"), "kind": "Pod"}))
        await source.look()
        assert [one["metadata"]["name"] for one in heard[0]] == ["one-node-1", "two-node-1"]
        assert heard[0][0]["metadata"]["uid"] == "given"
        page.body = b"kind: PodList\napiVersion: v1\nitems:\n- metadata: {name: yaml}\n  spec: {containers: []}\n"
        await source.look()
        assert [one["metadata"]["name"] for one in heard[1]] == ["yaml-node-1"]
        page.show(pod_list())
        await source.look()
        assert heard[2] == []

    look(scene)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"kind": "Service", "metadata": {"name": "a"}, "spec": {}}, "couldn't parse as single or multiple pods"),
        ("text", "couldn't parse as single or multiple pods"),
        (manifest(""), "the pod has no name"),
        (pod_list(manifest("good"), manifest("")), "the pod has no name"),
        (pod_list(manifest("good"), {"kind": "Service"}), "couldn't parse as single or multiple pods"),
        ({"kind": "PodList", "items": [7]}, "couldn't parse as single or multiple pods"),
    ],
)
def test_what_is_no_pod_changes_nothing(body: Any, message: str) -> None:
    async def scene(page: Page, source: UrlPods, heard: list[list[Pod]]) -> None:
        page.show(body)
        with pytest.raises(ManifestError, match=message):
            await source.look()
        assert heard == []

    look(scene)


def test_answers_that_are_failures_change_nothing_and_an_empty_one_is_no_pods() -> None:
    async def scene(page: Page, source: UrlPods, heard: list[list[Pod]]) -> None:
        page.show(manifest("web"))
        page.status = 404
        with pytest.raises(SourceFailure, match="404"):
            await source.look()
        page.status, page.body = 200, b"{" + b" " * MOST
        with pytest.raises(SourceFailure, match="more than"):
            await source.look()
        assert heard == []
        page.body = b""
        with pytest.raises(SourceFailure, match="zero-length data received from"):
            await source.look()
        assert heard == [[]]
        page.body = b"a: [\n"
        with pytest.raises(ManifestError, match="is not YAML"):
            await source.look()

    look(scene)


def test_redirects_are_followed_and_wrong_urls_refused() -> None:
    async def scene(page: Page, source: UrlPods, heard: list[list[Pod]]) -> None:
        page.show(manifest("web"))
        page.location = f"http://localhost:{page.port}/other"
        await source.look()
        assert len(heard[0]) == 1
        assert [request.path for request in page.requests] == ["/pods.yaml", "/other"]
        for url in ("ftp://a.b/c", "a.b/c", f"https://127.0.0.1:{page.port}/x", "http://127.0.0.1:1/x", "http://"):
            other = UrlPods(url, [], node_name="n", clock=HandClock(), changed=heard.append, period=1)
            with pytest.raises(RequestFailure):
                await other.look()
        assert len(heard) == 1

    look(scene)


def test_flags_and_what_is_shown_of_them() -> None:
    assert parse_headers("a:hello, b:x:y,a:world") == [("a", "hello"), ("b", "x:y"), ("a", "world")]
    words = ["--manifest-url=http://a/b", "--manifest-url-header=a:hello,b:again", "--manifest-url-header=a:more"]
    config, _ = configuration(parser().parse(["--kubeconfig=k", "--http-check-frequency=5s", *words]))
    assert config.static_headers == (("a", "hello"), ("b", "again"), ("a", "more"))
    shown = describe(config)
    assert (shown["staticPodURL"], shown["httpCheckFrequency"]) == ("http://a/b", "5s")
    assert shown["staticPodURLHeader"] == {"a": ["<masked>"], "b": ["<masked>"]}
    with pytest.raises(FlagError, match="malformed pair, expect string:string"):
        parser().parse(["--kubeconfig=k", "--manifest-url-header=a"])


def test_pods_come_change_and_go_and_outlive_a_kubelet_that_cannot_ask(tmp_path: Path) -> None:
    page = Page()

    def adjust(config: KubeletConfig) -> None:
        config.static_url, config.http_check_frequency = page.url, 0.05
        config.static_pod_path = tmp_path / "manifests"

    async def scene(world: World) -> None:
        async with served() as real:
            page.port = real.port
            real.show(pod_list(manifest("one"), manifest("two")))
            (tmp_path / "manifests").mkdir(exist_ok=True)
            (tmp_path / "manifests" / "file.yaml").write_text(json.dumps(manifest("file")))
            await world.restart()
            names = [f"{name}-{NODE}" for name in ("one", "two", "file")]
            await world.until(lambda: all(world.api.has_pod(name) and world.ready(name) for name in names))
            real.show(manifest("one"))
            await world.until(lambda: not world.api.has_pod(names[1]))
            while len(first := await running(world)) > 2:
                await asyncio.sleep(0.01)
            assert world.ready(names[0])
            real.status = 500
            await world.restart()
            await world.until(lambda: world.ready(names[2]))
            assert world.api.has_pod(names[0])  # nobody knows that it is gone
            assert await running(world) == first
            real.status = 200
            await world.until(lambda: world.kubelet._static.complete.is_set())
            real.body = b""
            await world.until(lambda: not world.api.has_pod(names[0]))
            assert world.ready(names[2])

    play_in_real_time(tmp_path, scene, adjust=adjust)


async def running(world: World) -> set[str]:
    return {c.id for c in await world.runtime.list_containers() if c.state is ContainerState.RUNNING}
