"""/healthz, /livez, /readyz and /metrics of the controller manager."""

from __future__ import annotations

from collections.abc import Callable

from tiphys.runtime.metrics import CONTENT_TYPE, Registry
from tiphys.runtime.tasks import MENDS_ITSELF_SECONDS
from tiphys.wire.http import Request, Response

_TEXT = {"Content-Type": "text/plain; charset=utf-8", "X-Content-Type-Options": "nosniff"}


class HealthHandler:
    """``troubles(since)`` gives the loops that have been failing for so many seconds."""

    def __init__(self, registry: Registry | None, troubles: Callable[[float], dict[str, str]]) -> None:
        self._registry = registry
        self._troubles = troubles

    async def __call__(self, request: Request) -> Response:
        if request.path in ("/healthz", "/livez", "/readyz"):
            return self._health(request.path[1:])
        if request.path == "/metrics" and self._registry is not None:
            return Response(200, {"Content-Type": CONTENT_TYPE}, self._registry.expose())
        return Response(404, dict(_TEXT), b"404 page not found\n")

    def _health(self, name: str) -> Response:
        """Ready is who has no loop in trouble; alive, whose troubles may yet mend themselves."""
        failing = self._troubles(0.0 if name == "readyz" else MENDS_ITSELF_SECONDS)
        if not failing:
            return Response(200, dict(_TEXT), b"ok")
        lines = "".join(f"[-]{loop} failed: reason withheld\n" for loop in failing)
        return Response(500, dict(_TEXT), f"{lines}{name} check failed\n".encode())
