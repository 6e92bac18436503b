"""Taints of nodes and tolerations of pods.

Source: https://kubernetes.io/docs/concepts/scheduling-eviction/taint-and-toleration/
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tiphys.client import errors
from tiphys.client.resources import NODES
from tiphys.client.rest import Client
from tiphys.controlkit.objects import Object, timestamp
from tiphys.runtime.clock import Clock

NO_SCHEDULE = "NoSchedule"
NO_EXECUTE = "NoExecute"

NOT_READY = "node.kubernetes.io/not-ready"
UNREACHABLE = "node.kubernetes.io/unreachable"
UNSCHEDULABLE = "node.kubernetes.io/unschedulable"

Taint = tuple[str, str]
"""Key and effect, which identify a taint."""

CONFLICT_RETRIES = 5


def identity(taint: Object) -> Taint:
    return taint["key"], taint["effect"]


def taints_of(node: Object) -> list[Object]:
    return node["spec"].get("taints") or []


def has_taint(node: Object, taint: Taint) -> bool:
    return any(identity(found) == taint for found in taints_of(node))


def changed_taints(taints: Iterable[Object], add: Sequence[Taint], remove: Iterable[Taint], now: float) -> list[Object]:
    """The taints after the change, those added with the time of it."""
    gone = {*remove, *add}
    kept = [found for found in taints if identity(found) not in gone]
    added = [{"key": key, "effect": effect, "timeAdded": timestamp(now)} for key, effect in add]
    return kept + added


async def swap_taints(
    client: Client, clock: Clock, node: str, add: Sequence[Taint] = (), remove: Sequence[Taint] = ()
) -> None:
    """Add and remove taints of the node as it is now. A node that is gone needs none."""
    for attempt in range(CONFLICT_RETRIES):
        try:
            live = await client.get(NODES, node)
            present = {identity(found) for found in taints_of(live)}
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


def tolerates(toleration: Object, taint: Object) -> bool:
    """Whether one toleration covers one taint."""
    if toleration.get("effect") and toleration["effect"] != taint["effect"]:
        return False
    if toleration.get("key") and toleration["key"] != taint["key"]:
        return False
    operator = toleration.get("operator") or "Equal"
    if operator == "Exists":
        return True
    if operator == "Equal":
        return bool(toleration.get("key")) and (toleration.get("value") or "") == (taint.get("value") or "")
    return _compares(operator, toleration.get("value") or "", taint.get("value") or "")


def _compares(operator: str, toleration: str, taint: str) -> bool:
    """``Lt`` and ``Gt`` compare integers."""
    try:
        wanted, found = int(toleration), int(taint)
    except ValueError:
        return False
    if operator == "Lt":
        return found < wanted
    return operator == "Gt" and found > wanted


def eviction_delay(taints: Iterable[Object], tolerations: Sequence[Object]) -> float | None:
    """Seconds for which a pod may stay on a node with these NoExecute taints; None: for ever."""
    used = []
    for taint in taints:
        found = next((toleration for toleration in tolerations if tolerates(toleration, taint)), None)
        if found is None:
            return 0.0
        used.append(found)
    limits = [int(t["tolerationSeconds"]) for t in used if t.get("tolerationSeconds") is not None]
    return float(max(min(limits), 0)) if limits else None
