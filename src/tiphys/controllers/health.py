"""/healthz, /livez, /readyz and /metrics of the controller manager."""

from __future__ import annotations

from tiphys.runtime.metrics import CONTENT_TYPE, Registry
from tiphys.wire.http import Request, Response

_TEXT = {"Content-Type": "text/plain; charset=utf-8", "X-Content-Type-Options": "nosniff"}


class HealthHandler:
    def __init__(self, registry: Registry | None) -> None:
        self._registry = registry

    async def __call__(self, request: Request) -> Response:
        if request.path in ("/healthz", "/livez", "/readyz"):
            return Response(200, dict(_TEXT), b"ok")
        if request.path == "/metrics" and self._registry is not None:
            return Response(200, {"Content-Type": CONTENT_TYPE}, self._registry.expose())
        return Response(404, dict(_TEXT), b"404 page not found\n")
