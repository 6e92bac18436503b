"""Who calls the kubelet, and what they may do: client certificates and tokens, and the API server's word on both.

Source: https://kubernetes.io/docs/reference/access-authn-authz/kubelet-authn-authz/
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from tiphys.api.credentials import bearer_token, subject_of
from tiphys.client.resources import SUBJECT_ACCESS_REVIEWS, TOKEN_REVIEWS
from tiphys.client.rest import Client
from tiphys.runtime.clock import Clock
from tiphys.runtime.expiring import Expiring
from tiphys.wire.http import Request

_ALLOWED_FOR = 300.0
_DENIED_FOR = 30.0
_TOKEN_FOR = 120.0
_REMEMBERED = 4096
_VERBS = {"POST": "create", "GET": "get", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_FINE = {"/pods": "pods", "/healthz": "healthz", "/configz": "configz", "/runningpods": "pods"}
_OWN = {"/stats": "stats", "/metrics": "metrics", "/logs": "log", "/checkpoint": "checkpoint"}


@dataclass(frozen=True, slots=True)
class User:
    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""


ANONYMOUS = User("system:anonymous", ("system:unauthenticated",))


def user_of_certificate(der: bytes) -> User | None:
    """The user that a client certificate names: common name, and organizations as groups; None if it names nobody, or
    nobody clearly."""
    from cryptography import x509

    subject = subject_of(x509.load_der_x509_certificate(der).subject)
    if not subject.common_name or subject.is_ambiguous:
        return None
    return User(subject.common_name, (*subject.organizations, "system:authenticated"))


class Authenticator:
    def __init__(self, client: Client, clock: Clock, *, anonymous: bool, tokens: bool) -> None:
        self._client = client
        self._clock = clock
        self._anonymous = anonymous
        self._tokens = tokens
        self._known: Expiring[str, User | None] = Expiring(_REMEMBERED)

    async def user(self, request: Request) -> User | None:
        """The caller, or None if nobody knows them. Raises ``ApiError`` and ``ConnectionError``."""
        if request.peer.identity is not None:
            return User(request.peer.identity[0], request.peer.identity[1])
        if request.peer.certificate is not None and (user := user_of_certificate(request.peer.certificate)) is not None:
            return user
        token = bearer_token(next(iter(request.headers.each("authorization")), ""))
        if token and self._tokens:
            return await self._user_of_token(token)
        if request.peer.refused_certificate:
            return None
        return ANONYMOUS if self._anonymous else None

    async def _user_of_token(self, token: str) -> User | None:
        key = hashlib.sha256(token.encode()).hexdigest()
        if (held := self._known.get(key, self._clock.monotonic())) is not None:
            return held[0]
        asked = {"kind": "TokenReview", "apiVersion": "authentication.k8s.io/v1", "spec": {"token": token}}
        status = (await self._client.create(TOKEN_REVIEWS, asked)).get("status") or {}
        user = None
        if status.get("authenticated"):
            reported = status.get("user") or {}
            user = User(reported.get("username", ""), tuple(reported.get("groups") or ()), reported.get("uid", ""))
        self._known.put(key, user, self._clock.monotonic() + _TOKEN_FOR)
        return user


def subresources(path: str) -> list[str]:
    """What of the node a path asks for, the finest first; any of them being allowed is enough."""

    def under(prefix: str) -> bool:
        return path == prefix or path.startswith(f"{prefix}/")

    names = [name for prefix, name in _FINE.items() if under(prefix)]
    own = next((name for prefix, name in _OWN.items() if under(prefix)), "proxy")
    return [*names, own]


class Authorizer:
    """Asks the API server whether a user may do something with this node; remembers the answers for a while."""

    def __init__(self, client: Client, clock: Clock, node_name: str) -> None:
        self._client = client
        self._clock = clock
        self._node_name = node_name
        self._known: Expiring[tuple[User, str, str], bool] = Expiring(_REMEMBERED)

    async def allowed(self, user: User, request: Request) -> bool:
        """Raises ``ApiError`` and ``ConnectionError``."""
        verb = _VERBS.get(request.method, "")
        for subresource in subresources(request.path):
            if await self._may(user, verb, subresource):
                return True
        return False

    async def _may(self, user: User, verb: str, subresource: str) -> bool:
        key = (user, verb, subresource)
        if (held := self._known.get(key, self._clock.monotonic())) is not None:
            return held[0]
        attributes = {
            "verb": verb,
            "version": "v1",
            "resource": "nodes",
            "subresource": subresource,
            "name": self._node_name,
        }
        spec = {"user": user.name, "groups": list(user.groups), "resourceAttributes": attributes}
        asked = {"kind": "SubjectAccessReview", "apiVersion": "authorization.k8s.io/v1", "spec": spec}
        status = (await self._client.create(SUBJECT_ACCESS_REVIEWS, asked)).get("status") or {}
        allowed = bool(status.get("allowed"))
        lasts = _ALLOWED_FOR if allowed else _DENIED_FOR
        self._known.put(key, allowed, self._clock.monotonic() + lasts)
        return allowed
