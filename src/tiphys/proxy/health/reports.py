"""Whether the proxy keeps up, as an HTTP ``Handler``: /healthz, /livez, /metrics, and one for each service that asks.

``/healthz`` also fails while this node is being removed, so that balancers stop sending to it; ``/livez`` does not.
Source: KEP-3836, and https://kubernetes.io/docs/concepts/services-networking/service/#load-balancer-node-ports
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import orjson

from tiphys.controlkit.serving.pages import component_pages
from tiphys.proxy.state import Family, ServiceKey
from tiphys.runtime.clock import Clock
from tiphys.runtime.metrics import Registry
from tiphys.wire import health as checks
from tiphys.wire.http import Request, Response

TO_BE_DELETED = "ToBeDeletedByClusterAutoscaler"
_JSON = {"Content-Type": "application/json", "X-Content-Type-Options": "nosniff"}
_FAMILY = {"ip": "IPv4", "ip6": "IPv6"}


class Health:
    """Tracks the oldest change that is not in the kernel yet; late by ``patience`` seconds is unhealthy.

    So is a proxy with a loop that fails for longer than what mends itself: ``troubles`` names those.
    """

    def __init__(self, clock: Clock, patience: float, troubles: Callable[[], Mapping[str, str]] = dict) -> None:
        self._clock = clock
        self._troubles = troubles
        self._patience = patience
        self._updated: dict[Family, float] = {}
        self._pending: dict[Family, float] = {}
        self.node: dict[str, Any] | None = None
        """This proxy's Node, as last seen."""

    def queued(self, family: Family) -> None:
        self._pending.setdefault(family, self._clock.now())

    def updated(self, family: Family) -> None:
        self._pending.pop(family, None)
        self._updated[family] = self._clock.now()

    def healthy(self, family: Family) -> bool:
        return family not in self._pending or self._clock.now() - self._pending[family] < self._patience

    @property
    def all_healthy(self) -> bool:
        return not self._troubles() and all(self.healthy(family) for family in self._updated)

    @property
    def node_eligible(self) -> bool:
        node = self.node
        if node is None or node["metadata"].get("deletionTimestamp"):
            return False
        return all(taint.get("key") != TO_BE_DELETED for taint in (node.get("spec") or {}).get("taints") or ())

    def report(self, *, eligible: bool | None) -> Response:
        """The answer of /livez, or with ``eligible`` of /healthz."""
        now, healthy = self._clock.now(), self.all_healthy
        ok = healthy and eligible is not False
        body: dict[str, Any] = {
            "lastUpdated": _stamp(now if ok else max(self._updated.values(), default=0.0)),
            "currentTime": _stamp(now),
        }
        if eligible is not None:
            body["nodeEligible"] = eligible
        body["healthy"] = healthy
        if self._updated:
            body["status"] = {
                _FAMILY[family]: {"lastUpdated": _stamp(at), "healthy": self.healthy(family)}
                for family, at in self._updated.items()
            }
        return Response(200 if ok else 503, dict(_JSON), orjson.dumps(body))


def _stamp(seconds: float) -> str:
    """Go's time.Time in JSON; its zero value if nothing happened yet."""
    if not seconds:
        return "0001-01-01T00:00:00Z"
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


class HealthHandler:
    """/healthz and /livez, on all paths of port 10256."""

    def __init__(self, health: Health, registry: Registry) -> None:
        self._health = health
        self._counts = {
            "/healthz": registry.counter("kubeproxy_proxy_healthz", "Cumulative proxy healthz HTTP status", ("code",)),
            "/livez": registry.counter("kubeproxy_proxy_livez", "Cumulative proxy livez HTTP status", ("code",)),
        }

    async def __call__(self, request: Request) -> Response:
        if request.path not in self._counts:
            return _not_found()
        eligible = self._health.node_eligible if request.path == "/healthz" else None
        answer = self._health.report(eligible=eligible)
        self._counts[request.path].inc(str(answer.status))
        return answer


def metrics_pages(
    registry: Registry, mode: str, clock: Clock, flags: Mapping[str, object], configuration: Mapping[str, Any]
) -> checks.HealthHandler:
    """What port 10249 serves: metrics, ``/proxyMode``, and the pages that every component has."""

    def proxy_mode(request: Request) -> Response:
        return checks.plain(200, mode)

    return component_pages(
        name="kube-proxy",
        clock=clock,
        checks={"/healthz": tuple},
        metrics=registry.expose,
        parts=lambda: ("ping",),
        flags=flags,
        configuration=lambda: configuration,
        more={"/proxyMode": proxy_mode},
    )


_SERVICE_BODY = """{{
\t"service": {{
\t\t"namespace": "{}",
\t\t"name": "{}"
\t}},
\t"localEndpoints": {},
\t"serviceProxyHealthy": {}
}}"""


def service_handler(key: ServiceKey, local_endpoints: Callable[[], int], health: Health) -> Callable[[Request], Any]:
    """What a cloud's balancer asks on a service's healthCheckNodePort: are there endpoints on this node?"""

    async def answer(request: Request) -> Response:
        count, healthy = local_endpoints(), health.all_healthy
        body = _SERVICE_BODY.format(*key, count, "true" if healthy else "false")
        headers = {**_JSON, "X-Load-Balancing-Endpoint-Weight": str(count)}
        return Response(200 if count and healthy else 503, headers, body.encode())

    return answer


def _not_found() -> Response:
    return Response(404, {"Content-Type": "text/plain; charset=utf-8"}, b"404 page not found\n")
