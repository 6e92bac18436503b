"""The health and metrics of a component over HTTP, with upstream's paths and words.

Source: https://kubernetes.io/docs/reference/using-api/health-checks/
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Mapping

from tiphys.runtime.metrics import CONTENT_TYPE
from tiphys.wire.http import Handler, Request, Response
from tiphys.wire.server import Server, serve

TEXT = {"Content-Type": "text/plain; charset=utf-8", "X-Content-Type-Options": "nosniff"}

Check = Callable[[], Iterable[str]]
"""The names of what fails; empty if all is well."""


def plain(status: int, text: str) -> Response:
    return Response(status, dict(TEXT), text.encode())


class HealthHandler:
    """Answers for ``checks`` by their paths, such as ``/readyz``, and for ``/metrics``."""

    def __init__(self, checks: Mapping[str, Check], metrics: Callable[[], bytes] | None = None) -> None:
        self._checks = checks
        self._metrics = metrics

    async def __call__(self, request: Request) -> Response:
        if (check := self._checks.get(request.path)) is not None:
            return self._report(request.path[1:], list(check()))
        if request.path == "/metrics" and self._metrics is not None:
            return Response(200, {"Content-Type": CONTENT_TYPE}, self._metrics())
        return plain(404, "404 page not found\n")

    @staticmethod
    def _report(name: str, failing: list[str]) -> Response:
        if not failing:
            return plain(200, "ok")
        lines = "".join(f"[-]{part} failed: reason withheld\n" for part in failing)
        return plain(500, f"{lines}{name} check failed\n")


@contextlib.asynccontextmanager
async def listening(address: str, handler: Handler) -> AsyncIterator[Server | None]:
    """Serve at ``host:port`` while the context lasts; at an empty address, nothing. Raises ``OSError``."""
    if not address:
        yield None
        return
    host, _, port = address.rpartition(":")
    server = await serve(handler, host.strip("[]"), int(port))
    try:
        yield server
    finally:
        await server.close(grace=0.5)
