"""``/healthz``, ``/livez`` and ``/readyz``: named checks, each of which can be requested alone or left out.

Source: https://kubernetes.io/docs/reference/using-api/health-checks/
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from tiphys.apiserver.call import Call
from tiphys.wire.http import Response

Check = Callable[[], Awaitable[None]]
"""Returns if all is well; raises ``Unhealthy``."""

_TEXT = {"Content-Type": "text/plain; charset=utf-8", "X-Content-Type-Options": "nosniff"}


_FAIRNESS = "priority-and-fairness-"
_STARTED = (
    "start-apiserver-admission-initializer",
    "generic-apiserver-start-informers",
    f"{_FAIRNESS}config-consumer",
    f"{_FAIRNESS}filter",
    "start-apiextensions-informers",
    "start-apiextensions-controllers",
    "crd-informer-synced",
    "start-system-namespaces-controller",
    "start-cluster-authentication-info-controller",
    "start-kube-apiserver-identity-lease-controller",
    "storage-readiness",
    "start-service-ip-repair-controllers",
    "rbac/bootstrap-roles",
    "scheduling/bootstrap-system-priority-classes",
    f"{_FAIRNESS}config-producer",
    "bootstrap-controller",
    "start-kube-aggregator-informers",
    "apiservice-status-local-available-controller",
    "apiservice-status-remote-available-controller",
    "apiservice-registration-controller",
    "apiservice-discovery-controller",
    "kube-apiserver-autoregistration",
    "apiservice-openapi-controller",
    "apiservice-openapiv3-controller",
)


def start_checks(*, fairness: bool) -> list[str]:
    """Upstream's names for the steps of a start, in its order; here they are done once the server has started."""
    names = [f"poststarthook/{name}" for name in _STARTED if fairness or not name.startswith(_FAIRNESS)]
    return [*names[:-2], "autoregister-completion", *names[-2:]]


class Unhealthy(Exception):
    """The message says what is wrong, for operators; it is not shown to clients."""


class HealthPath:
    """One of the three paths: its name, and its checks by name, in order."""

    def __init__(self, name: str, checks: Mapping[str, Check]) -> None:
        self.name = name
        self.checks = dict(checks)
        self.results: dict[tuple[str, str], int] = {}
        """How often each check was made, by its name and outcome (``success``, ``error``)."""
        self.latest: dict[str, bool] = {}

    async def answer(self, call: Call, wanted: str = "") -> Response:
        """``wanted`` is the name of the only check to make."""
        if wanted:
            if wanted not in self.checks:
                return Response(404, dict(_TEXT), b"404 page not found\n")
            return await self._one(wanted)
        excluded = set(call.parameters.get("exclude", []))
        lines, failed = await self._all(excluded)
        unknown = excluded - self.checks.keys()
        if unknown:
            names = ", ".join(f'"{name}"' for name in sorted(unknown))
            lines.append(f"warn: some health checks cannot be excluded: no matches for {names}\n")
        if failed:
            return Response(500, dict(_TEXT), f"{''.join(lines)}{self.name} check failed\n".encode())
        if "verbose" not in call.parameters:
            return Response(200, dict(_TEXT), b"ok")
        return Response(200, dict(_TEXT), f"{''.join(lines)}{self.name} check passed\n".encode())

    async def _one(self, name: str) -> Response:
        try:
            await self._make(name)
        except Unhealthy as error:
            return Response(500, dict(_TEXT), f"internal server error: {error}\n".encode())
        return Response(200, {"Content-Type": _TEXT["Content-Type"]}, b"ok")

    async def _make(self, name: str) -> None:
        """Make one check and count its outcome. Raises ``Unhealthy``."""
        self.latest[name] = False
        try:
            await self.checks[name]()
            self.latest[name] = True
        finally:
            key = (name, "success" if self.latest[name] else "error")
            self.results[key] = self.results.get(key, 0) + 1

    async def _all(self, excluded: set[str]) -> tuple[list[str], bool]:
        lines: list[str] = []
        failed = False
        for name in self.checks:
            if name in excluded:
                lines.append(f"[+]{name} excluded: ok\n")
                continue
            try:
                await self._make(name)
                lines.append(f"[+]{name} ok\n")
            except Unhealthy:
                lines.append(f"[-]{name} failed: reason withheld\n")
                failed = True
        return lines, failed


async def ping() -> None:
    """The server answers."""
