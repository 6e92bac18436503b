"""The proxy subresources and logs: what is sent on, what comes back, and which URLs are rewritten."""

from __future__ import annotations

import asyncio
import gzip

import pytest

from tiphys.api.errors import StatusError
from tiphys.apiserver.endpoints.subresources.connect import path_behind_proxy
from tiphys.apiserver.streaming.links import Rewriter
from tiphys.apiserver.streaming.location import Location
from tiphys.apiserver.streaming.log import pod_log
from tiphys.apiserver.streaming.reverse import reverse_proxy
from tiphys.wire.http import ClientResponse, Handler, Headers, Peer, Request, Response, Sink
from tiphys.wire.inprocess import InProcessTransport

PREFIX = "/api/v1/namespaces/default/services/web:80/proxy"


def through(target: Handler, request: Request, path: str) -> tuple[ClientResponse, bytes]:
    """Send a request through the proxy; the answer as a client sees it."""

    async def main() -> tuple[ClientResponse, bytes]:
        backend = InProcessTransport(target)

        async def proxy(_: Request) -> Response:
            return await reverse_proxy(request, backend, Location(path, scheme="http", host="10.1.1.1:80"))

        answer = await InProcessTransport(proxy).send(Request(request.method, request.path))
        return answer, await answer.read()

    return asyncio.run(main())


@pytest.mark.parametrize(
    ("path", "behind"),
    [
        ("/api/v1/namespaces/proxy-1/services/proxy-2:80/proxy/a/proxy/b", "/a/proxy/b"),
        ("/api/v1/namespaces/a/pods/x/proxy/", "/"),
        ("/api/v1/namespaces/a/pods/x/proxy", ""),
        ("/api/v1/nodes/proxy/proxy/metrics", "/metrics"),
    ],
)
def test_the_path_behind_the_proxy(path: str, behind: str) -> None:
    assert path_behind_proxy(path, namespaced="/namespaces/" in path) == behind


def test_request_and_answer() -> None:
    seen: list[Request] = []

    async def target(request: Request) -> Response:
        seen.append(request)
        headers = {"Content-Type": "text/plain", "X-App": "1", "Access-Control-Allow-Origin": "*", "Keep-Alive": "5"}
        return Response(201, {**headers, "Connection": "x-hop", "X-Hop": "1"}, b"made " + request.body)

    headers = Headers(
        {"host": "api:6443", "authorization": "Bearer s", "x-hop": "1", "connection": "x-hop, keep-alive"}
    )
    headers |= {"x-forwarded-for": "1.2.3.4", "accept": "*/*", "content-length": "5", "impersonate-user": "root"}
    request = Request("PUT", f"{PREFIX}/a/b%20c/", "x=1", headers, b"thing", Peer("9.9.9.9", 1))
    answer, body = through(target, request, "/a/b%20c/")
    assert (answer.status, body) == (201, b"made thing")
    assert dict(answer.headers) == {"content-type": "text/plain", "x-app": "1", "content-length": "10"}
    sent = seen[0]
    assert (sent.method, sent.path, sent.query) == ("PUT", "/a/b%20c/", "x=1")
    assert dict(sent.headers) == {
        "host": "api:6443",
        "accept": "*/*",
        "x-forwarded-for": "1.2.3.4, 9.9.9.9",
        "x-forwarded-uri": f"{PREFIX}/a/b%20c/",
    }


def test_the_root_is_redirected_to_a_path_with_a_slash() -> None:
    async def target(request: Request) -> Response:
        raise AssertionError("not to be called")

    answer, _ = through(target, Request("GET", PREFIX, "a=b"), "")
    assert (answer.status, answer.headers["location"]) == (301, f"{PREFIX}/?a=b")


def test_streams_come_as_they_are_written() -> None:
    async def main() -> None:
        more = asyncio.Event()

        async def target(request: Request) -> Response:
            async def body(sink: Sink) -> None:
                sink.write(b"one")
                await more.wait()
                sink.write(b"two")

            return Response(200, {"Content-Type": "application/json"}, body)

        backend = InProcessTransport(target)

        async def proxy(request: Request) -> Response:
            return await reverse_proxy(request, backend, Location("/watch"))

        pieces = []
        answer = await InProcessTransport(proxy).send(Request("GET", f"{PREFIX}/watch"))
        async for piece in answer.chunks():
            pieces.append(piece)
            more.set()
        assert pieces == [b"one", b"two"]

    asyncio.run(main())


@pytest.mark.parametrize(
    ("location", "rewritten"),
    [
        ("/login?next=/", f"{PREFIX}/login?next=/"),
        ("http://10.1.1.1:80/x/", f"{PREFIX}/x/"),
        ("http://elsewhere/x", "http://elsewhere/x"),
        ("relative/x", "relative/x"),
        (f"{PREFIX}/done", f"{PREFIX}/done"),
    ],
)
def test_redirects_are_rewritten(location: str, rewritten: str) -> None:
    async def target(request: Request) -> Response:
        return Response(302, {"Location": location})

    answer, _ = through(target, Request("GET", f"{PREFIX}/start"), "/start")
    assert (answer.status, answer.headers["location"]) == (302, rewritten)


PAGE = (
    '<html><head><link rel=stylesheet href="/style.css"><!-- <a href="/not"> --></head><body>'
    "<a href='/x?a=1&amp;b=2' class=y>ü</a><a href=/bare>b</a><a href=\"http://elsewhere/\">e</a>"
    '<script src="/s.js">if (a < b) document.write("<a href=\'/no\'>")</script>'
    '<img alt="a>b" src="/i.png"/></body></html>'
)
REWRITTEN = (
    PAGE.replace('"/style.css"', f'"{PREFIX}/style.css"')
    .replace("'/x?a=1&amp;b=2'", f'"{PREFIX}/x?a=1&amp;b=2"')
    .replace("=/bare", f'="{PREFIX}/bare"')
    .replace('"/s.js"', f'"{PREFIX}/s.js"')
    .replace('"/i.png"', f'"{PREFIX}/i.png"')
)


@pytest.mark.parametrize("encoding", ["", "gzip"])
def test_links_in_pages_are_rewritten(encoding: str) -> None:
    async def target(request: Request) -> Response:
        body = gzip.compress(PAGE.encode()) if encoding else PAGE.encode()
        headers = {"Content-Type": "text/html; charset=utf-8"} | ({"Content-Encoding": encoding} if encoding else {})
        return Response(200, headers, body)

    answer, body = through(target, Request("GET", f"{PREFIX}/"), "/")
    assert (gzip.decompress(body) if encoding else body).decode() == REWRITTEN
    assert answer.headers["content-length"] == str(len(body))


def test_hostile_pages_are_read_in_linear_time() -> None:
    rewriter = Rewriter(PREFIX, "h", "r")
    for page in ("<a " * 20_000, "<!--" * 20_000, "<script>" * 2_000, "<a href='" * 5_000, "<a " + "x=" * 20_000):
        rewriter.page(page)


def test_unreachable_target() -> None:
    class Dead(InProcessTransport):
        async def send(self, request: Request, timeout: float | None = None) -> object:  # type: ignore[override]
            raise ConnectionRefusedError("connect to 10.1.1.1:80: Connection refused")

    async def never(request: Request) -> Response:
        raise AssertionError

    async def main() -> None:
        with pytest.raises(StatusError, match="error trying to reach service: connect to") as found:
            await reverse_proxy(Request("GET", f"{PREFIX}/"), Dead(never), Location("/"))
        assert (found.value.code, found.value.reason) == (503, "ServiceUnavailable")

    asyncio.run(main())


def test_log() -> None:
    async def kubelet(request: Request) -> Response:
        if request.path.endswith("/gone"):
            return Response(404, {}, b"not here")
        if request.path.endswith("/bad"):
            return Response(400, {}, b'container "x" is waiting to start')

        async def body(sink: Sink) -> None:
            sink.write(request.query.encode())

        return Response(200, {"Content-Type": "text/plain; charset=utf-8", "Transfer-Encoding": "chunked"}, body)

    async def main() -> None:
        transport = InProcessTransport(kubelet)

        async def api(request: Request) -> Response:
            return await pod_log(transport, Location(request.path, "follow=true"), "web")

        answer = await InProcessTransport(api).send(Request("GET", "/containerLogs/default/web/main"))
        assert (answer.headers["content-type"], await answer.read()) == ("text/plain", b"follow=true")
        with pytest.raises(StatusError) as found:
            await api(Request("GET", "/containerLogs/default/web/bad"))
        assert (found.value.reason, found.value.message) == ("BadRequest", 'container "x" is waiting to start')
        with pytest.raises(StatusError) as found:
            await api(Request("GET", "/containerLogs/default/web/gone"))
        assert found.value.message == "the server could not find the requested resource ( pods/log web)"
        assert found.value.status["details"] == {"name": "web", "kind": "pods/log"}

    asyncio.run(main())


@pytest.mark.parametrize("encoding", ["", "gzip"])
def test_pages_that_are_too_large_to_rewrite_are_passed_on_as_they_come(encoding: str) -> None:
    """400 MB of HTML without a length must not be held; a gzip bomb neither."""
    written = most_ahead = taken = 0

    async def target(request: Request) -> Response:
        async def page(sink: Sink) -> None:
            nonlocal written, most_ahead
            for _ in range(400):
                sink.write(b"<a href=/x>" + bytes(100_000 - 11))
                written += 100_000
                most_ahead = max(most_ahead, written - taken)
                await sink.drain()

        headers = {"Content-Type": "text/html"}
        if encoding:
            return Response(200, {**headers, "Content-Encoding": "gzip"}, gzip.compress(bytes(50_000_000)))
        return Response(200, headers, page)

    async def main() -> None:
        nonlocal taken
        backend = InProcessTransport(target)

        async def proxy(request: Request) -> Response:
            return await reverse_proxy(request, backend, Location("/p", scheme="http", host="10.1.1.1:80"))

        answer = await InProcessTransport(proxy).send(Request("GET", f"{PREFIX}/p"))
        beginning = b""
        async for piece in answer.chunks():
            taken += len(piece)
            beginning = beginning or piece[:11]
        assert beginning.startswith(b"\x1f\x8b" if encoding else b"<a href=/x>")
        assert taken == (written or len(gzip.compress(bytes(50_000_000))))
        assert most_ahead < 5_000_000

    asyncio.run(main())
