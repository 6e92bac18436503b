"""What the proxy counts and measures, by upstream's names.

Source: https://kubernetes.io/docs/reference/instrumentation/metrics/
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from tiphys.proxy.backend import LastSync
from tiphys.proxy.endpoints import usable
from tiphys.proxy.state import Family, Place, ServiceKey, ServiceState
from tiphys.runtime.clock import Clock
from tiphys.runtime.metrics import Registry

_LABEL = {"ip": "IPv4", "ip6": "IPv6"}
_PROGRAMMED = (0.25, 0.5, *range(1, 60), *range(60, 120, 5), *range(120, 301, 30))
_DOUBLED = tuple(0.001 * 2**i for i in range(15))
_FAILURES = {
    "nftables": ("nftables_sync_failures", "Cumulative proxy nftables sync failures"),
    "iptables": ("iptables_restore_failures", "Cumulative proxy iptables restore failures"),
}
_CHANGES = {"Service": "Service", "EndpointSlice": "Endpoint"}
"""What changes, and upstream's word for it."""
POLICIES = ("internal", "external")


class Figures:
    """``registry`` is where they are shown. Times are seconds."""

    def __init__(self, registry: Registry, clock: Clock) -> None:
        self._registry, self._clock = registry, clock
        self._started = clock.now()
        self._without: dict[tuple[Family, str], dict[ServiceKey, int]] = {}
        """How many ports of a service each policy leaves without an endpoint here, if there are any."""
        self._pending: dict[str, dict[Family, int]] = {kind: {} for kind in _CHANGES}

    def changed(self, kind: str, family: Family) -> None:
        """A Service or an ``EndpointSlice`` has changed in a way that matters here."""
        name = f"kubeproxy_sync_proxy_rules_{_CHANGES[kind].lower()}_changes"
        self._registry.counter(name, f"Cumulative proxy rules {_CHANGES[kind]} changes").inc()
        pending = self._pending[kind]
        pending[family] = pending.get(family, 0) + 1
        self._show_pending(kind)

    def taken(self, family: Family) -> None:
        """What has changed so far is on its way into the kernel."""
        for kind, pending in self._pending.items():
            pending[family] = 0
            self._show_pending(kind)

    def _show_pending(self, kind: str) -> None:
        name = f"kubeproxy_sync_proxy_rules_{_CHANGES[kind].lower()}_changes_pending"
        gauge = self._registry.gauge(name, f"Pending proxy rules {_CHANGES[kind]} changes")
        gauge.set(sum(self._pending[kind].values()))

    def queued(self, family: Family) -> None:
        name = "kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds"
        stamp = self._registry.gauge(name, "The last time a sync of proxy rules was queued", ("ip_family",))
        stamp.set(self._clock.now(), _LABEL[family])

    def synced(self, family: Family, mode: str, seconds: float, last: LastSync) -> None:
        """The rules are in step with what was taken; ``last`` is what the backend did."""
        self._took("kubeproxy_sync_proxy_rules_duration_seconds", "", family, seconds)
        if mode in _FAILURES:
            size = "full" if last.full else "partial"
            self._took(f"kubeproxy_sync_{size}_proxy_rules_duration_seconds", f" for {size} resyncs", family, seconds)
        stamp = self._registry.gauge(
            "kubeproxy_sync_proxy_rules_last_timestamp_seconds",
            "The last time proxy rules were successfully synced",
            ("ip_family",),
        )
        stamp.set(self._clock.now(), _LABEL[family])
        for name, help_, counts in (
            ("total", "Total number of iptables rules owned by kube-proxy", last.rules),
            ("last", "Number of iptables rules written by kube-proxy in last sync", last.written),
        ):
            for table in last.rules:
                gauge = self._registry.gauge(
                    f"kubeproxy_sync_proxy_rules_iptables_{name}", help_, ("table", "ip_family")
                )
                gauge.set(counts.get(table, 0), table, _LABEL[family])
        if not last.tidied:
            name, help_ = "nftables_cleanup_failures", "Cumulative proxy nftables cleanup failures"
            self._count_failure(name, help_, family)

    def _took(self, name: str, of_what: str, family: Family, seconds: float) -> None:
        help_ = f"SyncProxyRules latency in seconds{of_what}"
        self._registry.histogram(name, help_, ("ip_family",), _DOUBLED).observe(seconds, _LABEL[family])

    def programmed(self, family: Family, triggers: Iterable[float]) -> None:
        """The network shows what happened at these times, if it was after the proxy's own start."""
        name, help_ = (
            "kubeproxy_network_programming_duration_seconds",
            "In Cluster Network Programming Latency in seconds",
        )
        latency = self._registry.histogram(name, help_, ("ip_family",), _PROGRAMMED)
        now = self._clock.now()
        for triggered in triggers:
            if triggered > self._started:
                latency.observe(max(0.0, now - triggered), _LABEL[family])

    def served(self, family: Family, services: Mapping[ServiceKey, ServiceState], place: Place) -> None:
        """These services are as they are now; those that are gone are empty."""
        gauge = self._registry.gauge(
            "kubeproxy_sync_proxy_rules_no_local_endpoints_total",
            "Number of services with a Local traffic policy and no endpoints",
            ("traffic_policy", "ip_family"),
        )
        for number, policy in enumerate(POLICIES):
            counted = self._without.setdefault((family, policy), {})
            for key, state in services.items():
                if count := without_local(state, place)[number]:
                    counted[key] = count
                else:
                    counted.pop(key, None)
            gauge.set(sum(counted.values()), policy, _LABEL[family])

    def failed(self, family: Family, mode: str, last: LastSync) -> None:
        if mode in _FAILURES:
            self._count_failure(*_FAILURES[mode], family)
        if mode == "iptables" and not last.full:
            name, help_ = "iptables_partial_restore_failures", "Cumulative proxy iptables partial restore failures"
            self._count_failure(name, help_, family)

    def _count_failure(self, name: str, help_: str, family: Family) -> None:
        self._registry.counter(f"kubeproxy_sync_proxy_rules_{name}", help_, ("ip_family",)).inc(_LABEL[family])

    def forgotten(self, family: Family, flows: int, seconds: float) -> None:
        """So many stale flows were deleted, and a look at all of them took so long."""
        name, help_ = (
            "kubeproxy_conntrack_reconciler_sync_duration_seconds",
            "ReconcileConntrackFlowsLatency latency in seconds",
        )
        self._registry.histogram(name, help_, ("ip_family",), _DOUBLED).observe(seconds, _LABEL[family])
        deleted = self._registry.counter(
            "kubeproxy_conntrack_reconciler_deleted_entries",
            "Cumulative conntrack flows deleted by conntrack reconciler",
            ("ip_family",),
        )
        deleted.inc(_LABEL[family], by=flows)


def without_local(state: ServiceState, place: Place) -> tuple[int, int]:
    """How many ports have no endpoint on this node that their internal and their external policy would take, though
    there are endpoints elsewhere: what comes to them here is dropped."""
    internal = external = 0
    for backends in state:
        port = backends.port
        if not port.uses_local_endpoints:
            continue
        takers = usable(backends.endpoints, port, place)
        if takers.anywhere and not takers.local:
            internal += port.internal_local
            external += port.external_local and port.externally_accessible
    return internal, external
