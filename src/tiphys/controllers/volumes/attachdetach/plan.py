"""What is to be done about one volume: where to attach it, and from where to detach it. Pure.

A volume is detached from a node only once the kubelet has unmounted it, or what is written could be lost. But
a node that is dead for long, or that somebody has said to be out of service, is not waited for. Source:
https://kubernetes.io/docs/concepts/cluster-administration/node-shutdown/#non-graceful-node-shutdown (KEP-2268)
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from tiphys.api.meta.conditions import find_condition
from tiphys.api.object import Object

MAX_WAIT_FOR_UNMOUNT = 360.0
"""Seconds."""
_OUT_OF_SERVICE = "node.kubernetes.io/out-of-service"


@dataclass(frozen=True, slots=True)
class Attachment:
    """A VolumeAttachment: ``attached`` by its driver, and ``leaving`` once it is deleted."""

    attached: bool = False
    leaving: bool = False


@dataclass(frozen=True, slots=True)
class NodeState:
    """``mounted``: the kubelet says that it has the volume mounted, or nobody knows."""

    ready: bool
    out_of_service: bool
    mounted: bool


@dataclass(frozen=True, slots=True)
class Detachment:
    """``verify``: the node is asked once more whether it has the volume mounted."""

    node: str
    verify: bool
    reason: str = ""
    """Why this is done by force: ``timeout`` or ``out-of-service``."""


@dataclass(frozen=True, slots=True)
class Plan:
    """``blocked``: nodes that want the volume while others have it. ``again``: seconds until time changes the plan."""

    attach: tuple[str, ...] = ()
    detach: tuple[Detachment, ...] = ()
    blocked: tuple[str, ...] = ()
    again: float | None = None


def state_of(node: Object | None, volume: str) -> NodeState:
    """``volume`` by its unique name. Of a node that is gone nobody knows what it still does."""
    if node is None:
        return NodeState(ready=False, out_of_service=False, mounted=True)
    status = node.get("status") or {}
    condition = find_condition(status.get("conditions") or [], "Ready")
    taints = node["spec"].get("taints") or []
    return NodeState(
        ready=condition is not None and condition["status"] == "True",
        out_of_service=any(taint["key"] == _OUT_OF_SERVICE for taint in taints),
        mounted=volume in (status.get("volumesInUse") or []),
    )


def make_plan(
    *,
    wanted: Collection[str],
    attachments: Mapping[str, Attachment],
    nodes: Mapping[str, NodeState],
    unwanted_for: Mapping[str, float],
    exclusive: bool,
    by_timeout: bool = True,
) -> Plan:
    """``wanted``: nodes whose pods need the volume. ``nodes`` has every node of ``attachments``.

    ``unwanted_for``: seconds for which no pod of a node has needed the volume. ``by_timeout``: whether it is taken from
    an unhealthy node after a while.
    """
    detach, again = [], None
    for name, attachment in attachments.items():
        if name in wanted or attachment.leaving:
            continue
        node, waited = nodes[name], unwanted_for.get(name, 0.0)
        expired = waited > MAX_WAIT_FOR_UNMOUNT and by_timeout
        forced = expired and not node.ready
        if node.mounted and not forced and not node.out_of_service:
            left = MAX_WAIT_FOR_UNMOUNT - waited
            again = min(again or left, left) if left > 0 else again
            continue
        reason = "out-of-service" if node.out_of_service else "timeout" if forced and node.mounted else ""
        detach.append(Detachment(name, verify=not expired and not node.out_of_service, reason=reason))
    missing = sorted(name for name in wanted if name not in attachments)
    if not exclusive:
        return Plan(tuple(missing), tuple(detach), (), again)
    free = not attachments
    return Plan(tuple(missing[:1]) if free else (), tuple(detach), tuple(missing[1:] if free else missing), again)
