"""The dashboard's server: nothing without a session, nothing from other sites, and only what a user may say goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import pytest

from tiphys.addons.dashboard.assets import Assets
from tiphys.addons.dashboard.guard import LOCAL_NAMES
from tiphys.addons.dashboard.handler import DashboardHandler, Door
from tiphys.addons.dashboard.onward import is_served
from tiphys.addons.dashboard.sessions import IDLE_SECONDS, LONGEST_SECONDS, MOST, Identity, Sessions
from tiphys.runtime.clock import SystemClock
from tiphys.wire.http import Headers, Request, Response, Sink
from tiphys.wire.inprocess import InProcessTransport

CODE = "abcdefgh"
HOST = "127.0.0.1:8001"


class Served:
    """A dashboard over an API server that remembers what it was asked."""

    def __init__(self, *, secure: bool = False, owner: bool = True) -> None:
        self.asked: list[Request] = []
        self.status = 201
        transport = InProcessTransport(self._api)
        door = Door(transport, Identity(transport) if owner else None, CODE if owner else "")
        names = frozenset() if secure else LOCAL_NAMES
        self.handler = DashboardHandler(door, Assets(), SystemClock(), lambda: 8001, secure=secure, names=names)

    async def _api(self, request: Request) -> Response:
        self.asked.append(request)
        headers = {"Content-Type": "text/html", "Set-Cookie": "stolen=1", "Access-Control-Allow-Origin": "*"}
        return Response(self.status, headers, b"<script>alert(1)</script>")

    async def ask(self, method: str, path: str, body: object = None, **headers: str) -> Response:
        fields = {"host": HOST, **{name.replace("_", "-"): value for name, value in headers.items()}}
        data = b""
        if body is not None:
            fields, data = {**fields, "content-type": "application/json"}, orjson.dumps(body)
        return await self.handler(Request(method, path, "", Headers(fields), data))

    async def log_in(self, **words: str) -> dict[str, str]:
        """The headers that prove a session."""
        answer = await self.ask("POST", "/session", words or {"code": CODE})
        assert answer.status == 200, answer.body
        cookie = answer.headers["Set-Cookie"].partition(";")[0]
        self.asked.clear()
        return {"cookie": cookie, "x_tiphys_key": content(answer)["key"]}


def content(answer: Response) -> Any:
    assert isinstance(answer.body, bytes)
    return orjson.loads(answer.body)


def run(main: Callable[[Served], Awaitable[None]], **options: bool) -> None:
    async def start() -> None:
        await main(Served(**options))

    asyncio.run(start())


def test_without_a_session_nothing_of_the_cluster_is_shown() -> None:
    async def main(served: Served) -> None:
        proof = await served.log_in()
        for path in ("/k8s/api/v1/pods", "/streams/api/v1/pods"):
            for headers in ({}, {"cookie": proof["cookie"]}, {"x_tiphys_key": proof["x_tiphys_key"]}):
                assert (await served.ask("GET", path, **headers)).status == 401
            assert (await served.ask("GET", path, **{**proof, "x_tiphys_key": "other"})).status == 401
        assert served.asked == []
        assert (await served.ask("GET", "/k8s/api/v1/pods", **proof)).status == 201

    run(main)


def test_a_wrong_code_and_a_token_that_is_not_believed_open_nothing() -> None:
    async def main(served: Served) -> None:
        assert (await served.ask("POST", "/session", {"code": "abcdefgi"})).status == 401
        served.status = 401
        answer = await served.ask("POST", "/session", {"token": "secret"})
        assert answer.status == 401
        assert "does not accept this token" in content(answer)["message"]
        assert "secret" not in str(answer.body)
        for words in ({}, {"token": "two words"}, {"token": 1}, ["token"], {"token": "a\nb"}):
            assert (await served.ask("POST", "/session", words)).status == 400
        assert len(served.handler.sessions) == 0

    run(main)


def test_a_code_is_no_way_into_a_server_that_has_none() -> None:
    async def main(served: Served) -> None:
        assert (await served.ask("POST", "/session", {"code": CODE})).status == 401

    run(main, owner=False)


def test_a_request_goes_on_as_the_user_and_says_nothing_else() -> None:
    async def main(served: Served) -> None:
        proof = await served.log_in(token="t0ken")
        smuggled = {
            "authorization": "Bearer other",
            "impersonate_user": "admin",
            "x_remote_user": "admin",
            "x_forwarded_for": "192.0.2.1",
            "accept": "application/json",
        }
        await served.ask("GET", "/k8s/api/v1/pods", **proof, **smuggled)
        (asked,) = served.asked
        assert {name: value for name, value in asked.headers.items() if name != "host"} == {
            "accept": "application/json",
            "user-agent": "tiphys-dashboard",
            "authorization": "Bearer t0ken",
        }

    run(main)


def test_what_the_api_answers_is_never_a_page_of_this_origin() -> None:
    async def main(served: Served) -> None:
        proof = await served.log_in()
        answer = await served.ask("GET", "/k8s/api/v1/namespaces/x/services/y/proxy/", **proof)
        assert "sandbox" in answer.headers["Content-Security-Policy"]
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["X-Frame-Options"] == "DENY"
        assert not {"Set-Cookie", "Access-Control-Allow-Origin"} & answer.headers.keys()

    run(main)


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": f"https://{HOST}"},
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
    ],
)
def test_other_sites_are_refused(headers: dict[str, str]) -> None:
    async def main(served: Served) -> None:
        proof = await served.log_in()
        for method, path in (("GET", "/k8s/api/v1/pods"), ("DELETE", "/k8s/api/v1/pods"), ("POST", "/session")):
            assert (await served.ask(method, path, {"code": CODE}, **proof, **headers)).status == 403
        assert served.asked == []

    run(main)


def test_a_name_that_was_pointed_at_this_machine_is_refused() -> None:
    async def main(served: Served) -> None:
        request = Request("GET", "/", "", Headers({"host": "evil.example:8001"}))
        assert (await served.handler(request)).status == 421

    run(main)


def test_the_page_may_load_nothing_from_elsewhere_and_be_in_no_frame() -> None:
    async def main(served: Served) -> None:
        first, second = await served.ask("GET", "/"), await served.ask("GET", "/")
        policy = first.headers["Content-Security-Policy"]
        assert first.headers["X-Frame-Options"] == "DENY"
        for words in ("default-src 'none'", "script-src 'self';", "frame-ancestors 'none'", "base-uri 'none'"):
            assert words in policy
        assert "unsafe" not in policy
        assert policy != second.headers["Content-Security-Policy"], "the nonce is another one each time"
        nonce = policy.partition("'nonce-")[2].partition("'")[0]
        assert isinstance(first.body, bytes)
        assert nonce.encode() in first.body
        assert b"http" not in first.body, "no address of another host"

    run(main)


def test_cookies_are_for_this_server_and_no_script() -> None:
    async def main(served: Served) -> None:
        answer = await served.ask("POST", "/session", {"token": "t"}, origin=f"https://{HOST}")
        name, *attributes = answer.headers["Set-Cookie"].split("; ")
        assert name.startswith("__Host-tiphys=")
        assert {"Path=/", "HttpOnly", "SameSite=Strict", "Secure"} <= set(attributes)
        assert not any(word.startswith(("Expires", "Max-Age", "Domain")) for word in attributes)

    run(main, secure=True, owner=False)


@pytest.mark.parametrize(
    ("path", "served"),
    [
        ("/api", True),
        ("/apis/apps/v1/deployments", True),
        ("/openapi/v3", True),
        ("/version", True),
        ("/metrics", False),
        ("/debug/pprof", False),
        ("/api/../metrics", False),
        ("/api//metrics", False),
        ("/logs/x", False),
    ],
)
def test_paths(path: str, served: bool) -> None:
    assert is_served(path) is served


def test_logging_out_ends_the_session_and_its_streams() -> None:
    async def main(served: Served) -> None:
        proof = await served.log_in()
        (session,) = served.handler.sessions._by_cookie.values()
        answer = await served.ask("DELETE", "/session", **proof)
        assert "Max-Age=0" in answer.headers["Set-Cookie"]
        assert session.ended.is_set()
        assert (await served.ask("GET", "/k8s/api/v1/pods", **proof)).status == 401

    run(main)


class _Sink:
    closed = False
    buffered = 0

    def __init__(self) -> None:
        self.written = b""

    def write(self, data: bytes) -> None:
        self.written += data

    async def drain(self) -> None:
        return

    async def wait_closed(self) -> None:
        await asyncio.Event().wait()


def test_an_answer_that_goes_on_ends_with_its_session() -> None:
    async def main(served: Served) -> None:
        async def forever(sink: Sink) -> None:
            sink.write(b"first")
            await asyncio.Event().wait()

        async def api(request: Request) -> Response:
            return Response(200, {}, forever)

        transport = InProcessTransport(api)
        served.handler.door = Door(transport, Identity(transport), CODE)
        proof = await served.log_in()
        answer = await served.ask("GET", "/k8s/api/v1/pods", **proof)
        assert callable(answer.body)
        sink = _Sink()
        streaming = asyncio.ensure_future(answer.body(sink))
        while not sink.written:
            await asyncio.sleep(0)
        (session,) = served.handler.sessions._by_cookie.values()
        assert session.streams == 1
        await served.ask("DELETE", "/session", **proof)
        await asyncio.wait_for(streaming, 5)
        assert session.streams == 0

    run(main)


def test_sessions_end_by_themselves() -> None:
    sessions = Sessions()
    identity = Identity(InProcessTransport(lambda request: None))  # type: ignore[arg-type, return-value]
    idle, busy = sessions.open(identity, 0.0), sessions.open(identity, 0.0)
    busy.streams = 1
    sessions.sweep(IDLE_SECONDS + 1)
    assert (idle.ended.is_set(), busy.ended.is_set()) == (True, False)
    assert sessions.of(iter([busy.cookie]), busy.key, LONGEST_SECONDS + 1) is None
    assert busy.ended.is_set()


def test_there_are_never_more_sessions_than_so_many() -> None:
    sessions = Sessions()
    identity = Identity(InProcessTransport(lambda request: None))  # type: ignore[arg-type, return-value]
    first = sessions.open(identity, 0.0)
    for number in range(MOST):
        sessions.open(identity, 1.0 + number / MOST)
    assert len(sessions) == MOST
    assert first.ended.is_set()
