"""Who gets through to a component's pages: authentication, then authorization by path, as upstream's components do.

Source: https://kubernetes.io/docs/reference/access-authn-authz/authorization/ (requests to paths that are no resource)
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import orjson

from tiphys.api.credentials import bearer_token
from tiphys.client.delegated import ANONYMOUS, AccessReviews, DelegatedAuthentication, TokenReviews, Trust, User
from tiphys.client.errors import ApiError
from tiphys.wire.http import Handler, Request, Response

log = logging.getLogger(__name__)

MASTERS = "system:masters"


def failure(code: int, reason: str, message: str) -> Response:
    status: dict[str, Any] = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
    status |= {"message": message, "reason": reason} | ({"details": {}} if code != 401 else {}) | {"code": code}
    headers = {"Content-Type": "application/json", "X-Content-Type-Options": "nosniff"}
    return Response(code, headers, orjson.dumps(status) + b"\n")


class PortGate:
    """A handler before another.

    ``tokens`` None: no token counts. ``reviews`` None: nobody is asked, and only what is for everybody is allowed.
    """

    def __init__(
        self,
        inner: Handler,
        *,
        tokens: TokenReviews | None,
        reviews: AccessReviews | None,
        always_allowed: Sequence[str],
    ) -> None:
        self._inner = inner
        self._tokens = tokens
        self._authentication = DelegatedAuthentication(Trust(), tokens)
        self._reviews = reviews
        self._exact = frozenset(path for path in always_allowed if not path.endswith("*"))
        self._prefixes = tuple(path[:-1] for path in always_allowed if path.endswith("*"))

    def believe(self, trust: Trust) -> None:
        """From now on, client certificates and proxies are these."""
        self._authentication = DelegatedAuthentication(trust, self._tokens)

    async def __call__(self, request: Request) -> Response:
        try:
            user = await self._user(request)
            if user is None:
                return failure(401, "Unauthorized", "Unauthorized")
            verb = request.method.lower()
            if not await self._allows(user, verb, request.path):
                message = f'forbidden: User "{user.name}" cannot {verb} path "{request.path}"'
                return failure(403, "Forbidden", message)
        except (ApiError, OSError, TimeoutError) as error:
            log.warning("the API server cannot be asked about a caller of %s: %s", request.path, error)
            return failure(
                500, "InternalError", "Internal error occurred: the API server cannot be asked about the caller"
            )
        return await self._inner(request)

    async def _user(self, request: Request) -> User | None:
        """None for a credential that does not count; without one, the caller is anonymous."""
        user = await self._authentication.user(request)
        if user is not None:
            return user
        token = bearer_token(next(iter(request.headers.each("authorization")), ""))
        return None if request.peer.refused_certificate or (token and self._tokens is not None) else ANONYMOUS

    async def _allows(self, user: User, verb: str, path: str) -> bool:
        if path in self._exact or path.startswith(self._prefixes) or MASTERS in user.groups:
            return True
        if self._reviews is None:
            return False
        return await self._reviews.allowed(user, {"path": path, "verb": verb})
