"""/healthz, /livez, /readyz and /metrics of the scheduler."""

from __future__ import annotations

from collections.abc import Callable

from tiphys.runtime.metrics import CONTENT_TYPE
from tiphys.runtime.tasks import MENDS_ITSELF_SECONDS
from tiphys.scheduler.metrics import Figures
from tiphys.wire.http import Request, Response

_TEXT = {"Content-Type": "text/plain; charset=utf-8", "X-Content-Type-Options": "nosniff"}


class HealthHandler:
    """``troubles(since)`` gives the loops that have been failing for so many seconds."""

    def __init__(
        self, figures: Figures, ready: Callable[[], bool], troubles: Callable[[float], dict[str, str]]
    ) -> None:
        self._figures = figures
        self._ready = ready
        self._troubles = troubles

    async def __call__(self, request: Request) -> Response:
        match request.path:
            case "/healthz" | "/livez":
                return self._alive(request.path[1:])
            case "/readyz" if self._ready():
                return Response(200, dict(_TEXT), b"ok")
            case "/readyz":
                return Response(500, dict(_TEXT), b"[-]informer-sync failed: reason withheld\nreadyz check failed\n")
            case "/metrics":
                return Response(200, {"Content-Type": CONTENT_TYPE}, self._figures.expose())
        return Response(404, dict(_TEXT), b"404 page not found\n")

    def _alive(self, name: str) -> Response:
        """Only what does not mend itself: whoever asks starts the scheduler again."""
        failing = self._troubles(MENDS_ITSELF_SECONDS)
        if not failing:
            return Response(200, dict(_TEXT), b"ok")
        lines = "".join(f"[-]{loop} failed: reason withheld\n" for loop in failing)
        return Response(500, dict(_TEXT), f"{lines}{name} check failed\n".encode())
