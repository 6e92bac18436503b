"""How an object is deleted: at once, after a grace period, or when its finalizers are done.

``plan`` decides purely what a deletion does to an object; ``delete`` does it, again from the newest state if another
write came first. Source: https://kubernetes.io/docs/concepts/architecture/garbage-collection/ and
https://kubernetes.io/docs/concepts/overview/working-with-objects/finalizers/
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from tiphys.api import errors
from tiphys.api.meta.copying import copy
from tiphys.api.meta.timestamps import format_time, parse_seconds
from tiphys.api.object import Object
from tiphys.apiserver.registry.registry import Registry, Validate
from tiphys.apiserver.registry.strategy import Strategy, Write
from tiphys.apiserver.storage.entry import Entry
from tiphys.apiserver.storage.objects import Stale

ORPHAN, FOREGROUND = "orphan", "foregroundDeletion"
_MAX_ATTEMPTS = 50


@dataclass(slots=True)
class DeleteOptions:
    """``propagation`` is Orphan, Background, Foreground or nothing; ``orphan`` the older form of the same wish."""

    grace: int | None = None
    propagation: str = ""
    orphan: bool | None = None
    uid: str | None = None
    """A precondition; one that is set and empty is one that no object meets."""
    resource_version: str | None = None

    def as_object(self) -> Object:
        """The fields of a DeleteOptions object that are set."""
        conditions = {"uid": self.uid, "resourceVersion": self.resource_version}
        fields = {
            "gracePeriodSeconds": self.grace,
            "preconditions": {name: value for name, value in conditions.items() if value is not None} or None,
            "orphanDependents": self.orphan,
            "propagationPolicy": self.propagation or None,
        }
        return {name: value for name, value in fields.items() if value is not None}


class Step(Enum):
    """What a deletion does next."""

    NOTHING = "nothing"  # a deletion is under way already
    MARK = "mark"  # write the deletion timestamp; somebody else completes it
    REMOVE = "remove"


@dataclass(slots=True)
class Deleted:
    """``entry`` shows the object; ``immediately`` says whether it is deleted already."""

    entry: Entry
    immediately: bool


def plan(strategy: Strategy, obj: Object, options: DeleteOptions, now: float) -> Step:
    """Decide, and change ``obj`` to what is to be written for ``Step.MARK``."""
    meta = obj["metadata"]
    marked = strategy.mark_deleted(obj, format_time(now))
    if marked is not None:
        if not strategy.collects_garbage_at_once:
            return Step.MARK if marked else Step.NOTHING
        _set_finalizers(meta, wanted_finalizers(strategy, meta.get("finalizers") or [], options))
        return Step.MARK if marked else Step.NOTHING
    graceful, pending = _mark_graceful(strategy, obj, options, now)
    if pending:
        return Step.NOTHING
    if strategy.collects_garbage:
        _set_finalizers(meta, wanted_finalizers(strategy, meta.get("finalizers") or [], options))
    if graceful:
        waits = meta.get("finalizers") or meta["deletionGracePeriodSeconds"] > 0
        return Step.MARK if waits else Step.REMOVE
    if meta.get("finalizers"):
        _mark(meta, now)
        return Step.MARK
    return Step.REMOVE


def _mark_graceful(strategy: Strategy, obj: Object, options: DeleteOptions, now: float) -> tuple[bool, bool]:
    """Whether the object is deleted with grace, and whether that is under way already and nothing is to be done."""
    if not strategy.graceful:
        return False, False
    meta = obj["metadata"]
    requested = options.grace if options.grace is None or options.grace >= 0 else 1
    if "deletionTimestamp" in meta:
        return _shorten(meta, requested, now)
    grace = strategy.grace_period(obj, requested)
    meta["deletionTimestamp"] = format_time(now + grace)
    meta["deletionGracePeriodSeconds"] = grace
    _count(meta)
    return True, False


def _shorten(meta: Object, requested: int | None, now: float) -> tuple[bool, bool]:
    """A deletion under way may be made shorter, never longer."""
    grace = meta.get("deletionGracePeriodSeconds")
    if not grace:
        return False, False
    if requested is None or requested >= grace:
        return False, True
    until = parse_seconds(meta["deletionTimestamp"]) - grace + requested
    if until < now:
        until, requested = now, min(requested, 1)
    meta["deletionTimestamp"] = format_time(until)
    meta["deletionGracePeriodSeconds"] = requested
    return True, False


def _mark(meta: Object, now: float) -> None:
    if "deletionTimestamp" not in meta:
        _count(meta)
    if "deletionTimestamp" not in meta or parse_seconds(meta["deletionTimestamp"]) > now:
        meta["deletionTimestamp"] = format_time(now)
    meta["deletionGracePeriodSeconds"] = 0


def _count(meta: Object) -> None:
    if meta.get("generation", 0) > 0:
        meta["generation"] += 1


def wanted_finalizers(strategy: Strategy, finalizers: list[str], options: DeleteOptions) -> list[str]:
    """The finalizers with those of the garbage collector as the caller, the object or the kind wants them."""
    kept = [name for name in finalizers if name not in (ORPHAN, FOREGROUND)]
    if options.orphan is not None:
        wanted = ORPHAN if options.orphan else ""
    elif options.propagation:
        wanted = {"Orphan": ORPHAN, "Foreground": FOREGROUND}.get(options.propagation, "")
    else:
        set_before = next((name for name in finalizers if name in (ORPHAN, FOREGROUND)), "")
        wanted = set_before or (ORPHAN if strategy.orphans_by_default else "")
    result = kept + ([wanted] if wanted else [])
    return finalizers if set(result) == set(finalizers) else result


def _set_finalizers(meta: Object, finalizers: list[str]) -> None:
    if finalizers:
        meta["finalizers"] = finalizers
    else:
        meta.pop("finalizers", None)


async def delete(
    registry: Registry, namespace: str, name: str, options: DeleteOptions, write: Write, validate: Validate
) -> Deleted:
    """Delete an object, or begin to. Raises 404, and 409 if a precondition does not hold."""
    for _ in range(_MAX_ATTEMPTS):
        entry = await registry.get(namespace, name)
        try:
            return await _delete(registry, entry, options, write, validate)
        except Stale:
            continue
    raise registry.conflict(name)


async def _delete(
    registry: Registry, entry: Entry, options: DeleteOptions, write: Write, validate: Validate
) -> Deleted:
    old = registry.object(entry)
    check_preconditions(registry, old, options)
    await validate(old)
    registry.strategy.check_delete(old, write)
    marked = copy(old)
    step = plan(registry.strategy, marked, options, write.epoch)
    if step is Step.NOTHING:
        return Deleted(entry, immediately=False)
    if step is Step.MARK:
        if write.dry_run:
            return Deleted(registry.entry_of(marked, entry.revision), immediately=False)
        return Deleted(await registry.store.update(entry.key, entry, marked, registry.strategy.ttl), immediately=False)
    return await _remove(registry, entry, marked, write)


async def _remove(registry: Registry, entry: Entry, marked: Object, write: Write) -> Deleted:
    if write.dry_run:
        return Deleted(registry.entry_of(marked, entry.revision), immediately=True)
    if registry.strategy.graceful and marked != registry.object(entry):
        # Who watches sees first that the grace is over, and then the deletion, as from upstream.
        entry = await registry.store.update(entry.key, entry, marked)
    gone = await registry.store.delete(entry.key, entry)
    await registry.strategy.deleted(marked)
    return Deleted(gone, immediately=True)


def check_preconditions(registry: Registry, obj: Object, options: DeleteOptions) -> None:
    """Raise 409 if the UID or resource version is not the one that the caller expects."""
    meta = obj["metadata"]
    if registry.strategy.has_own_deletion:
        for name, wanted, kept in (
            ("UID", options.uid, meta["uid"]),
            ("ResourceVersion", options.resource_version, meta["resourceVersion"]),
        ):
            if wanted is not None and wanted != kept:
                reason = f"Precondition failed: {name} in precondition: {wanted}, {name} in object meta: {kept}"
                raise registry.conflict(meta["name"], reason)
    if options.uid is not None and options.uid != meta["uid"]:
        raise _refused(registry, meta, "UID", f"({options.uid})", f"({meta['uid']})", "deleted and then recreated")
    version = options.resource_version
    if version is not None and version != meta["resourceVersion"]:
        raise _refused(registry, meta, "ResourceVersion", f"({version})", f"({meta['resourceVersion']})", "modified")


def _refused(registry: Registry, meta: Object, what: str, wanted: str, kept: str, why: str) -> errors.StatusError:
    reason = f"the {what} in the precondition {wanted} does not match the {what} in record {kept}."
    return errors.conflict(
        registry.resource.group, registry.resource.kind, meta["name"], f"{reason} The object might have been {why}"
    )
