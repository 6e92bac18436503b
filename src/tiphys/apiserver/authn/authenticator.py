"""``Authenticator``: finds out who calls; the union asks several in order.

Source: https://kubernetes.io/docs/reference/access-authn-authz/authentication/
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from tiphys.apiserver.call import User
from tiphys.runtime.clock import Clock
from tiphys.wire.http import Request

AUTHENTICATED, UNAUTHENTICATED = "system:authenticated", "system:unauthenticated"


class Rejected(Exception):
    """The caller shows a credential that is not valid."""


class Authenticator(Protocol):
    async def authenticate(self, request: Request) -> User | None:
        """None where the request shows no credential of this kind. Raises ``Rejected``."""
        ...


class TokenAuthenticator(Protocol):
    async def user_of(self, token: str, audiences: Sequence[str] = ()) -> User | None:
        """The bearer of a token; None where it is not of this kind. Raises ``Rejected``."""
        ...


class InProcess:
    """Callers in the same process say who they are."""

    async def authenticate(self, request: Request) -> User | None:
        identity = request.peer.identity
        return None if identity is None else User(identity[0], identity[1])


class BearerTokens:
    """``Authorization: Bearer``, and the WebSocket subprotocol by which browsers send a token.

    A bearer's identity is believed for ``remember`` seconds, as upstream does it.
    """

    def __init__(self, tokens: Sequence[TokenAuthenticator], clock: Clock, remember: float = 10.0) -> None:
        self._tokens = tokens
        self._clock = clock
        self._remember = remember
        self._known: dict[str, tuple[float, User]] = {}

    async def authenticate(self, request: Request) -> User | None:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            return None
        token = token.strip()
        if not token:
            return None
        known = self._known.get(token)
        if known is not None and known[0] > self._clock.monotonic():
            return known[1]
        return await self._ask(token)

    async def _ask(self, token: str) -> User:
        user = await self.user_of(token)
        if user is None:
            raise Rejected("invalid bearer token")
        user = authenticated(user)
        if len(self._known) > 10_000:
            self._known.clear()
        self._known[token] = (self._clock.monotonic() + self._remember, user)
        return user

    async def user_of(self, token: str, audiences: Sequence[str] = ()) -> User | None:
        """The bearer, by the first kind of token that knows it; a reason only where none does."""
        reason: Rejected | None = None
        for tokens in self._tokens:
            try:
                user = await tokens.user_of(token, audiences)
            except Rejected as error:
                reason = error
                continue
            if user is not None:
                return user
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
    return replace(user, groups=(*user.groups, AUTHENTICATED))
