"""Who calls a server that is not the API server, and what they may do: the API server's word on both, remembered.

Source: https://kubernetes.io/docs/tasks/extend-kubernetes/configure-aggregation-layer/#authentication-flow
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import orjson

from tiphys.api.credentials import bearer_token, in_force, subject_of
from tiphys.api.object import Object
from tiphys.client.resources import CONFIG_MAPS, SUBJECT_ACCESS_REVIEWS, TOKEN_REVIEWS
from tiphys.client.rest import Client
from tiphys.runtime.clock import Clock
from tiphys.runtime.expiring import Expiring
from tiphys.wire.http import Request

if TYPE_CHECKING:
    from cryptography import x509

_REMEMBERED = 4096
_SOURCE = ("extension-apiserver-authentication", "kube-system")


class User(NamedTuple):
    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: tuple[tuple[str, tuple[str, ...]], ...] = ()


MASTERS = "system:masters"
ANONYMOUS = User("system:anonymous", ("system:unauthenticated",))


def user_of_certificate(der: bytes) -> User | None:
    """The user that a client certificate names: common name, and organizations as groups; None if it names nobody, or
    nobody clearly."""
    from cryptography import x509

    subject = subject_of(x509.load_der_x509_certificate(der).subject)
    if not subject.common_name or subject.is_ambiguous:
        return None
    return User(subject.common_name, (*subject.organizations, "system:authenticated"))


class TokenReviews:
    """The users of bearer tokens, by TokenReview; an answer is remembered for ``seconds``."""

    def __init__(self, client: Client, clock: Clock, seconds: float) -> None:
        self._client = client
        self._clock = clock
        self._seconds = seconds
        self._known: Expiring[str, User | None] = Expiring(_REMEMBERED)

    async def user(self, token: str) -> User | None:
        """None for a token that the API server does not believe. Raises ``ApiError`` and ``ConnectionError``."""
        key = hashlib.sha256(token.encode()).hexdigest()
        if (held := self._known.get(key, self._clock.monotonic())) is not None:
            return held[0]
        review = {"kind": "TokenReview", "apiVersion": "authentication.k8s.io/v1", "spec": {"token": token}}
        status = (await self._client.create(TOKEN_REVIEWS, review)).get("status") or {}
        user = _user(status.get("user") or {}) if status.get("authenticated") else None
        self._known.put(key, user, self._clock.monotonic() + self._seconds)
        return user


def _user(info: Object) -> User:
    extra = tuple((key, tuple(values)) for key, values in sorted((info.get("extra") or {}).items()))
    return User(info.get("username", ""), tuple(info.get("groups") or ()), info.get("uid", ""), extra)


class AccessReviews:
    """What users may do, by SubjectAccessReview; an answer is remembered, a refusal for less long. Seconds."""

    def __init__(self, client: Client, clock: Clock, allowed_for: float, denied_for: float) -> None:
        self._client = client
        self._clock = clock
        self._lasts = {True: allowed_for, False: denied_for}
        self._known: Expiring[tuple[User, bytes], bool] = Expiring(_REMEMBERED)

    async def allowed(self, user: User, attributes: Mapping[str, str]) -> bool:
        """``attributes`` are those of a resource, or, with ``path`` and ``verb`` alone, of a path.

        Raises ``ApiError`` and ``ConnectionError``.
        """
        kind = "nonResourceAttributes" if "path" in attributes else "resourceAttributes"
        key = (user, hashlib.sha256(orjson.dumps(attributes, option=orjson.OPT_SORT_KEYS)).digest())
        if (held := self._known.get(key, self._clock.monotonic())) is not None:
            return held[0]
        spec: Object = {"user": user.name, "groups": list(user.groups), kind: dict(attributes)}
        if user.uid:
            spec["uid"] = user.uid
        if user.extra:
            spec["extra"] = {name: list(values) for name, values in user.extra}
        review = {"kind": "SubjectAccessReview", "apiVersion": "authorization.k8s.io/v1", "spec": spec}
        status = (await self._client.create(SUBJECT_ACCESS_REVIEWS, review)).get("status") or {}
        allowed = bool(status.get("allowed"))
        self._known.put(key, allowed, self._clock.monotonic() + self._lasts[allowed])
        return allowed


class Trust(NamedTuple):
    """Whom a server beside the API server believes, as the API server publishes it. Authorities are PEM."""

    client_ca: bytes = b""
    proxy_ca: bytes = b""
    proxy_names: tuple[str, ...] = ()
    """Common names of proxies that may say who the caller is; none for any."""
    username_headers: tuple[str, ...] = ()
    uid_headers: tuple[str, ...] = ()
    group_headers: tuple[str, ...] = ()
    extra_prefixes: tuple[str, ...] = ()

    @property
    def authorities(self) -> bytes:
        return self.client_ca + self.proxy_ca


async def read_trust(client: Client) -> Trust:
    """What the ConfigMap ``extension-apiserver-authentication`` says. Raises ``ApiError`` and ``ConnectionError``."""
    data: Object = (await client.get(CONFIG_MAPS, *_SOURCE)).get("data") or {}

    def words(name: str) -> tuple[str, ...]:
        return tuple(word.lower() for word in orjson.loads(data.get(f"requestheader-{name}") or "[]"))

    return Trust(
        client_ca=data.get("client-ca-file", "").encode(),
        proxy_ca=data.get("requestheader-client-ca-file", "").encode(),
        proxy_names=tuple(orjson.loads(data.get("requestheader-allowed-names") or "[]")),
        username_headers=words("username-headers"),
        uid_headers=words("uid-headers"),
        group_headers=words("group-headers"),
        extra_prefixes=words("extra-headers-prefix"),
    )


class DelegatedAuthentication:
    """Callers of a server beside the API server: named by a front proxy, by a client certificate, or by a token."""

    def __init__(self, trust: Trust, tokens: TokenReviews | None, now: Callable[[], float] = time.time) -> None:
        """Without ``tokens``, none counts. ``now``: seconds since the epoch."""
        self._trust = trust
        self._now = now
        self._tokens = tokens

    async def user(self, request: Request) -> User | None:
        """None for a caller without a credential that counts. Raises ``ApiError`` and ``ConnectionError``."""
        if request.peer.identity is not None:
            return User(*request.peer.identity)
        if (der := request.peer.certificate) is not None and in_force(der, self._now()):
            if self._trust.proxy_ca and _is_issued_by(der, self._trust.proxy_ca):
                return self._named_by_proxy(request, der)
            if self._trust.client_ca and _is_issued_by(der, self._trust.client_ca):
                return user_of_certificate(der)
        token = bearer_token(next(iter(request.headers.each("authorization")), ""))
        return await self._tokens.user(token) if token and self._tokens is not None else None

    async def caller(self, request: Request) -> User | None:
        """The user, or for a caller without any credential the anonymous one; None for a credential that does not
        count. Raises what ``user`` raises."""
        if (user := await self.user(request)) is not None:
            return user
        token = bearer_token(next(iter(request.headers.each("authorization")), ""))
        return None if request.peer.refused_certificate or (token and self._tokens is not None) else ANONYMOUS

    def _named_by_proxy(self, request: Request, der: bytes) -> User | None:
        proxy = user_of_certificate(der)
        if proxy is None or (self._trust.proxy_names and proxy.name not in self._trust.proxy_names):
            return None
        headers = request.headers
        name = next((headers[header] for header in self._trust.username_headers if headers.get(header)), "")
        if not name:
            return None
        groups = next((headers.each(header) for header in self._trust.group_headers if headers.get(header)), [])
        extra = tuple(
            (header[len(prefix) :], tuple(headers.each(header)))
            for prefix in self._trust.extra_prefixes
            for header in sorted(headers)
            if header.startswith(prefix)
        )
        uid = next((headers[header] for header in self._trust.uid_headers if headers.get(header)), "")
        return User(name, tuple(groups), uid, extra)


class DelegatedAccess:
    """Who calls, and whether they may.

    ``tokens`` None: no token counts. ``reviews`` None: nobody is asked, and only administrators are allowed anything.
    """

    def __init__(self, trust: Trust, tokens: TokenReviews | None, reviews: AccessReviews | None) -> None:
        self._tokens = tokens
        self._reviews = reviews
        self.believe(trust)

    @classmethod
    def over(cls, client: Client, clock: Clock, trust: Trust, seconds: float = 10.0) -> DelegatedAccess:
        """Answers are remembered for ``seconds``."""
        reviews = AccessReviews(client, clock, seconds, seconds)
        return cls(trust, TokenReviews(client, clock, seconds), reviews)

    def believe(self, trust: Trust) -> None:
        """From now on, client certificates and proxies are these."""
        self._authentication = DelegatedAuthentication(trust, self._tokens)

    async def caller(self, request: Request) -> User | None:
        """None for a credential that does not count. Raises ``ApiError``, ``ConnectionError``."""
        return await self._authentication.caller(request)

    async def allows(self, user: User, attributes: Mapping[str, str]) -> bool:
        """Raises ``ApiError``, ``ConnectionError``."""
        if MASTERS in user.groups:
            return True
        return self._reviews is not None and await self._reviews.allowed(user, attributes)


def _is_issued_by(der: bytes, authorities: bytes) -> bool:
    """Whether one of the authorities has signed the certificate; the TLS layer has checked that one of all has."""
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature

    certificate = x509.load_der_x509_certificate(der)
    for authority in _read_authorities(authorities):
        try:
            certificate.verify_directly_issued_by(authority)
        except (ValueError, TypeError, InvalidSignature):
            continue
        return True
    return False


@lru_cache(8)
def _read_authorities(pem: bytes) -> list[x509.Certificate]:
    """Authorities change seldom, and every request with a certificate asks for them."""
    from cryptography import x509

    return x509.load_pem_x509_certificates(pem)
