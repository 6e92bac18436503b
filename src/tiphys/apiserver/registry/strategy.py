"""``Strategy``: what is particular to a kind when it is created, updated and deleted.

Most kinds differ in a few facts only, which are class attributes here; a kind with more to say overrides a method.
Objects are in the storage version. Source: the API conventions
(https://github.com/kubernetes/community/blob/master/contributors/devel/sig-architecture/api-conventions.md).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from tiphys import validation
from tiphys.api import codec
from tiphys.api.fielderrors import FieldError
from tiphys.api.object import Object
from tiphys.api.scheme import GroupVersionKind
from tiphys.apiserver.call import User
from tiphys.apiserver.warnings import add_warning
from tiphys.validation.shared.common import equal


class Finish(Protocol):
    """Keeps what was allocated for a write that is ``done``, and returns it to its pool if the write is not."""

    async def __call__(self, *, done: bool) -> None: ...


async def keep(*, done: bool) -> None:
    """Nothing was allocated."""


SYSTEM = User("system:apiserver", ("system:masters",))


@dataclass(slots=True)
class Write:
    """How a write is done, and for whom. ``now`` is the time in the form of the API."""

    now: str
    epoch: float = 0.0
    """``now`` in seconds since the Unix epoch."""
    user: User = SYSTEM
    namespace: str = ""
    dry_run: bool = False
    manager: str = ""
    subresource: str = ""
    version: str = ""
    """The API version of the request, such as ``apps/v1``."""
    warnings: list[str] = field(default_factory=list)
    empties: list[tuple[str, Any]] = field(default_factory=list)
    """What the request had empty: see ``codec.empties``."""
    verb: str = ""
    """That of the request."""
    denied: list[FieldError] = field(default_factory=list)
    """What the authorizer said no to when the write began, for validation to report."""
    big: bool = False
    """Whether the request or the object is so long that work on it leaves the loop: see ``aside``."""

    def as_sent(self, obj: Object) -> Object | None:
        """The object as error messages show it, if that makes a difference."""
        return codec.with_empties(obj, self.empties) if self.empties else None

    def warn(self, text: str) -> None:
        add_warning(self.warnings, text)


class Strategy:
    has_status = False
    """The status is written by a subresource only: emptied when created, kept when updated."""
    initial_status: Object | None = None
    """The status of a new object."""
    counts: tuple[str, ...] = ()
    """Top-level fields whose change counts up ``metadata.generation``; empty for kinds that have none."""
    first_generation = 1
    """The generation of a new object, if changes are counted; 0 if it has none before its first change."""
    counts_annotations = False
    gated: tuple[str, ...] = ()
    """Fields behind feature gates that are off in v1.36: dropped, unless the object has the field already."""
    in_series = False
    """Whether many objects are made from one template, and are alike but for their names."""
    lengthy = False
    """Whether validation compiles expressions, which takes long for what is short."""
    adds_suffix = True
    """Whether a name that is generated is more than what it is generated from."""
    create_on_update = False
    """Whether PUT makes the object if none exists."""
    unconditional_update = True
    """Whether an update may omit the resource version."""
    orphans_by_default = False
    """Whether dependents stay when the object is deleted, if the caller does not say."""
    warns_of_orphans = ""
    """The warning if the caller does not say whether dependents stay."""
    collects_garbage = True
    """Whether foreground deletion and orphaning are supported."""
    collects_garbage_at_once = True
    """Whether the first step of an own deletion looks at what is to become of dependents."""
    has_own_deletion = False
    """Whether deletion begins with ``mark_deleted``."""
    returns_deleted = False
    """Whether a deletion answers with the object; otherwise with a Status."""
    graceful = False
    """Whether deletion takes time (pods)."""
    ttl = 0
    """Seconds that an object lives; 0 for ever."""

    def __init__(self, gvk: GroupVersionKind) -> None:
        self.gvk = gvk

    @property
    def reset_fields(self) -> tuple[str, ...]:
        """Fields that a write of the object cannot set, and therefore does not own."""
        return ("status",) if self.has_status else ()

    reset_by_status: tuple[str, ...] = ("spec",)
    """The same for a write of the status."""
    status_leaves_metadata = False
    """Whether a write of the status cannot change labels, annotations, finalizers and owners."""

    # -- create

    def prepare_create(self, obj: Object, write: Write) -> None:
        """Set and reset what clients may not set."""
        for path in self.gated:
            _drop(obj, path)
        if self.has_status:
            self.reset_status(obj)
        if self.counts and self.first_generation:
            obj["metadata"]["generation"] = self.first_generation

    def reset_status(self, obj: Object) -> None:
        if self.initial_status is None:
            obj.pop("status", None)
        else:
            obj["status"] = dict(self.initial_status)

    async def begin_create(self, obj: Object, write: Write) -> Finish:
        """Allocate what the object needs from shared pools."""
        return keep

    def validate_create(self, obj: Object, write: Write) -> list[FieldError]:
        return validation.validate_create(obj, self.gvk)

    def warnings(self, new: Object, old: Object | None, subresource: str = "") -> list[str]:
        """What is accepted but should not be written; ``old`` is None for a creation."""
        return validation.warnings(new, old, self.gvk, subresource)

    # -- update

    def prepare_update(self, new: Object, old: Object, write: Write) -> None:
        for path in self.gated:
            _drop(new, path, old)
        if self.has_status:
            copy_field(new, old, "status")
        if self.counts and self.counted_change(new, old):
            new["metadata"]["generation"] = old["metadata"].get("generation", 0) + 1

    def counted_change(self, new: Object, old: Object) -> bool:
        if not all(equal(new.get(name), old.get(name)) for name in self.counts):
            return True
        return self.counts_annotations and annotations_of(new) != annotations_of(old)

    async def begin_update(self, new: Object, old: Object, write: Write) -> Finish:
        return keep

    def validate_update(self, new: Object, old: Object, write: Write) -> list[FieldError]:
        return validation.validate_update(new, old, self.gvk)

    # -- status

    async def begin_status_update(self, new: Object, old: Object, write: Write) -> Finish:
        return keep

    def prepare_status_update(self, new: Object, old: Object, write: Write) -> None:
        """Take nothing from the caller but the status and, as upstream does, metadata that may change."""
        for name in (new.keys() | old.keys()) - {"status", "metadata", "kind", "apiVersion"}:
            copy_field(new, old, name)
        if self.status_leaves_metadata:
            keep_metadata(new["metadata"], old["metadata"])

    def validate_status_update(self, new: Object, old: Object, write: Write) -> list[FieldError]:
        return validation.validate_status_update(new, old, self.gvk)

    # -- delete

    def grace_period(self, obj: Object, requested: int | None) -> int:
        """For graceful kinds: the seconds that this object may take; ``requested`` is the caller's wish."""
        raise NotImplementedError

    def mark_deleted(self, obj: Object, now: str) -> bool | None:
        """For kinds whose deletion has its own phase: True if ``obj`` was marked and is to be written, False
        where the deletion continues by itself, None for the usual course."""
        return None

    def check_delete(self, obj: Object, write: Write) -> None:
        """Raise if the object must not be deleted."""

    def deleted_by_update(self, new: Object, old: Object) -> bool:
        """Whether an update that leaves no finalizer and no grace completes the deletion."""
        return True

    async def deleted(self, obj: Object) -> None:
        """The object is gone: give back what it held."""


def _drop(obj: Object, path: str, old: Object | None = None) -> None:
    """Take a field out, unless ``old`` has it."""
    *parents, name = path.split(".")
    for parent in parents:
        obj, old = obj.get(parent) or {}, (old or {}).get(parent)
    if (old or {}).get(name) is None:
        obj.pop(name, None)


def copy_field(new: Object, old: Object, name: str) -> None:
    """``new`` gets ``old``'s value of a field, or none if it has none."""
    if name in old:
        new[name] = old[name]
    else:
        new.pop(name, None)


_KEPT_METADATA = (
    "deletionTimestamp",
    "generation",
    "selfLink",
    "labels",
    "annotations",
    "finalizers",
    "ownerReferences",
)


def keep_metadata(meta: Object, kept: Object) -> None:
    """What most subresources cannot change of the metadata."""
    for name in _KEPT_METADATA:
        copy_field(meta, kept, name)


def annotations_of(obj: Object) -> dict[str, str]:
    return obj["metadata"].get("annotations") or {}
