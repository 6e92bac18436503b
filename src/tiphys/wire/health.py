"""The health and metrics of a component over HTTP, with upstream's paths and words.

Source: https://kubernetes.io/docs/reference/using-api/health-checks/
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Protocol

from tiphys.runtime.metrics import CONTENT_TYPE
from tiphys.wire.http import Handler, Request, Response
from tiphys.wire.server import Server, serve

TEXT = {"Content-Type": "text/plain; charset=utf-8", "X-Content-Type-Options": "nosniff"}

Check = Callable[[], Iterable[str]]
"""The names of what fails; empty if all is well."""


def plain(status: int, text: str) -> Response:
    return Response(status, dict(TEXT), text.encode())


class Counted(Protocol):
    """A path of health checks, with what came of them."""

    name: str
    results: dict[tuple[str, str], int]
    """How often each check was made, by its name and outcome (``success``, ``error``)."""
    latest: dict[str, bool]


class _Path:
    """One path such as ``/readyz``: what its checks found, counted."""

    def __init__(self, name: str, check: Check, parts: Callable[[], Iterable[str]]) -> None:
        self.name = name
        self._check, self._parts = check, parts
        self.results: dict[tuple[str, str], int] = {}
        self.latest: dict[str, bool] = {}

    def answer(self, request: Request, wanted: str) -> Response:
        """The answer for all checks, or for the one named ``wanted``: 200, 404 or 500."""
        failing = set(self._check())
        parts = list(dict.fromkeys((*self._parts(), *sorted(failing))))
        if wanted:
            if wanted not in parts:
                return plain(404, "404 page not found\n")
            self._count([wanted], failing)
            return plain(500, f"internal server error: {wanted} failed\n") if wanted in failing else plain(200, "ok")
        parameters = request.parameters()
        excluded = set(parameters.get("exclude", ()))
        self._count([part for part in parts if part not in excluded], failing)
        lines = "".join(self._line(part, is_excluded=part in excluded, fails=part in failing) for part in parts)
        if unknown := excluded.difference(parts):
            names = ", ".join(f'"{name}"' for name in sorted(unknown))
            lines += f"warn: some health checks cannot be excluded: no matches for {names}\n"
        if failing - excluded:
            return plain(500, f"{lines}{self.name} check failed\n")
        return plain(200, f"{lines}{self.name} check passed\n" if "verbose" in parameters else "ok")

    @staticmethod
    def _line(part: str, *, is_excluded: bool, fails: bool) -> str:
        if is_excluded:
            return f"[+]{part} excluded: ok\n"
        return f"[-]{part} failed: reason withheld\n" if fails else f"[+]{part} ok\n"

    def _count(self, parts: list[str], failing: set[str]) -> None:
        for part in parts:
            self.latest[part] = part not in failing
            key = (part, "error" if part in failing else "success")
            self.results[key] = self.results.get(key, 0) + 1


def _ping() -> Iterable[str]:
    return ("ping",)


class HealthHandler:
    """Answers for ``checks`` by their paths, such as ``/readyz``, for ``/metrics`` and for ``/metrics/slis``.

    ``parts`` names what the checks look at, for who asks with ``?verbose``. ``pages`` are further paths.
    """

    def __init__(
        self,
        checks: Mapping[str, Check],
        metrics: Callable[[], bytes] | None = None,
        *,
        parts: Callable[[], Iterable[str]] = _ping,
        pages: Mapping[str, Callable[[Request], Response]] | None = None,
    ) -> None:
        self._paths = {path: _Path(path[1:], check, parts) for path, check in checks.items()}
        self._metrics = metrics
        self._pages = pages or {}

    async def __call__(self, request: Request) -> Response:
        root, _, wanted = request.path[1:].partition("/")
        if (path := self._paths.get(f"/{root}")) is not None:
            return path.answer(request, wanted)
        if request.path == "/metrics" and self._metrics is not None:
            return Response(200, {"Content-Type": CONTENT_TYPE}, self._metrics())
        if request.path == "/metrics/slis":
            return Response(200, {"Content-Type": CONTENT_TYPE}, indicators(self._paths.values()).encode())
        if (page := self._pages.get(request.path)) is not None:
            return page(request)
        return plain(404, "404 page not found\n")


def indicators(paths: Iterable[Counted]) -> str:
    """``/metrics/slis``: the latest outcome of every check that was made, and how often there was which.

    Source: KEP-3466 (component health SLIs).
    """
    lines = [
        "# HELP kubernetes_healthcheck [STABLE] This metric records the result of a single healthcheck.",
        "# TYPE kubernetes_healthcheck gauge",
    ]
    made = sorted((name, path.name, well) for path in paths for name, well in path.latest.items())
    lines += [f'kubernetes_healthcheck{{name="{name}",type="{path}"}} {int(well)}' for name, path, well in made]
    lines += [
        "# HELP kubernetes_healthchecks_total [STABLE] This metric records the results of all healthcheck.",
        "# TYPE kubernetes_healthchecks_total counter",
    ]
    counted = sorted((*key, path.name, count) for path in paths for key, count in path.results.items())
    lines += [
        f'kubernetes_healthchecks_total{{name="{name}",status="{outcome}",type="{path}"}} {count}'
        for name, outcome, path, count in counted
    ]
    return "\n".join(lines) + "\n"


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
