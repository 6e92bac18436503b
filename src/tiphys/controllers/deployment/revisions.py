"""Revisions: which ReplicaSet was rolled out when, kept in annotations, for ``kubectl rollout history`` and ``undo``.

Source: https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#rolling-back-a-deployment
"""

from __future__ import annotations

from collections.abc import Iterable

from tiphys.api.object import Object
from tiphys.controlkit.objects import (
    annotations_of,
    set_annotation,
    status_of,
)
from tiphys.controllers.deployment.rollout import DESIRED, MAX_INT32, MAXIMUM, by_age, max_surge, replicas_of

REVISION = "deployment.kubernetes.io/revision"
HISTORY = "deployment.kubernetes.io/revision-history"
ROLLBACK_TO = "deprecated.deployment.rollback.to"
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"

HISTORY_LENGTH = 2000
"""Characters that the history annotation may have; the oldest revisions are dropped first."""

_NOT_COPIED = frozenset((LAST_APPLIED, REVISION, HISTORY, DESIRED, MAXIMUM, ROLLBACK_TO))


def _number(text: str) -> int | None:
    digits = text.removeprefix("-").removeprefix("+")
    return int(text) if digits.isascii() and digits.isdigit() else None


def revision_of(obj: Object) -> int | None:
    """0 if it has none, None if the annotation is not a number."""
    text = annotations_of(obj).get(REVISION)
    return 0 if text is None else _number(text)


def max_revision(sets: Iterable[Object]) -> int:
    return max((revision_of(rs) or 0 for rs in sets), default=0)


def last_revision(sets: Iterable[Object]) -> int:
    """The revision before the highest; 0 if none exists."""
    numbers = sorted((number for rs in sets if (number := revision_of(rs)) is not None), reverse=True)
    return max(numbers[1], 0) if len(numbers) > 1 else 0


def annotate_new(deployment: Object, new: Object, revision: int, *, exists: bool) -> bool:
    """Give the new ReplicaSet the Deployment's annotations, its revision and history. Whether that changed it."""
    changed = _copy_annotations(deployment, new)
    old_text = annotations_of(new).get(REVISION)
    old = _number(old_text) if old_text else 0
    if old is None:
        return False
    if old < revision:
        set_annotation(new, REVISION, str(revision))
        changed = True
        if old_text is not None:
            _remember(new, old_text)
    if not exists and annotate_size(deployment, new):
        changed = True
    return changed


def _copy_annotations(deployment: Object, rs: Object) -> bool:
    changed = False
    for name, value in annotations_of(deployment).items():
        if name not in _NOT_COPIED and annotations_of(rs).get(name) != value:
            set_annotation(rs, name, value)
            changed = True
    return changed


def _remember(rs: Object, revision: str) -> None:
    history = annotations_of(rs).get(HISTORY, "")
    revisions = [part for part in history.split(",") if part] + [revision]
    while revisions and len(",".join(revisions)) > HISTORY_LENGTH:
        revisions.pop(0)
    if revisions:
        set_annotation(rs, HISTORY, ",".join(revisions))


def size_annotations(deployment: Object) -> dict[str, str]:
    """What the Deployment wanted when a ReplicaSet was last scaled for it."""
    desired = replicas_of(deployment)
    return {DESIRED: str(desired), MAXIMUM: str(desired + max_surge(deployment))}


def annotate_size(deployment: Object, rs: Object) -> bool:
    changed = False
    for name, value in size_annotations(deployment).items():
        if annotations_of(rs).get(name) != value:
            set_annotation(rs, name, value)
            changed = True
    return changed


def rollback_target(deployment: Object) -> int | None:
    """The revision that the deprecated rollback annotation asks for; 0 means the one before."""
    text = annotations_of(deployment).get(ROLLBACK_TO)
    return _number(text) if text else None


def rolled_back_annotations(deployment: Object, rs: Object) -> dict[str, str]:
    """The Deployment's annotations after a rollback to ``rs``."""
    kept = {key: value for key, value in annotations_of(deployment).items() if key in _NOT_COPIED}
    return kept | {key: value for key, value in annotations_of(rs).items() if key not in _NOT_COPIED}


def to_clean_up(deployment: Object, old: Iterable[Object]) -> list[Object]:
    """Old ReplicaSets beyond ``revisionHistoryLimit``, lowest revision first, that have no replicas left."""
    limit = deployment["spec"].get("revisionHistoryLimit")
    if limit is None or limit == MAX_INT32:
        return []
    alive = [rs for rs in old if not rs["metadata"].get("deletionTimestamp")]
    surplus = len(alive) - limit
    if surplus <= 0:
        return []
    alive.sort(key=lambda rs: (revision_of(rs) or 0, by_age(rs)))
    return [rs for rs in alive[:surplus] if _is_empty(rs)]


def _is_empty(rs: Object) -> bool:
    status = status_of(rs)
    observed = int(status.get("observedGeneration") or 0)
    generation = int(rs["metadata"].get("generation") or 0)
    return not status.get("replicas") and replicas_of(rs) == 0 and generation <= observed
