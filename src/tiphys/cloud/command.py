"""`tiphys cloud-controller-manager`: the controllers of a cloud, with upstream's flags.

Source: https://kubernetes.io/docs/reference/command-line-tools-reference/cloud-controller-manager/
"""

from __future__ import annotations

import argparse
import contextlib
import ipaddress
from collections.abc import Sequence
from pathlib import Path

from tiphys.client import options
from tiphys.client.kubeconfig import connected
from tiphys.client.throttle import RequestRate
from tiphys.cloud.context import CloudConfig
from tiphys.cloud.manager import NAME, CloudControllerManager, enabled
from tiphys.cloud.registry import CONTROLLERS, make_provider
from tiphys.controlkit import leaderflags
from tiphys.controlkit.elected import launch_elected
from tiphys.controlkit.serving import settings
from tiphys.runtime.clock import SystemClock
from tiphys.runtime.component import CannotStart, Ready, whenever
from tiphys.runtime.flags import FlagParser, parse_duration
from tiphys.runtime.metrics import Registry

_LIMITS = RequestRate(20, 30)
"""Upstream's defaults of requests a second, and at once."""
_SAME = {"kube-api-content-type": ("application/json", "")}
"""What flags that steer nothing may say beside upstream's default."""
_LEADERS = "controllers do not move between managers that run side by side"
_RANGES = "the ranges of nodes are given by kube-controller-manager, or by the cloud"
_WHY = {
    "cidr-allocator-type": _RANGES,
    "controller-start-interval": "controllers start together",
    "enable-leader-migration": _LEADERS,
    "external-cloud-volume-plugin": "disks of clouds are those of CSI drivers",
    "leader-migration-config": _LEADERS,
    "node-cidr-mask-size": _RANGES,
    "node-cidr-mask-size-ipv4": _RANGES,
    "node-cidr-mask-size-ipv6": _RANGES,
    "service-cluster-ip-range": _RANGES,
    "use-service-account-credentials": "all controllers have the manager's own identity",
} | dict.fromkeys(
    (
        "webhook-bind-address",
        "webhook-cert-dir",
        "webhook-disable-http2-serving",
        "webhook-secure-port",
        "webhook-tls-cert-file",
        "webhook-tls-cipher-suites",
        "webhook-tls-curve-preferences",
        "webhook-tls-min-version",
        "webhook-tls-private-key-file",
        "webhook-tls-sni-cert-key",
        "webhooks",
    ),
    "no webhooks are served, which is an alpha feature",
)
"""Why flags steer nothing."""


def main(argv: Sequence[str]) -> int:
    """Run ``tiphys cloud-controller-manager``; returns the exit status."""
    flags_parser = parser()
    return launch_elected(flags_parser, argv, lambda flags: _run(flags, flags_parser))


async def _run(flags: argparse.Namespace, flags_parser: FlagParser) -> None:
    await run(configuration(flags, flags_parser), flags.cloud_provider, flags.cloud_config, Path(flags.kubeconfig))


def parser() -> FlagParser:
    """The parser of the cloud controller manager's flags; durations in seconds."""
    parser = FlagParser(NAME, "Runs the controllers of a cloud.", same=_SAME, why=_WHY)
    add, defaults = parser.add_argument, CloudConfig()
    add("--kubeconfig", default="", help="how to reach the API server")
    add("--cloud-provider", default="", help="the cloud: a name, or module:factory of a provider of yours")
    add("--cloud-config", type=Path, help="the provider's own configuration")
    options.add_flags(parser, _LIMITS)
    parser.add_feature_gates()
    add("--controllers", default="*", help=f"which to run: *, NAME, -NAME; known: {', '.join(CONTROLLERS)}")
    settings.add_flags(parser, 10258, tolerate_lookup_failure=False)
    leaderflags.add_flags(parser, NAME)
    add("--cluster-name", default=defaults.cluster_name, help="by which the cloud knows this cluster from others")
    parser.add_bool("--allocate-node-cidrs", default=False, help="nodes are given ranges of pod addresses")
    parser.add_bool("--configure-cloud-routes", default=True, help="the cloud's network is given routes to them")
    add("--cluster-cidr", default="", help="ranges of pod addresses, separated by commas")
    for name in ("node-status-update-frequency", "node-monitor-period", "route-reconciliation-period"):
        field = name.replace("-", "_")
        add(f"--{name}", type=parse_duration, default=getattr(defaults, field), help=f"{name.replace('-', ' ')}")
    for name in ("concurrent-service-syncs", "concurrent-node-syncs"):
        add(f"--{name}", type=int, default=1, help=f"{name.replace('-', ' ')}")
    add("--concurrent-node-status-updates", type=int, default=0, help="0: as many as concurrent node syncs")
    parser.add_verbosity()
    return parser


def configuration(flags: argparse.Namespace, flags_parser: FlagParser) -> CloudConfig:
    """Raises ``CannotStart``."""
    if not flags.kubeconfig:
        raise CannotStart("--kubeconfig is needed")
    cidrs = _words(flags.cluster_cidr)
    for text in cidrs:
        try:
            ipaddress.ip_network(text)
        except ValueError as error:
            raise CannotStart(f"--cluster-cidr: {error}") from error
    if flags.allocate_node_cidrs and not cidrs:
        raise CannotStart("--allocate-node-cidrs needs --cluster-cidr")
    config = CloudConfig(
        controllers=_words(flags.controllers),
        cluster_name=flags.cluster_name,
        cluster_cidrs=cidrs,
        allocate_node_cidrs=flags.allocate_node_cidrs,
        configure_cloud_routes=flags.configure_cloud_routes,
        node_status_update_frequency=flags.node_status_update_frequency,
        node_monitor_period=flags.node_monitor_period,
        route_reconciliation_period=flags.route_reconciliation_period,
        concurrent_service_syncs=flags.concurrent_service_syncs,
        concurrent_node_syncs=flags.concurrent_node_syncs,
        concurrent_node_status_updates=flags.concurrent_node_status_updates,
        leader_election=leaderflags.leader_election(flags),
        client=options.from_flags(flags, _LIMITS),
        serving=settings.port_settings(flags, flags_parser),
    )
    enabled(config)
    return config


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


async def run(
    config: CloudConfig, provider: str, cloud_config: Path | None, kubeconfig: Path, ready: Ready = whenever
) -> None:
    """Make a cloud controller manager and run it until it is cancelled. Raises ``CannotStart``."""
    async with contextlib.AsyncExitStack() as stack:
        cloud = make_provider(provider, cloud_config)
        stack.push_async_callback(cloud.close)
        client = await stack.enter_async_context(connected(kubeconfig, NAME, config.client))
        manager = CloudControllerManager(
            config=config, cloud=cloud, client=client, clock=SystemClock(), registry=Registry()
        )
        await manager.run(ready)
