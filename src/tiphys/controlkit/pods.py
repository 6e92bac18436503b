"""What controllers ask about pods: active, terminating, ready, available, whose, and which to delete first.

Source: https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/ and, for the order of deletion,
https://kubernetes.io/docs/concepts/workloads/controllers/replicaset/#scaling-a-replicaset
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Sequence

from tiphys.api.meta.objects import phase_of as phase_of
from tiphys.api.object import Object
from tiphys.api.pods.conditions import is_ready as is_ready
from tiphys.client.informer import Informer
from tiphys.controlkit.objects import (
    annotations_of,
    condition,
    controller_of,
    is_deleting,
    name_of,
    namespace_of,
    parse_time,
    status_of,
    uid_of,
)

OWNER_INDEX = "podController"
NODE_INDEX = "spec.nodeName"
DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"


def node_of(pod: Object) -> str:
    return str((pod.get("spec") or {}).get("nodeName") or "")


def is_finished(pod: Object) -> bool:
    return phase_of(pod) in ("Succeeded", "Failed")


def is_active(pod: Object) -> bool:
    """Neither finished nor being deleted."""
    return not is_finished(pod) and not is_deleting(pod)


def is_terminating(pod: Object) -> bool:
    """Being deleted and not yet finished."""
    return is_deleting(pod) and not is_finished(pod)


def ready_since(pod: Object) -> float | None:
    ready = condition(pod, "Ready")
    if ready is None or ready.get("status") != "True":
        return None
    return parse_time(ready.get("lastTransitionTime"))


def is_available(pod: Object, min_ready_seconds: int, now: float) -> bool:
    """Ready for at least ``min_ready_seconds``."""
    if not is_ready(pod):
        return False
    since = ready_since(pod)
    return min_ready_seconds == 0 or (since is not None and since + min_ready_seconds <= now)


def next_availability_check(pods: Iterable[Object], min_ready_seconds: int, now: float) -> float | None:
    """Seconds until the next of the ready pods becomes available; None if none will by waiting."""
    waits = [since + min_ready_seconds - now for pod in pods if (since := ready_since(pod)) is not None]
    return min((wait for wait in waits if wait > 0), default=None) if min_ready_seconds > 0 else None


# Indexes


def owner_key(namespace: str, kind: str, name: str, uid: str) -> str:
    return f"{namespace}/{kind}/{name}/{uid}"


def _owner_keys(pod: Object) -> tuple[str]:
    reference = controller_of(pod)
    if reference is None:
        return (namespace_of(pod),)
    return (owner_key(namespace_of(pod), reference["kind"], reference["name"], reference["uid"]),)


def index_by_owner(informer: Informer) -> None:
    """Add the index that ``owned_pods`` uses, once for all controllers."""
    if not informer.store.has_index(OWNER_INDEX):
        informer.add_index(OWNER_INDEX, _owner_keys)


def index_by_node(informer: Informer) -> None:
    if not informer.store.has_index(NODE_INDEX):
        informer.add_index(NODE_INDEX, lambda pod: (node,) if (node := node_of(pod)) else ())


def owned_pods(informer: Informer, owner: Object, kind: str, *, orphans: bool) -> list[Object]:
    """The pods that ``owner`` controls, and with ``orphans`` those of its namespace that nobody does."""
    namespace = namespace_of(owner)
    pods = informer.store.by_index(OWNER_INDEX, owner_key(namespace, kind, name_of(owner), uid_of(owner)))
    return pods + informer.store.by_index(OWNER_INDEX, namespace) if orphans else pods


# Which pods to delete first

_PHASES = {"Pending": 0, "Unknown": 1, "Running": 2}


def deletion_cost(pod: Object) -> int:
    """The annotation's value if it is a 32-bit integer in its canonical form, else 0."""
    text = annotations_of(pod).get(DELETION_COST, "")
    digits = text.removeprefix("-")
    if not digits.isascii() or not digits.isdigit() or (digits[0] == "0" and text != "0"):
        return 0
    value = int(text)
    return value if -(2**31) <= value < 2**31 else 0


def _restarts(pod: Object) -> tuple[int, int]:
    status = status_of(pod)
    sidecars = {
        c["name"] for c in (pod.get("spec") or {}).get("initContainers") or () if c.get("restartPolicy") == "Always"
    }
    regular = max((c.get("restartCount", 0) for c in status.get("containerStatuses") or ()), default=0)
    sidecar = max(
        (c.get("restartCount", 0) for c in status.get("initContainerStatuses") or () if c["name"] in sidecars),
        default=0,
    )
    return regular, sidecar


def _age_class(since: float, now: float) -> int:
    """Ages are compared by powers of two, so that not always the youngest is taken."""
    nanoseconds = (now - since) * 1e9
    return int(math.log2(nanoseconds)) if nanoseconds > 0 else -1


def _by_age(left: tuple[float, str], right: tuple[float, str], now: float) -> int:
    difference = _age_class(left[0], now) - _age_class(right[0], now)
    if difference:
        return difference
    return -1 if left[1] < right[1] else 1


def _compare(left: Object, right: Object, rank: Callable[[Object], int], now: float) -> int:
    """Negative if ``left`` is to be deleted before ``right``."""
    left_node, right_node = node_of(left), node_of(right)
    if bool(left_node) != bool(right_node):
        return -1 if not left_node else 1
    phases = _PHASES.get(phase_of(left), 0) - _PHASES.get(phase_of(right), 0)
    if phases:
        return phases
    left_ready, right_ready = is_ready(left), is_ready(right)
    if left_ready != right_ready:
        return -1 if not left_ready else 1
    costs = deletion_cost(left) - deletion_cost(right)
    if costs:
        return costs
    ranks = rank(right) - rank(left)
    if ranks:
        return ranks
    if left_ready and right_ready:
        since_left, since_right = ready_since(left), ready_since(right)
        if since_left != since_right:
            if since_left is None or since_right is None:
                return -1 if since_left is None else 1
            return _by_age((since_left, uid_of(left)), (since_right, uid_of(right)), now)
    return _compare_restarts_and_age(left, right, now)


def _compare_restarts_and_age(left: Object, right: Object, now: float) -> int:
    restarts_left, restarts_right = _restarts(left), _restarts(right)
    if restarts_left != restarts_right:
        return -1 if restarts_left > restarts_right else 1
    made_left = parse_time(left["metadata"].get("creationTimestamp"))
    made_right = parse_time(right["metadata"].get("creationTimestamp"))
    if made_left != made_right:
        if made_left is None or made_right is None:
            return -1 if made_left is None else 1
        return _by_age((made_left, uid_of(left)), (made_right, uid_of(right)), now)
    return 0


def sort_for_deletion(pods: Iterable[Object], related: Sequence[Object], now: float) -> list[Object]:
    """``pods``, those to be deleted first in front; ``related`` are the pods that count for crowdedness of a node."""
    on_node: dict[str, int] = {}
    for pod in related:
        if is_active(pod):
            on_node[node_of(pod)] = on_node.get(node_of(pod), 0) + 1

    def rank(pod: Object) -> int:
        return on_node.get(node_of(pod), 0)

    def compare(left: Object, right: Object) -> int:
        return _compare(left, right, rank, now)

    return sorted(pods, key=functools.cmp_to_key(compare))


def sort_active(pods: Iterable[Object]) -> list[Object]:
    """``pods``, the least advanced in front: unassigned, pending, not ready, lately ready, restarted, young."""

    def compare(left: Object, right: Object) -> int:
        for part in (lambda pod: bool(node_of(pod)), lambda pod: _PHASES.get(phase_of(pod), 0), is_ready):
            difference = int(part(left)) - int(part(right))
            if difference:
                return difference
        newer = _newer_first(ready_since(left), ready_since(right))
        if newer:
            return newer
        restarts = (_restarts(left), _restarts(right))
        if restarts[0] != restarts[1]:
            return -1 if restarts[0] > restarts[1] else 1
        made = (parse_time(pod["metadata"].get("creationTimestamp")) for pod in (left, right))
        return _newer_first(*made)

    return sorted(pods, key=functools.cmp_to_key(compare))


def _newer_first(left: float | None, right: float | None) -> int:
    if left == right:
        return 0
    if left is None or right is None:
        return -1 if left is None else 1
    return -1 if left > right else 1
