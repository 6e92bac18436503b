"""Who gets through to a component's pages: authentication, then authorization by path, as upstream's components do.

Source: https://kubernetes.io/docs/reference/access-authn-authz/authorization/ (requests to paths that are no resource)
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import orjson

from tiphys.client.delegated import DelegatedAccess, User
from tiphys.client.errors import ApiError
from tiphys.wire.http import Handler, Request, Response

log = logging.getLogger(__name__)


def failure(code: int, reason: str, message: str) -> Response:
    status: dict[str, Any] = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
    status |= {"message": message, "reason": reason} | ({"details": {}} if code != 401 else {}) | {"code": code}
    headers = {"Content-Type": "application/json", "X-Content-Type-Options": "nosniff"}
    return Response(code, headers, orjson.dumps(status) + b"\n")


class PortGate:
    """A handler before another; ``always_allowed`` are paths for everybody, as ``Delegation`` has them."""

    def __init__(self, inner: Handler, access: DelegatedAccess, always_allowed: Sequence[str]) -> None:
        self._inner = inner
        self.access = access
        self._exact = frozenset(path for path in always_allowed if not path.endswith("*"))
        self._prefixes = tuple(path[:-1] for path in always_allowed if path.endswith("*"))

    async def __call__(self, request: Request) -> Response:
        try:
            user = await self.access.caller(request)
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

    async def _allows(self, user: User, verb: str, path: str) -> bool:
        if path in self._exact or path.startswith(self._prefixes):
            return True
        return await self.access.allows(user, {"path": path, "verb": verb})
