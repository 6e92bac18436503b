"""Who owns the claims of a StatefulSet's pods, by its retention policy: pure.

Source: https://kubernetes.io/docs/concepts/workloads/controllers/statefulset/#persistentvolumeclaim-retention
"""

from __future__ import annotations

from tiphys.api.object import Object
from tiphys.controlkit.objects import (
    controller_reference,
    copy,
    name_of,
    uid_of,
)
from tiphys.controllers.statefulset.identity import in_range

_SET = ("apps/v1", "StatefulSet")
_POD = ("v1", "Pod")


def retention_policy(stateful_set: Object) -> tuple[str, str]:
    """What happens to claims when the set is deleted, and when it is scaled down: Retain or Delete."""
    policy = stateful_set["spec"].get("persistentVolumeClaimRetentionPolicy") or {}
    return policy.get("whenDeleted") or "Retain", policy.get("whenScaled") or "Retain"


def _references(claim: Object) -> list[Object]:
    return claim["metadata"].get("ownerReferences") or []


def _names(reference: Object, obj: Object, kind: tuple[str, str]) -> bool:
    return (reference["apiVersion"], reference["kind"]) == kind and bool(reference["name"] == name_of(obj))


def _owns(claim: Object, owner: Object) -> bool:
    return any(reference["uid"] == uid_of(owner) for reference in _references(claim))


def is_stale(claim: Object, obj: Object, kind: tuple[str, str] = _POD) -> bool:
    """Whether the claim refers to a former object of that name."""
    return any(_names(r, obj, kind) and r["uid"] != uid_of(obj) for r in _references(claim))


def has_other_controller(claim: Object, stateful_set: Object, pod: Object) -> bool:
    if retention_policy(stateful_set) == ("Retain", "Retain"):
        return False
    for reference in _references(claim):
        for owner, kind in ((stateful_set, _SET), (pod, _POD)):
            if _names(reference, owner, kind):
                if reference["uid"] != uid_of(owner):
                    return True
                break
        else:
            if reference.get("controller"):
                return True
    return False


def wanted_owners(stateful_set: Object, pod: Object) -> tuple[bool, bool]:
    """Whether the set, and whether the pod, is to own the claim."""
    when_deleted, when_scaled = retention_policy(stateful_set)
    condemned = not in_range(pod, stateful_set)
    by_pod = when_scaled == "Delete" and condemned
    by_set = when_deleted == "Delete" and not by_pod
    return by_set, by_pod


def is_current(claim: Object, stateful_set: Object, pod: Object) -> bool:
    """Whether the claim's owners are as they are to be."""
    if is_stale(claim, stateful_set, _SET) or is_stale(claim, pod):
        return True  # it belongs to a former set or pod, and is deleted with that
    owned = (_owns(claim, stateful_set), _owns(claim, pod))
    if has_other_controller(claim, stateful_set, pod):
        return not any(owned)
    for reference in _references(claim):
        if reference["uid"] in (uid_of(stateful_set), uid_of(pod)) and not reference.get("controller"):
            return False
    return owned == wanted_owners(stateful_set, pod)


def with_owners(claim: Object, stateful_set: Object, pod: Object) -> Object:
    """The claim with the owners that it is to have."""
    result: Object = copy(claim)
    references = [r for r in _references(claim) if not _names(r, stateful_set, _SET) and not _names(r, pod, _POD)]
    if not has_other_controller(claim, stateful_set, pod):
        by_set, by_pod = wanted_owners(stateful_set, pod)
        if by_set:
            references.append(controller_reference(stateful_set, *_SET))
        if by_pod:
            references.append(controller_reference(pod, *_POD))
    result["metadata"]["ownerReferences"] = references
    return result
