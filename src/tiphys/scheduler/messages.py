"""How it is said that a pod fits nowhere, with upstream's wording."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from tiphys.scheduler.framework.status import Status

NO_NODES = "no nodes available to schedule pods"

LONGEST = 1024


def no_fit(
    nodes: int, statuses: Mapping[str, Status], rest: Status | None, *, pre_filter: str = "", post_filter: str = ""
) -> str:
    """``0/3 nodes are available: 1 Insufficient cpu, 2 node(s) were unschedulable. preemption: …``

    ``rest`` is the status of the nodes that ``statuses`` does not name.
    """
    message = f"0/{nodes} nodes are available:"
    if pre_filter:
        message += f" {pre_filter}."
    else:
        reasons = Counter(reason for status in statuses.values() for reason in status.reasons)
        if rest is not None and len(statuses) < nodes:
            for reason in rest.reasons:
                reasons[reason] += nodes - len(statuses)
        if reasons:
            message += f" {', '.join(sorted(f'{count} {reason}' for reason, count in reasons.items()))}."
    return f"{message} {post_filter}" if post_filter else message


def event_note(message: str) -> str:
    """As much of a message as an Event may hold."""
    return message if len(message) <= LONGEST else message[: LONGEST - 4] + " ..."
