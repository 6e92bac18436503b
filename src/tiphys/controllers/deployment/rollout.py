"""How many replicas each ReplicaSet of a Deployment is to have next: pure decisions.

Source: https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#strategy and #scaling-a-deployment
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tiphys.api.meta.intorstring import scaled_value
from tiphys.api.object import Object
from tiphys.controlkit.objects import (
    annotations_of,
    created_at,
    name_of,
    status_of,
    uid_of,
)
from tiphys.controllers.templates import equal_ignoring_hash

DESIRED = "deployment.kubernetes.io/desired-replicas"
MAXIMUM = "deployment.kubernetes.io/max-replicas"

MAX_INT32 = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Scale:
    """One ReplicaSet is to have ``replicas`` replicas."""

    replica_set: Object
    replicas: int


def replicas_of(obj: Object) -> int:
    """``spec.replicas``, which defaults to 1."""
    replicas = obj["spec"].get("replicas")
    return 1 if replicas is None else int(replicas)


def available_of(replica_set: Object) -> int:
    """How many of its replicas will be available once it has as many as it is to have now.

    Right after a ReplicaSet was made smaller its status still counts the pods that are going; who relied on them would
    make it smaller by as many again.
    """
    return min(int(status_of(replica_set).get("availableReplicas") or 0), replicas_of(replica_set))


def total(sets: Iterable[Object]) -> int:
    return sum(map(replicas_of, sets))


def total_status(sets: Iterable[Object], field: str) -> int:
    return sum(int(status_of(rs).get(field) or 0) for rs in sets)


def by_age(replica_set: Object) -> tuple[str, str]:
    return created_at(replica_set), name_of(replica_set)


def active(sets: Iterable[Object]) -> list[Object]:
    return [rs for rs in sets if replicas_of(rs) > 0]


def find_new(deployment: Object, sets: Iterable[Object]) -> Object | None:
    """The oldest ReplicaSet with the Deployment's template."""
    template = deployment["spec"]["template"]
    return next((rs for rs in sorted(sets, key=by_age) if equal_ignoring_hash(rs["spec"]["template"], template)), None)


def find_old(deployment: Object, sets: Iterable[Object]) -> list[Object]:
    """All the others, by age."""
    sets = sorted(sets, key=by_age)
    new = find_new(deployment, sets)
    return [rs for rs in sets if new is None or uid_of(rs) != uid_of(new)]


# Fence posts


def is_rolling(deployment: Object) -> bool:
    return bool((deployment["spec"].get("strategy") or {}).get("type", "RollingUpdate") == "RollingUpdate")


def fenceposts(deployment: Object) -> tuple[int, int]:
    """Max surge and max unavailable in pods; never both zero, as then nothing could move."""
    rolling = (deployment["spec"].get("strategy") or {}).get("rollingUpdate") or {}
    desired = replicas_of(deployment)
    surge = scaled_value(rolling.get("maxSurge") or 0, desired, round_up=True)
    unavailable = scaled_value(rolling.get("maxUnavailable") or 0, desired, round_up=False)
    return (0, 1) if surge == 0 and unavailable == 0 else (surge, unavailable)


def max_surge(deployment: Object) -> int:
    return fenceposts(deployment)[0] if is_rolling(deployment) else 0


def max_unavailable(deployment: Object) -> int:
    if not is_rolling(deployment) or replicas_of(deployment) == 0:
        return 0
    return min(fenceposts(deployment)[1], replicas_of(deployment))


# Rolling update


def new_replicas(deployment: Object, sets: Iterable[Object], new_size: int) -> int:
    """What the new ReplicaSet, of ``new_size`` now, may have: as many as max surge leaves room for."""
    desired = replicas_of(deployment)
    if not is_rolling(deployment):
        return desired
    rolling = (deployment["spec"].get("strategy") or {}).get("rollingUpdate") or {}
    limit = desired + scaled_value(rolling.get("maxSurge") or 0, desired, round_up=True)
    current = total(sets)
    if current >= limit:
        return new_size
    return new_size + min(limit - current, desired - new_size)


def grow_new(deployment: Object, sets: Iterable[Object], new: Object) -> int:
    """The next size of the new ReplicaSet in a rolling update."""
    size, desired = replicas_of(new), replicas_of(deployment)
    return desired if size >= desired else new_replicas(deployment, sets, size)


def shrink_old(deployment: Object, new: Object, old: Sequence[Object]) -> list[Scale]:
    """Next sizes of the old ReplicaSets: unhealthy replicas first, then as many as max unavailable allows."""
    old = sorted(active(old), key=by_age)
    if not old:
        return []
    minimum = replicas_of(deployment) - max_unavailable(deployment)
    new_unavailable = replicas_of(new) - available_of(new)
    removable = total(old) + replicas_of(new) - minimum - new_unavailable
    if removable <= 0:
        return []
    sizes = _without_unhealthy(old, removable)
    surplus = sum(map(available_of, [*old, new])) - minimum
    for number, size in enumerate(sizes):
        taken = min(size, max(surplus, 0))
        sizes[number] -= taken
        surplus -= taken
    return [Scale(rs, size) for rs, size in zip(old, sizes, strict=True) if size != replicas_of(rs)]


def _without_unhealthy(old: Sequence[Object], removable: int) -> list[int]:
    """Sizes after the replicas that are not available have been removed, at most ``removable`` of them."""
    sizes = []
    for rs in old:
        size = replicas_of(rs)
        taken = min(removable, max(size - available_of(rs), 0))
        removable -= taken
        sizes.append(size - taken)
    return sizes


# Scaling while paused or in the middle of a rollout


def scale(deployment: Object, new: Object | None, old: Sequence[Object]) -> list[Scale]:
    """Next sizes after the Deployment's replicas were changed: the ReplicaSets keep their proportions."""
    desired = replicas_of(deployment)
    single = active_or_latest(new, old)
    if single is not None:
        return [] if replicas_of(single) == desired else [Scale(single, desired)]
    if new is not None and is_saturated(deployment, new):
        return [Scale(rs, 0) for rs in active(old)]
    if is_rolling(deployment):
        return _proportional(deployment, active([*old, new] if new is not None else old))
    return []


def active_or_latest(new: Object | None, old: Sequence[Object]) -> Object | None:
    """The one ReplicaSet with replicas; if none has, the new or the youngest; None if several have."""
    if new is None and not old:
        return None
    youngest_first = sorted(old, key=by_age, reverse=True)
    sets = active([*youngest_first, new] if new is not None else youngest_first)
    if len(sets) > 1:
        return None
    return sets[0] if sets else new or youngest_first[0]


def is_saturated(deployment: Object, rs: Object) -> bool:
    """Whether the rollout to ``rs`` is complete, also in the annotation that says what it was scaled for."""
    desired = replicas_of(deployment)
    return annotation_number(rs, DESIRED) == desired == replicas_of(rs) == available_of(rs)


def annotation_number(rs: Object, name: str) -> int | None:
    text = annotations_of(rs).get(name, "")
    if not (text.isascii() and text.isdigit()):
        return None
    value = int(text)
    return value if value <= MAX_INT32 else None


def _proportional(deployment: Object, sets: list[Object]) -> list[Scale]:
    desired = replicas_of(deployment)
    allowed = desired + max_surge(deployment) if desired > 0 else 0
    to_add = allowed - total(sets)
    if to_add == 0 or not sets:
        return [Scale(rs, replicas_of(rs)) for rs in sets]
    sets = sorted(sets, key=by_age, reverse=to_add > 0)
    sets.sort(key=replicas_of, reverse=True)
    added, sizes = 0, []
    for rs in sets:
        share = 0 if to_add == added else _proportion(rs, deployment, to_add, added)
        sizes.append(replicas_of(rs) + share)
        added += share
    sizes[0] = max(sizes[0] + to_add - added, 0)
    return [Scale(rs, size) for rs, size in zip(sets, sizes, strict=True)]


def _proportion(rs: Object, deployment: Object, to_add: int, added: int) -> int:
    fraction, left = _fraction(rs, deployment), to_add - added
    return min(fraction, left) if to_add > 0 else max(fraction, left)


def _fraction(rs: Object, deployment: Object) -> int:
    """By how much ``rs`` grows (or shrinks) if it keeps its share of the whole."""
    size = replicas_of(rs)
    if replicas_of(deployment) == 0:
        return -size
    before = annotation_number(rs, MAXIMUM) or int(status_of(deployment).get("replicas") or 0)
    if before == 0:
        return 0
    exact = size * (replicas_of(deployment) + max_surge(deployment)) / before
    rounded = int(exact + 0.5) if exact >= 0 else int(exact - 0.5)
    return rounded - size


def is_scaling(deployment: Object, sets: Iterable[Object]) -> bool:
    """Whether an active ReplicaSet was last scaled for another number of replicas."""
    desired = replicas_of(deployment)
    return any((noted := annotation_number(rs, DESIRED)) is not None and noted != desired for rs in active(sets))
