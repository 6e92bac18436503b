"""`tiphys kube-scheduler`: the scheduler with upstream's flags, and upstream's configuration file by ``--config``.

Source: https://kubernetes.io/docs/reference/command-line-tools-reference/kube-scheduler/
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tiphys.client import options
from tiphys.client.kubeconfig import connected
from tiphys.controlkit import leaderflags
from tiphys.controlkit.elected import launch_elected
from tiphys.controlkit.serving import settings
from tiphys.runtime.clock import SystemClock
from tiphys.runtime.component import ConfigError, Ready, read_file, whenever
from tiphys.runtime.flags import FlagParser, parse_duration
from tiphys.scheduler import configfile
from tiphys.scheduler.config import SchedulerConfig
from tiphys.scheduler.configfile import LIMITS
from tiphys.scheduler.scheduler import Scheduler

_SAME = {"contention-profiling": ("false",), "kube-api-content-type": ("application/json", "")}
"""What flags that steer nothing may say beside upstream's default."""


def main(argv: Sequence[str]) -> int:
    flags_parser = parser()
    return launch_elected(flags_parser, argv, lambda flags: run(*_configuration(flags, flags_parser)))


def parser() -> FlagParser:
    """The parser of the scheduler's flags; durations in seconds."""
    parser = FlagParser("kube-scheduler", "Chooses a node for each pod.", same=_SAME)
    parser.add_feature_gates()
    add = parser.add_argument
    add("--config", type=Path, help="a KubeSchedulerConfiguration; flags that it covers are then not looked at")
    add("--kubeconfig", default="", help="how to reach the API server")
    options.add_flags(parser, LIMITS)
    add("--pod-max-in-unschedulable-pods-duration", type=parse_duration, default=300.0, metavar="DURATION",
        help="a pod that found no node is tried again after so long")  # fmt: skip
    settings.add_flags(parser, 10259, tolerate_lookup_failure=True)
    leaderflags.add_flags(parser, "kube-scheduler")
    parser.add_verbosity()
    parser.add_metrics()
    return parser


def _configuration(flags: argparse.Namespace, flags_parser: FlagParser) -> tuple[SchedulerConfig, Path]:
    """The configuration and the kubeconfig's path. Raises ``ConfigError``."""
    config, kubeconfig = SchedulerConfig(), ""
    if flags.config is not None:
        config, kubeconfig = configfile.parse(read_file(flags.config), str(flags.config))
    else:
        client = options.from_flags(flags, LIMITS)
        election = leaderflags.leader_election(flags)
        config = replace(config, leader_election=election, client=client, profiling=flags.profiling)
    if flags.master:
        config = replace(config, client=replace(config.client, server=flags.master))
    if not (kubeconfig or flags.kubeconfig):
        raise ConfigError("--kubeconfig is needed, or clientConnection.kubeconfig in the file that --config names")
    config = replace(config, leftover_after=flags.pod_max_in_unschedulable_pods_duration)
    if (serving := settings.port_settings(flags, flags_parser)) is not None:
        config = replace(config, serving=replace(serving, profiling=config.profiling))
    return config, Path(kubeconfig or flags.kubeconfig)


async def run(config: SchedulerConfig, kubeconfig: Path, ready: Ready = whenever) -> None:
    """Make a scheduler and run it until it is cancelled; ``ready`` is called once it can choose nodes."""
    async with connected(kubeconfig, "kube-scheduler", config.client) as client:
        await Scheduler(config=config, client=client, clock=SystemClock()).run(ready)
