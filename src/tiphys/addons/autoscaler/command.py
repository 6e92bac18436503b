"""`tiphys cluster-autoscaler`: nodes for pods that wait for room, with flags of upstream's autoscaler.

Source: https://github.com/kubernetes/autoscaler/blob/master/cluster-autoscaler/FAQ.md#what-are-the-parameters-to-ca
"""

from __future__ import annotations

import argparse
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any

from tiphys.addons.autoscaler.controller import AGENT, Autoscaler, AutoscalerConfig, with_bounds
from tiphys.addons.autoscaler.decision import Group
from tiphys.client.kubeconfig import SERVICE_ACCOUNT, connected
from tiphys.cloud.provider import CloudProvider
from tiphys.cloud.registry import make_provider
from tiphys.runtime.clock import SystemClock
from tiphys.runtime.component import CannotStart, Ready, launch, whenever
from tiphys.runtime.flags import FlagParser, parse_duration

PREFIX = "auto"
DEFAULT = AutoscalerConfig(Group(PREFIX, 0, 3))


def main(argv: Sequence[str]) -> int:
    return launch(_parser(), argv, _run)


def _parser() -> FlagParser:
    """The parser of the autoscaler's flags; durations in seconds."""
    parser = FlagParser(AGENT, "Adds nodes for pods that wait for room, and removes empty ones.")
    add = parser.add_argument
    add("--kubeconfig", type=Path, default=SERVICE_ACCOUNT, help="how to reach the API server (default: as this pod)")
    add("--cloud-provider", default="", help="whose machines: a name, or module:factory of a provider of yours")
    add("--cloud-config", type=Path, help="the provider's own configuration")
    add(
        "--nodes", default="0:3", help=f"MIN:MAX[:NAME]: how many nodes NAME-1, NAME-2, … there may be (NAME: {PREFIX})"
    )
    add("--scan-interval", type=parse_duration, default=DEFAULT.scan_interval, help="between two looks")
    add(
        "--scale-down-unneeded-time",
        type=parse_duration,
        default=DEFAULT.unneeded_time,
        help="how long a node is empty",
    )
    add(
        "--scale-down-delay-after-add",
        type=parse_duration,
        default=DEFAULT.delay_after_add,
        help="after the last new one",
    )
    parser.add_verbosity()
    return parser


def _run(flags: argparse.Namespace) -> Coroutine[Any, Any, None]:
    if flags.scan_interval <= 0:
        raise CannotStart("--scan-interval must be more than 0")
    config = AutoscalerConfig(
        DEFAULT.group, flags.scan_interval, flags.scale_down_unneeded_time, flags.scale_down_delay_after_add
    )
    try:
        config = with_bounds(config, flags.nodes)
    except ValueError as error:
        raise CannotStart(f"--nodes: {error}") from error
    cloud = make_provider(flags.cloud_provider, flags.cloud_config)
    return run(config, cloud, flags.kubeconfig)


async def run(config: AutoscalerConfig, cloud: CloudProvider, kubeconfig: Path, ready: Ready = whenever) -> None:
    """Run until cancelled. Raises ``CannotStart`` for a cloud that makes no machines."""
    try:
        machines = cloud.machines
        if machines is None:
            raise CannotStart(f"--cloud-provider: {cloud.name} makes no machines; an autoscaler needs one that does")
        async with connected(kubeconfig, AGENT) as client:
            await Autoscaler(config, client, machines, SystemClock()).run(ready)
    finally:
        await cloud.close()
