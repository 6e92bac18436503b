"""The flags of leader election, which all of upstream's managers share.

Source: https://kubernetes.io/docs/reference/command-line-tools-reference/kube-controller-manager/
"""

from __future__ import annotations

import argparse

from tiphys.controlkit.leaderelection import LeaderElectionConfig, own_identity
from tiphys.runtime.flags import FlagParser, parse_duration


def add_flags(parser: FlagParser, name: str) -> None:
    """``name`` is the Lease's if nothing else is said."""
    add = parser.add_argument
    parser.add_bool("--leader-elect", default=True, help="work only while holding a Lease")
    add("--leader-elect-lease-duration", type=parse_duration, default=15.0, help="after how long others take over")
    add("--leader-elect-renew-deadline", type=parse_duration, default=10.0, help="when to stop without renewal")
    add("--leader-elect-retry-period", type=parse_duration, default=2.0, help="between tries")
    add("--leader-elect-resource-lock", choices=("leases",), default="leases", help="the kind of lock")
    add("--leader-elect-resource-name", default=name, help="the Lease's name")
    add("--leader-elect-resource-namespace", default="kube-system", help="the Lease's namespace")


def leader_election(flags: argparse.Namespace) -> LeaderElectionConfig | None:
    """None: it works whoever else does."""
    if not flags.leader_elect:
        return None
    return LeaderElectionConfig(
        identity=own_identity(),
        name=flags.leader_elect_resource_name,
        namespace=flags.leader_elect_resource_namespace,
        lease_duration=flags.leader_elect_lease_duration,
        renew_deadline=flags.leader_elect_renew_deadline,
        retry_period=flags.leader_elect_retry_period,
    )
