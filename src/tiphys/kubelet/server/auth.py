"""Who calls the kubelet, and what they may do: client certificates and tokens, and the API server's word on both.

Source: https://kubernetes.io/docs/reference/access-authn-authz/kubelet-authn-authz/
"""

from __future__ import annotations

from tiphys.api.credentials import bearer_token, in_force
from tiphys.client.delegated import ANONYMOUS, AccessReviews, TokenReviews, User, user_of_certificate
from tiphys.client.rest import Client
from tiphys.runtime.clock import Clock
from tiphys.wire.http import Request

VERBS = {"POST": "create", "GET": "get", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_FINE = {"/pods": "pods", "/healthz": "healthz", "/configz": "configz", "/runningpods": "pods"}
_OWN = {
    "/stats": "stats",
    "/metrics": "metrics",
    "/logs": "log",
    "/checkpoint": "checkpoint",
    "/statusz": "statusz",
    "/flagz": "configz",
}


class Authenticator:
    def __init__(self, client: Client, clock: Clock, *, anonymous: bool, tokens: bool, tokens_for: float) -> None:
        """``tokens_for``: seconds that the API server's word on a token counts."""
        self._anonymous = anonymous
        self._clock = clock
        self._tokens = TokenReviews(client, clock, tokens_for) if tokens else None

    async def user(self, request: Request) -> User | None:
        """The caller, or None if nobody knows them. Raises ``ApiError`` and ``ConnectionError``."""
        if request.peer.identity is not None:
            return User(request.peer.identity[0], request.peer.identity[1])
        if (der := request.peer.certificate) is not None and (user := user_of_certificate(der)) is not None:
            return user if in_force(der, self._clock.now()) else None
        token = bearer_token(next(iter(request.headers.each("authorization")), ""))
        if token and self._tokens is not None:
            return await self._tokens.user(token)
        if request.peer.refused_certificate:
            return None
        return ANONYMOUS if self._anonymous else None


def subresources(path: str) -> list[str]:
    """What of the node a path asks for, the finest first; any of them being allowed is enough."""

    def under(prefix: str) -> bool:
        return path == prefix or path.startswith(f"{prefix}/")

    names = [name for prefix, name in _FINE.items() if under(prefix)]
    own = next((name for prefix, name in _OWN.items() if under(prefix)), "proxy")
    return [*names, own]


class Authorizer:
    """Asks the API server whether a user may do something with this node; yes and no count for so many seconds."""

    def __init__(
        self, client: Client, clock: Clock, node_name: str, *, allowed_for: float = 300.0, denied_for: float = 30.0
    ) -> None:
        self._reviews = AccessReviews(client, clock, allowed_for, denied_for)
        self._node_name = node_name

    async def allowed(self, user: User, request: Request) -> bool:
        """Raises ``ApiError`` and ``ConnectionError``."""
        verb = VERBS.get(request.method, "")
        for subresource in subresources(request.path):
            attributes = {
                "verb": verb,
                "version": "v1",
                "resource": "nodes",
                "subresource": subresource,
                "name": self._node_name,
            }
            if await self._reviews.allowed(user, attributes):
                return True
        return False
