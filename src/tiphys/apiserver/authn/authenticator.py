"""``Authenticator``: finds out who calls; the union asks several in order.

Source: https://kubernetes.io/docs/reference/access-authn-authz/authentication/
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from tiphys.api.credentials import bearer_token
from tiphys.apiserver.call import NO_REMARKS, Remarks, User
from tiphys.runtime.clock import Clock
from tiphys.wire.http import Request

AUTHENTICATED, UNAUTHENTICATED = "system:authenticated", "system:unauthenticated"


class Rejected(Exception):
    """The caller shows a credential that is not valid."""

    def __init__(self, text: str, remarks: Remarks = NO_REMARKS) -> None:
        super().__init__(text)
        self.remarks = remarks


class Authenticator(Protocol):
    async def authenticate(self, request: Request) -> User | None:
        """None if the request shows no credential of this kind. Raises ``Rejected``."""
        ...


@dataclass(frozen=True, slots=True)
class Bearer:
    """Whose token it is; ``audiences`` are the requested ones that the token is for."""

    user: User
    audiences: tuple[str, ...]


class TokenAuthenticator(Protocol):
    async def bearer_of(self, token: str, audiences: Sequence[str]) -> Bearer | None:
        """The bearer of a token that is for one of ``audiences``; None for a token of another kind. Raises
        ``Rejected``."""
        ...


class PlainTokens(Protocol):
    """Tokens that name no audience."""

    async def user_of(self, token: str) -> User | None:
        """Raises ``Rejected``."""
        ...


class ForTheServer:
    """Tokens without an audience are for the API server, and nobody else."""

    def __init__(self, tokens: PlainTokens, audiences: Sequence[str]) -> None:
        self._tokens = tokens
        self._audiences = audiences

    async def bearer_of(self, token: str, audiences: Sequence[str]) -> Bearer | None:
        shared = common(self._audiences, audiences)
        user = await self._tokens.user_of(token) if shared else None
        return None if user is None else Bearer(user, shared)


def common(own: Sequence[str], wanted: Sequence[str]) -> tuple[str, ...]:
    """The audiences that are in both, as they are wanted."""
    held = set(own)
    return tuple(audience for audience in wanted if audience in held)


class InProcess:
    """Callers in the same process say who they are."""

    async def authenticate(self, request: Request) -> User | None:
        identity = request.peer.identity
        return None if identity is None else User(identity[0], identity[1])


def authorization(request: Request) -> str:
    """The header; the first one of several."""
    return next(iter(request.headers.each("authorization")), "")


class BearerTokens:
    """``Authorization: Bearer``. ``audiences`` are the server's.

    A bearer's identity is believed for ``remember`` seconds, as upstream does it.
    """

    def __init__(
        self,
        tokens: Sequence[TokenAuthenticator],
        audiences: Sequence[str],
        clock: Clock,
        remember: float = 10.0,
    ) -> None:
        self._tokens = tokens
        self._audiences = audiences
        self._clock = clock
        self._remember = remember
        self._known: dict[str, tuple[float, User]] = {}

    async def authenticate(self, request: Request) -> User | None:
        token = bearer_token(authorization(request))
        return await self.user_of(token) if token else None

    async def user_of(self, token: str) -> User:
        """The bearer of a token for this server. Raises ``Rejected``."""
        known = self._known.get(token)
        if known is not None and known[0] > self._clock.monotonic():
            return known[1]
        bearer = await self.bearer_of(token, self._audiences)
        if bearer is None:
            raise Rejected("invalid bearer token")
        if len(self._known) > 10_000:
            self._known.clear()
        self._known[token] = (self._clock.monotonic() + self._remember, bearer.user)
        return bearer.user

    async def bearer_of(self, token: str, audiences: Sequence[str]) -> Bearer | None:
        """The bearer, by the first kind of token that knows it; a reason only if none does."""
        reason: Rejected | None = None
        for tokens in self._tokens:
            try:
                bearer = await tokens.bearer_of(token, audiences)
            except Rejected as error:
                reason = error
                continue
            if bearer is not None:
                return replace(bearer, user=authenticated(bearer.user))
        if reason is not None:
            raise reason
        return None


class Union:
    """Asks in order; the first that knows the caller decides."""

    def __init__(self, authenticators: Sequence[Authenticator]) -> None:
        self._authenticators = tuple(authenticators)

    async def authenticate(self, request: Request) -> User | None:
        reason: Rejected | None = None
        for authenticator in self._authenticators:
            try:
                user = await authenticator.authenticate(request)
            except Rejected as error:
                reason = error
                continue
            if user is not None:
                return authenticated(user)
        if reason is not None:
            raise reason
        return None


def authenticated(user: User) -> User:
    """Everybody who is known is a member of ``system:authenticated``."""
    if AUTHENTICATED in user.groups or UNAUTHENTICATED in user.groups:
        return user
    return User(user.name, (*user.groups, AUTHENTICATED), user.uid, user.extra, user.remarks)
