"""`tiphys csi-controller`: the controllers that go with any CSI driver, in one process beside it.

It does what upstream's external-provisioner, -attacher, -resizer and -snapshotter do, each if the driver has a use for
it. Source: https://kubernetes-csi.github.io/docs/sidecar-containers.html
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from tiphys.api.csi.messages import csi
from tiphys.client.kubeconfig import SERVICE_ACCOUNT, connected
from tiphys.controlkit.elected import launch_elected
from tiphys.controlkit.leaderelection import LeaderElectionConfig, own_identity
from tiphys.csi.connection import read_facts
from tiphys.csi.context import DriverOptions
from tiphys.csi.manager import CONTROLLERS, DriverControllers, ManagerConfig
from tiphys.runtime.clock import SystemClock
from tiphys.runtime.component import CannotStart
from tiphys.runtime.flags import FlagParser, parse_duration
from tiphys.wire.grpc.caller import Caller


def main(argv: Sequence[str]) -> int:
    return launch_elected(_parser(), argv, _run)


def _parser() -> FlagParser:
    """The parser of the command's flags; they are named as upstream's."""
    parser = FlagParser("csi-controller", "Makes, attaches, grows and snapshots the volumes of a CSI driver.")
    add = parser.add_argument
    add("--csi-address", type=Path, default=Path("/run/csi/socket"), help="the driver's socket")
    add(
        "--kubeconfig",
        type=Path,
        default=SERVICE_ACCOUNT,
        help="how to reach the API server (default: the pod's own account)",
    )
    add("--controllers", default="*", help=f"which to run: *, or a list of {', '.join(CONTROLLERS)}")
    add("--timeout", type=parse_duration, default=60.0, help="of calls to the driver")
    add("--worker-threads", type=int, default=10, help="volumes that are worked on at the same time")
    add("--retry-interval-start", type=parse_duration, default=1.0, help="until the first retry; doubled with each")
    add("--retry-interval-max", type=parse_duration, default=300.0, help="between retries at most")
    add("--default-fstype", default="", help="of volumes whose class names none")
    parser.add_bool("--extra-create-metadata", default=False, help="let the driver know of claims and volumes by name")
    parser.add_bool(
        "--node-deployment", default=False, help="the driver runs on every node: serve NODE_NAME's volumes only"
    )
    add("--capacity-poll-interval", type=parse_duration, default=60.0, help="between looks at how much room there is")
    parser.add_bool("--leader-election", default=False, help="work only while holding a Lease")
    add("--leader-election-namespace", default="", help="the Lease's namespace (default: the pod's own)")
    add("--leader-election-lease-duration", type=parse_duration, default=15.0, help="after how long others take over")
    add("--leader-election-renew-deadline", type=parse_duration, default=10.0, help="when to stop without renewal")
    add("--leader-election-retry-period", type=parse_duration, default=5.0, help="between tries")
    parser.add_verbosity()
    return parser


async def _run(flags: argparse.Namespace) -> None:
    chosen = CONTROLLERS if flags.controllers == "*" else tuple(flags.controllers.split(","))
    if unknown := sorted(set(chosen) - set(CONTROLLERS)):
        raise CannotStart(f'--controllers: "{unknown[0]}" is not known; use {", ".join(CONTROLLERS)}')
    node = os.environ.get("NODE_NAME", "") if flags.node_deployment else ""
    if flags.node_deployment and not node:
        raise CannotStart("--node-deployment needs the environment variable NODE_NAME")
    clock, connection = SystemClock(), Caller(str(flags.csi_address), csi())
    async with connected(flags.kubeconfig, "csi-controller") as client:
        try:
            facts = await read_facts(connection, clock)
            config = ManagerConfig(
                identity=node or own_identity(),
                options=_options(flags, node),
                election=_election(flags, facts.name),
                controllers=chosen,
            )
            await DriverControllers(config, client, connection, clock).run()
        finally:
            await connection.close()


def _options(flags: argparse.Namespace, node: str) -> DriverOptions:
    return DriverOptions(
        node=node,
        timeout=flags.timeout,
        workers=flags.worker_threads,
        first_retry=flags.retry_interval_start,
        last_retry=flags.retry_interval_max,
        default_fs_type=flags.default_fstype,
        extra_create_metadata=flags.extra_create_metadata,
        capacity_poll=flags.capacity_poll_interval,
        capacity_namespace=_own_namespace(),
    )


def _election(flags: argparse.Namespace, driver: str) -> LeaderElectionConfig | None:
    """One Lease for each driver, whose name is made of the driver's."""
    if not flags.leader_election:
        return None
    return LeaderElectionConfig(
        identity=own_identity(),
        name=f"csi-controller-{driver.replace('/', '-')}",
        namespace=flags.leader_election_namespace or _own_namespace(),
        lease_duration=flags.leader_election_lease_duration,
        renew_deadline=flags.leader_election_renew_deadline,
        retry_period=flags.leader_election_retry_period,
    )


def _own_namespace() -> str:
    """Where this pod is; kube-system for a process that is in none."""
    try:
        return os.environ.get("NAMESPACE") or (SERVICE_ACCOUNT / "namespace").read_text()
    except FileNotFoundError:
        return "kube-system"
