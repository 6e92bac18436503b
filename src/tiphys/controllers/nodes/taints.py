"""Taints of nodes and tolerations of pods.

Source: https://kubernetes.io/docs/concepts/scheduling-eviction/taint-and-toleration/
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tiphys.api.object import Object
from tiphys.api.scheduling import taints as taints_api
from tiphys.client import errors
from tiphys.client.resources import NODES
from tiphys.client.rest import Client
from tiphys.controlkit.objects import (
    timestamp,
)
from tiphys.runtime.clock import Clock

Taint = tuple[str, str]
"""Key and effect, which identify a taint."""

CONFLICT_RETRIES = 5


def identity(taint: Object) -> Taint:
    return taint["key"], taint["effect"]


def taints_of(node: Object) -> list[Object]:
    return node["spec"].get("taints") or []


def has_taint(node: Object, taint: Taint) -> bool:
    return any(identity(other) == taint for other in taints_of(node))


def changed_taints(taints: Iterable[Object], add: Sequence[Taint], remove: Iterable[Taint], now: float) -> list[Object]:
    """The taints after the change, those added with the time of it."""
    gone = {*remove, *add}
    kept = [taint for taint in taints if identity(taint) not in gone]
    added = [{"key": key, "effect": effect, "timeAdded": timestamp(now)} for key, effect in add]
    return kept + added


async def swap_taints(
    client: Client, clock: Clock, node: str, add: Sequence[Taint] = (), remove: Sequence[Taint] = ()
) -> None:
    """Add and remove taints of the node as it is now. A node that is gone needs none."""
    for attempt in range(CONFLICT_RETRIES):
        try:
            live = await client.get(NODES, node)
            present = {identity(entry) for entry in taints_of(live)}
            missing = [taint for taint in add if taint not in present]
            if not missing and not present.intersection(remove):
                return
            taints = changed_taints(taints_of(live), missing, remove, clock.now())
            meta = {"resourceVersion": live["metadata"]["resourceVersion"]}
            await client.patch(NODES, node, {"metadata": meta, "spec": {"taints": taints or None}})
        except errors.NotFound:
            return
        except errors.Conflict:
            if attempt == CONFLICT_RETRIES - 1:
                raise
        else:
            return


def eviction_delay(taints: Iterable[Object], tolerations: Iterable[Object]) -> float | None:
    """Seconds for which a pod may stay on a node with these NoExecute taints; None: for ever."""
    read = tuple(map(taints_api.toleration, tolerations))
    used = []
    for taint in map(taints_api.taint, taints):
        covering = next((toleration for toleration in read if taints_api.tolerates(toleration, taint)), None)
        if covering is None:
            return 0.0
        used.append(covering)
    limits = [toleration.seconds for toleration in used if toleration.seconds is not None]
    return float(max(min(limits), 0)) if limits else None
