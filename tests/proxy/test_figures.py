"""What the proxy counts: upstream's ``TestNoEndpointsMetric``, and the names under which it is shown."""

from __future__ import annotations

from typing import Any

import pytest

from tests.proxy.objects import endpoint, service, slice_of, state_of
from tiphys.proxy.backend import LastSync
from tiphys.proxy.figures import Figures, without_local
from tiphys.proxy.state import Place
from tiphys.runtime.clock import SystemClock
from tiphys.runtime.metrics import Registry

HERE = Place("node-1")
INTERNAL = {"internalTrafficPolicy": "Local"}
EXTERNAL = {"type": "NodePort", "externalTrafficPolicy": "Local"}
WITH_ONE_HERE, ELSEWHERE = ("node-1", "node-2", "node-3"), ("node-0", "node-2", "node-3")


@pytest.mark.parametrize(
    ("spec", "nodes", "expected"),
    [
        (INTERNAL, WITH_ONE_HERE, (0, 0)),
        (EXTERNAL, WITH_ONE_HERE, (0, 0)),
        (INTERNAL | EXTERNAL, WITH_ONE_HERE, (0, 0)),
        (INTERNAL, ELSEWHERE, (1, 0)),
        (EXTERNAL, ELSEWHERE, (0, 1)),
        (INTERNAL | EXTERNAL, ELSEWHERE, (1, 1)),
        (INTERNAL | EXTERNAL, (), (0, 0)),
        ({}, ELSEWHERE, (0, 0)),
    ],
)
def test_services_whose_policy_leaves_nobody_here(
    spec: dict[str, Any], nodes: tuple[str, ...], expected: tuple[int, int]
) -> None:
    endpoints = [endpoint(f"10.0.1.{number}", node=node) for number, node in enumerate(nodes, 1)]
    assert without_local(state_of(service(**spec), slice_of(*endpoints)), HERE) == expected


def test_figures_have_upstreams_names() -> None:
    registry = Registry()
    figures = Figures(registry, SystemClock())
    alone = state_of(service(**INTERNAL), slice_of(endpoint("10.0.1.1", node="node-2")))
    figures.changed("Service", "ip")
    figures.changed("EndpointSlice", "ip")
    figures.taken("ip")
    figures.changed("EndpointSlice", "ip")
    figures.changed("EndpointSlice", "ip6")
    figures.queued("ip")
    figures.synced(
        "ip", "iptables", 0.01, LastSync(full=True, rules={"nat": 7, "filter": 2}, written={"nat": 7, "filter": 2})
    )
    figures.synced("ip", "iptables", 0.01, LastSync(rules={"nat": 8, "filter": 2}, written={"nat": 3}))
    figures.synced("ip", "nftables", 0.01, LastSync(tidied=False))
    figures.served("ip", {("default", "web"): alone, ("default", "other"): alone}, HERE)
    figures.served("ip", {("default", "other"): ()}, HERE)
    figures.forgotten("ip", 3, 0.02)
    figures.failed("ip", "iptables", LastSync(full=True))
    figures.failed("ip", "iptables", LastSync())
    figures.failed("ip", "nftables", LastSync())
    figures.failed("ip", "userspace", LastSync())
    lines = registry.expose().decode().splitlines()
    for line in (
        "kubeproxy_sync_proxy_rules_service_changes_total 1.0",
        "kubeproxy_sync_proxy_rules_endpoint_changes_total 3.0",
        "kubeproxy_sync_proxy_rules_service_changes_pending 0.0",
        "kubeproxy_sync_proxy_rules_endpoint_changes_pending 2.0",
        'kubeproxy_sync_proxy_rules_iptables_total{ip_family="IPv4",table="nat"} 8.0',
        'kubeproxy_sync_proxy_rules_iptables_last{ip_family="IPv4",table="nat"} 3.0',
        'kubeproxy_sync_proxy_rules_iptables_last{ip_family="IPv4",table="filter"} 0.0',
        'kubeproxy_sync_full_proxy_rules_duration_seconds_count{ip_family="IPv4"} 1.0',
        'kubeproxy_sync_partial_proxy_rules_duration_seconds_count{ip_family="IPv4"} 2.0',
        'kubeproxy_sync_proxy_rules_duration_seconds_count{ip_family="IPv4"} 3.0',
        'kubeproxy_sync_proxy_rules_nftables_cleanup_failures_total{ip_family="IPv4"} 1.0',
        'kubeproxy_sync_proxy_rules_iptables_partial_restore_failures_total{ip_family="IPv4"} 1.0',
        'kubeproxy_sync_proxy_rules_no_local_endpoints_total{ip_family="IPv4",traffic_policy="internal"} 1.0',
        'kubeproxy_sync_proxy_rules_no_local_endpoints_total{ip_family="IPv4",traffic_policy="external"} 0.0',
        'kubeproxy_conntrack_reconciler_deleted_entries_total{ip_family="IPv4"} 3.0',
        'kubeproxy_conntrack_reconciler_sync_duration_seconds_count{ip_family="IPv4"} 1.0',
        'kubeproxy_sync_proxy_rules_iptables_restore_failures_total{ip_family="IPv4"} 2.0',
        'kubeproxy_sync_proxy_rules_nftables_sync_failures_total{ip_family="IPv4"} 1.0',
    ):
        assert line in lines, "\n".join(shown for shown in lines if "kubeproxy" in shown)
    names = {line.partition("{")[0] for line in lines}
    assert "kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds" in names
    assert "kubeproxy_sync_proxy_rules_last_timestamp_seconds" in names
