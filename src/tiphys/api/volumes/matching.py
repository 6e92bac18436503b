"""Which volume fits a claim.

Source: https://kubernetes.io/docs/concepts/storage/persistent-volumes/#lifecycle-of-a-volume-and-claim
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from tiphys.api.meta.objects import (
    annotations_of,
    is_deleting,
    labels_of,
    name_of,
    namespace_of,
    status_of,
    uid_of,
)
from tiphys.api.meta.quantity import Quantity
from tiphys.api.meta.selectors import selector_from_object
from tiphys.api.object import Object

_OLD_CLASS = "volume.beta.kubernetes.io/storage-class"
_DEFAULT_CLASS = (
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
)


def class_of(obj: Object) -> str:
    """Name of the storage class of a claim or volume; empty for none."""
    annotations = annotations_of(obj)
    return annotations[_OLD_CLASS] if _OLD_CLASS in annotations else obj["spec"].get("storageClassName") or ""


def has_class(claim: Object) -> bool:
    """Whether the claim says what class it wants, be it none."""
    return _OLD_CLASS in annotations_of(claim) or claim["spec"].get("storageClassName") is not None


def default_class(classes: Iterable[Object]) -> Object | None:
    """The newest of those that are marked as default."""
    marked = [
        storage_class
        for storage_class in classes
        if any(annotations_of(storage_class).get(name) == "true" for name in _DEFAULT_CLASS)
    ]
    marked.sort(key=name_of)
    return max(marked, key=lambda each: str(each["metadata"].get("creationTimestamp") or ""), default=None)


def is_bound_to(volume: Object, claim: Object) -> bool:
    """Whether the volume is the claim's, or is kept for it."""
    reference = volume["spec"].get("claimRef")
    if not reference:
        return False
    same = (reference.get("namespace", ""), reference.get("name")) == (namespace_of(claim), name_of(claim))
    return same and reference.get("uid", "") in ("", uid_of(claim))


def modes_differ(claim: Object, volume: Object) -> bool:
    """Whether one is a block device and the other a file system."""
    return _volume_mode(claim) != _volume_mode(volume)


def mismatch(volume: Object, claim: Object) -> str:
    """Why a volume cannot serve the claim that asks for it by name; empty if it can."""
    if is_deleting(volume):
        return f'the volume is marked for deletion "{name_of(volume)}"'
    if capacity(volume).value() < request(claim).value():
        return "requested PV is too small"
    if class_of(volume) != class_of(claim):
        return "storageClassName does not match"
    if _attributes_class(volume) != _attributes_class(claim):
        return "volumeAttributesClassName does not match"
    if modes_differ(claim, volume):
        return "incompatible volumeMode"
    if not _access_modes(claim) <= _access_modes(volume):
        return "incompatible accessMode"
    return ""


def best(claim: Object, volumes: Iterable[Object], *, delayed: bool) -> Object | None:
    """The volume that was kept for the claim, else the smallest that fits among those with the fewest access modes.

    ``delayed``: the scheduler chooses, so only a volume that is the claim's already will do.
    """
    groups: dict[tuple[str, ...], list[Object]] = {}
    for volume in volumes:
        modes = _access_modes(volume)
        if _access_modes(claim) <= modes:
            groups.setdefault(tuple(sorted(modes)), []).append(volume)
    for group in sorted(groups, key=lambda names: (len(names), names)):
        match = _best_of(claim, groups[group], delayed=delayed)
        if match is not None:
            return match
    return None


def best_on(claim: Object, volumes: Iterable[Object], reachable: Callable[[Object], bool]) -> Object | None:
    """The volume for a claim on one node: the one that was kept for it, if the node reaches it, else the smallest."""
    fitting: list[Object] = []
    fits = _fits(claim)
    for volume in volumes:
        if not _could_hold(claim, volume) or (volume["spec"].get("claimRef") and not is_bound_to(volume, claim)):
            continue
        if is_bound_to(volume, claim):
            return volume if reachable(volume) else None
        if fits(volume) and _access_modes(claim) <= _access_modes(volume) and reachable(volume):
            fitting.append(volume)
    return min(fitting, key=lambda volume: (capacity(volume), name_of(volume)), default=None)


def _best_of(claim: Object, volumes: Iterable[Object], *, delayed: bool) -> Object | None:
    fitting: list[Object] = []
    fits = _fits(claim)
    for volume in volumes:
        if not _could_hold(claim, volume):
            continue
        if is_bound_to(volume, claim):
            return volume
        if not delayed and fits(volume):
            fitting.append(volume)
    return min(fitting, key=lambda volume: (capacity(volume), name_of(volume)), default=None)


def _fits(claim: Object) -> Callable[[Object], bool]:
    """Whether a volume is free, and of the class and with the labels that the claim asks for."""
    wanted = claim["spec"].get("selector")
    matches = selector_from_object(wanted).matches if wanted is not None else None

    def fits(volume: Object) -> bool:
        available = not volume["spec"].get("claimRef") and status_of(volume).get("phase") == "Available"
        selected = matches is None or matches(labels_of(volume))
        return available and selected and class_of(volume) == class_of(claim)

    return fits


def _could_hold(claim: Object, volume: Object) -> bool:
    return (
        capacity(volume) >= request(claim)
        and not modes_differ(claim, volume)
        and _attributes_class(claim) == _attributes_class(volume)
        and not is_deleting(volume)
    )


def _volume_mode(obj: Object) -> str:
    mode: str = obj["spec"].get("volumeMode") or "Filesystem"
    return mode


def _access_modes(obj: Object) -> frozenset[str]:
    return frozenset(obj["spec"].get("accessModes") or ())


def _attributes_class(obj: Object) -> str:
    name: str = obj["spec"].get("volumeAttributesClassName") or ""
    return name


def capacity(volume: Object) -> Quantity:
    return Quantity((volume["spec"].get("capacity") or {}).get("storage", "0"))


def request(claim: Object) -> Quantity:
    resources = claim["spec"].get("resources") or {}
    return Quantity((resources.get("requests") or {}).get("storage", "0"))
