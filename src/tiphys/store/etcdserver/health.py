"""What an etcd answers to plain HTTP: ``/health``, ``/livez``, ``/readyz``, ``/version``, ``/metrics``.

Source: https://etcd.io/docs/v3.6/op-guide/monitoring/
"""

from __future__ import annotations

import json
from collections.abc import Callable

from tiphys.runtime.metrics import CONTENT_TYPE, Registry
from tiphys.store.backend import NoSpace, StoreError
from tiphys.store.etcdserver import VERSION
from tiphys.store.etcdserver.member import Member
from tiphys.wire.http import Request, Response

_JSON = {"Content-Type": "application/json"}
_TEXT = {"Content-Type": "text/plain; charset=utf-8"}


class Pages:
    """An HTTP ``Handler``."""

    def __init__(self, member: Member) -> None:
        self.member = member
        self._metrics: StoreMetrics | None = None

    async def handle(self, request: Request) -> Response:
        if request.method not in ("GET", "HEAD"):
            return Response(405, {**_TEXT, "Allow": "GET"}, b"Method Not Allowed\n")
        if request.path == "/version":
            body = {"etcdserver": VERSION, "etcdcluster": VERSION.rsplit(".", 1)[0] + ".0", "storage": "3.6.0"}
            return Response(200, _JSON, json.dumps(body, separators=(",", ":")).encode())
        if request.path == "/health":
            return await self._health(without_alarms="NOSPACE" in request.parameters().get("exclude", []))
        if request.path in ("/livez", "/readyz"):
            return await self._check(request.path)
        if request.path == "/metrics":
            self._metrics = self._metrics or StoreMetrics(self.member)
            return Response(200, {"Content-Type": CONTENT_TYPE}, self._metrics.expose())
        return Response(404, _TEXT, b"404 page not found\n")

    async def _health(self, *, without_alarms: bool) -> Response:
        reason = ""
        try:
            await self.member.store.healthy()
        except NoSpace:
            reason = "" if without_alarms else "ALARM NOSPACE"
        except StoreError as error:
            reason = str(error)
        body = {"health": "false" if reason else "true", "reason": reason}
        return Response(503 if reason else 200, _JSON, json.dumps(body, separators=(",", ":")).encode())

    async def _check(self, path: str) -> Response:
        try:
            await self.member.store.healthy()
        except NoSpace:
            return Response(200, _TEXT, b"ok\n")  # it serves reads, and starting again would not help
        except StoreError as error:
            return Response(503, _TEXT, f"{path[1:]} check failed: {error}\n".encode())
        return Response(200, _TEXT, b"ok\n")


class StoreMetrics:
    """etcd's metrics, those that say something about a store of one member; read when they are requested."""

    def __init__(self, member: Member) -> None:
        self.member = member
        self._registry = Registry()
        self._gauges = {name: self._registry.gauge(name, help) for name, (help, _) in _GAUGES.items()}
        self._alarm = self._registry.gauge("etcd_server_alarms", "Alarms that are on.", ("alarm_type",))

    def expose(self) -> bytes:
        for name, (_, read) in _GAUGES.items():
            self._gauges[name].set(read(self.member))
        self._alarm.set(self.member.store.no_space(), "NOSPACE")
        return self._registry.expose()


_GAUGES: dict[str, tuple[str, Callable[[Member], float]]] = {
    "etcd_server_has_leader": ("Whether there is a leader. 1 is existence, 0 is not.", lambda member: 1),
    "etcd_server_is_leader": ("Whether this member is the leader. 1 if is, 0 otherwise.", lambda member: 1),
    "etcd_mvcc_db_total_size_in_bytes": (
        "Bytes that the store's file takes.",
        lambda member: member.store.sizes()[0],
    ),
    "etcd_mvcc_db_total_size_in_use_in_bytes": (
        "Bytes of the store's file that are in use.",
        lambda member: member.store.sizes()[1],
    ),
    "etcd_debugging_mvcc_current_revision": ("The newest revision.", lambda member: member.store.hub.revision),
    "etcd_debugging_mvcc_compact_revision": ("The compacted revision.", lambda member: member.store.core.compacted),
    "etcd_debugging_mvcc_keys_total": (
        "Number of keys, deleted ones that are still kept too.",
        lambda member: len(member.store.core.index.by_key),
    ),
    "etcd_debugging_mvcc_watcher_total": ("Number of open watches.", lambda member: len(member.store.hub.watches)),
    "etcd_debugging_lease_total": ("Number of leases.", lambda member: len(member.store.lessor.ids())),
}
