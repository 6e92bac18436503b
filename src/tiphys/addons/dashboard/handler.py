"""``DashboardHandler``: the page's files, log-in and log-out, and the way to the API server.

=========================  ===========================================================================
``GET /``, files           the page; nothing in it is secret
``POST /session``          log in by a token or, on one's own machine, by the code that the command shows
``DELETE /session``        log out
``/k8s/…``                 the API server, as the user, Upgrades too
``/streams/…``             a watch or a log, over a WebSocket
=========================  ===========================================================================
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import dataclass, field

import orjson

from tiphys.addons.dashboard import guard, onward, streams
from tiphys.addons.dashboard.assets import Assets
from tiphys.addons.dashboard.sessions import Identity, Sessions, UserSession
from tiphys.runtime.clock import Clock
from tiphys.wire.http import Headers, Request, Response, Transport
from tiphys.wire.websocket import HandshakeError, is_websocket

_REVIEW = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
_MOST_BODY = 65536


@dataclass(frozen=True, slots=True)
class Door:
    """How somebody gets in: by a token over ``anonymous`` connections, or as ``owner`` by the ``code``."""

    anonymous: Transport
    owner: Identity | None = None
    code: str = ""


@dataclass(slots=True)
class DashboardHandler:
    """``names``: hosts that requests may name, any if empty. ``secure``: served by TLS."""

    door: Door
    assets: Assets
    clock: Clock
    port: Callable[[], int]
    secure: bool
    names: frozenset[str] = frozenset()
    sessions: Sessions = field(default_factory=Sessions)

    async def __call__(self, request: Request) -> Response:
        if request.path in ("/healthz", "/readyz", "/livez"):
            return Response(200, {"Content-Type": "text/plain", **guard.data_headers()}, b"ok")
        if not guard.is_own_host(request, self.names):
            return _refuse(421, "this server goes by another name; use 127.0.0.1 or localhost")
        if request.method in ("GET", "HEAD") and (asset := self.assets.answer(request)) is not None:
            return asset
        if not guard.is_of_page(request, secure=self.secure):
            return _refuse(403, "this request comes from another site")
        if request.path == "/session":
            return await self._session(request)
        target = _target(request)
        if target is None:
            return _refuse(404, "no such page")
        session = self._of(request)
        if session is None:
            return _refuse(401, "log in first")
        if not onward.is_served(target):
            return _refuse(404, f"{target} is not a path of the API")
        return await self._carry_on(request, session)

    async def _carry_on(self, request: Request, session: UserSession) -> Response:
        try:
            if request.path.startswith(f"{streams.PREFIX}/"):
                if not is_websocket(request):
                    return _refuse(400, "streams are WebSockets")
                return streams.stream(request, session)
            return await onward.carry_on(request, session)
        except HandshakeError as error:
            return _refuse(400, str(error))
        except (ConnectionError, TimeoutError) as error:
            return _refuse(502, f"the API server cannot be reached: {error or 'timed out'}")

    # -- sessions

    @property
    def _cookie(self) -> str:
        """Browsers keep the cookies of a host's ports together, so that the name has the port."""
        return "__Host-tiphys" if self.secure else f"tiphys-{self.port()}"

    def _of(self, request: Request) -> UserSession | None:
        cookies = guard.cookies_of(request, self._cookie)
        return self.sessions.of(cookies, guard.session_key(request), self.clock.monotonic())

    async def _session(self, request: Request) -> Response:
        if request.method == "POST":
            return await self._log_in(request)
        session = self._of(request)
        if request.method == "DELETE":
            if session is not None:
                self.sessions.close(session)
            return _json(200, {}, {"Set-Cookie": self._set_cookie("", "; Max-Age=0")})
        if request.method != "GET":
            return _refuse(405, "use GET, POST or DELETE")
        return _json(200, {"open": session is not None, "byCode": bool(self.door.code)})

    async def _log_in(self, request: Request) -> Response:
        wanted = _document(request)
        if wanted is None:
            return _refuse(400, "the body must be JSON with the field token or code")
        identity = await self._identity(wanted)
        if isinstance(identity, Response):
            return identity
        session = self.sessions.open(identity, self.clock.monotonic())
        return _json(200, {"key": session.key}, {"Set-Cookie": self._set_cookie(session.cookie)})

    async def _identity(self, wanted: dict[str, str]) -> Identity | Response:
        """Whom the words of a log-in name; else why they name nobody."""
        code, token = wanted.get("code", "").strip(), wanted.get("token", "").strip()
        if code:
            if self.door.owner is None or not hmac.compare_digest(code.encode(), self.door.code.encode()):
                return _refuse(401, "this is not the code that `tiphys dashboard` shows in its terminal")
            return self.door.owner
        if not token or not token.isascii() or not token.isprintable() or " " in token:
            return _refuse(400, "paste a bearer token, such as `kubectl create token NAME` prints")
        identity = Identity(self.door.anonymous, lambda: token)
        return await self._check(identity) or identity

    async def _check(self, identity: Identity) -> Response | None:
        """What is wrong with a token, as the API server says; None if it believes it."""
        review = orjson.dumps({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"})
        headers = Headers({"content-type": "application/json", "accept": "application/json"})
        headers["authorization"] = f"Bearer {identity.token() if identity.token else ''}"
        try:
            answer = await identity.transport.send(Request("POST", _REVIEW, "", headers, review), onward.SECONDS)
            await answer.read(_MOST_BODY)
        except (ConnectionError, TimeoutError) as error:
            return _refuse(502, f"the API server cannot be reached: {error or 'timed out'}")
        if answer.status == 401:
            return _refuse(401, "the API server does not accept this token; it may have expired")
        return None

    def _set_cookie(self, value: str, more: str = "") -> str:
        secure = "; Secure" if self.secure else ""
        return f"{self._cookie}={value}; Path=/; HttpOnly; SameSite=Strict{secure}{more}"


def _target(request: Request) -> str | None:
    """The path at the API server that a request means; None if it means none."""
    for prefix in (onward.PREFIX, streams.PREFIX):
        if request.path.startswith(f"{prefix}/"):
            return request.path.removeprefix(prefix)
    return None


def _document(request: Request) -> dict[str, str] | None:
    if not request.headers.get("content-type", "").startswith("application/json") or len(request.body) > _MOST_BODY:
        return None
    try:
        document = orjson.loads(request.body)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(document, dict) or not all(isinstance(value, str) for value in document.values()):
        return None
    return document


def _json(status: int, body: object, more: dict[str, str] | None = None) -> Response:
    headers = {"Content-Type": "application/json", **guard.data_headers(), **(more or {})}
    return Response(status, headers, orjson.dumps(body))


def _refuse(code: int, message: str) -> Response:
    """A Status object, as the API answers, so that the page reads one kind of error."""
    status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": message}
    return _json(code, status)
