"""How an object is updated: read, transform, check, write; again from the newest state if another write came first.

The first attempt works on what the cache has, which is nearly always right; whatever goes wrong on a state that may be
old is tried again on one that is not.

Source: https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-versions
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from tiphys.api import errors, fielderrors
from tiphys.api.fielderrors import FieldError
from tiphys.api.gotext import quote
from tiphys.api.object import Object
from tiphys.api.pods.disabled import drop_disabled
from tiphys.apiserver.aside import BIG
from tiphys.apiserver.registry.creating import before_create, checked, fill_system_fields, match_namespace, off_the_loop
from tiphys.apiserver.registry.registry import Registry, Validate, ValidateUpdate, no_validation
from tiphys.apiserver.registry.strategy import Finish, Write
from tiphys.apiserver.storage.entry import Entry
from tiphys.apiserver.storage.objects import Exists, Stale

Transform = Callable[[Object | None], Awaitable[Object]]
"""Makes the new object from the stored one (None if none exists), which it must not change."""

_MAX_ATTEMPTS = 50


class UpdateRules(Protocol):
    """What an update may change: the strategy's rules for the object, its status, or another subresource."""

    def prepare(self, new: Object, old: Object, write: Write) -> None: ...

    def validate(self, new: Object, old: Object, write: Write) -> list[FieldError]: ...

    async def begin(self, new: Object, old: Object, write: Write) -> Finish: ...


class EndpointRules(UpdateRules, Protocol):
    """Those of a path that clients write to."""

    reset: tuple[str, ...]
    """Fields that go back to what they were, and are therefore not owned by who writes them."""


class ObjectRules:
    """An update of the object itself."""

    def __init__(self, registry: Registry) -> None:
        strategy = registry.strategy
        self.reset = strategy.reset_fields
        self.prepare = strategy.prepare_update
        self.validate = strategy.validate_update
        self.begin = strategy.begin_update


class StatusRules:
    """An update by the subresource ``status``."""

    def __init__(self, registry: Registry) -> None:
        strategy = registry.strategy
        self.reset = strategy.reset_by_status
        self.prepare = strategy.prepare_status_update
        self.validate = strategy.validate_status_update
        self.begin = strategy.begin_status_update


@dataclass(slots=True)
class Update:
    """One update. ``uid`` and ``resource_version`` are preconditions; ``create`` allows to make the object."""

    namespace: str
    name: str
    transform: Transform
    rules: UpdateRules
    validate: ValidateUpdate = no_validation
    validate_create: Validate = no_validation
    create: bool = False
    uid: str | None = None
    resource_version: str | None = None


async def update(registry: Registry, change: Update, write: Write) -> tuple[Entry, bool]:
    """Do an update; gives the object as written, and whether it was created by it."""
    # What is not written is not compared either: a dry run starts from the newest state, and an update that changed
    # nothing is only believed of that.
    sure = write.dry_run
    read = registry.store.get if sure else registry.store.cached
    entry = await read(change.namespace, change.name)
    for _ in range(_MAX_ATTEMPTS):
        try:
            if entry is None:
                if sure or change.create:
                    return await _create(registry, change, write), True
            else:
                written = await _replace(registry, entry, change, write)
                if written is not entry or sure or await _is_newest(registry, entry):
                    return written, False
        except (Stale, Exists):
            pass
        except errors.StatusError:
            if sure or await _is_newest(registry, entry):
                raise
        entry, sure = await registry.store.get(change.namespace, change.name), True
    raise registry.conflict(change.name)


async def _is_newest(registry: Registry, entry: Entry | None) -> bool:
    """Whether the state that an attempt worked on is the store's, and its outcome therefore final."""
    feed = registry.store.cacher.feed
    before = feed.revision
    if await feed.fresh() > before:
        return False
    return entry is None or ((known := registry.store.cacher.get(entry.key)) and known.revision) == entry.revision


async def _create(registry: Registry, change: Update, write: Write) -> Entry:
    """Create the object that an update found missing. Raises 404 if the update may not create."""
    if not change.create:
        raise registry.not_found(change.name)
    _check_preconditions(registry, change, {}, dry_run=write.dry_run)
    obj = await change.transform(None)
    meta = obj["metadata"]
    check_number(meta.get("resourceVersion", ""))
    fill_system_fields(registry, meta, write)
    finish = await registry.strategy.begin_create(obj, write)
    done = False
    try:
        await before_create(registry, obj, write)
        await change.validate_create(obj)
        meta.pop("resourceVersion", None)
        key = registry.store.key(change.namespace, change.name)
        entry = (
            registry.entry_of(obj) if write.dry_run else await registry.store.create(key, obj, registry.strategy.ttl)
        )
        done = True
        return entry
    finally:
        await finish(done=done)


async def _replace(registry: Registry, entry: Entry, change: Update, write: Write) -> Entry:
    write.big = write.big or len(entry.body) > BIG
    old = registry.object(entry)
    _check_preconditions(registry, change, old["metadata"], dry_run=write.dry_run)
    new = await change.transform(old)
    _check_version(registry, new, old)
    finish = await change.rules.begin(new, old, write)
    done = False
    try:
        await before_update(registry, new, old, change.rules, write)
        ignore_managed_times(new, old)
        await change.validate(new, old)
        if is_deleted_by(registry, new, old):
            return await _delete(registry, entry, new, write)
        written = await _store(registry, entry, new, write)
        done = True
        return written
    finally:
        await finish(done=done)


def _check_preconditions(registry: Registry, change: Update, meta: Object, *, dry_run: bool) -> None:
    """Raise 409 if the object, whose metadata is empty if none exists, is not the one that is meant."""
    for name, wanted, kept in (
        ("UID", change.uid, meta.get("uid", "")),
        ("ResourceVersion", change.resource_version, meta.get("resourceVersion", "")),
    ):
        if wanted is not None and wanted != kept:
            reason = f"Precondition failed: {name} in precondition: {wanted}, {name} in object meta: {kept}"
            key = registry.told_key(change.namespace, change.name)
            if dry_run:  # upstream stops above its store then, where keys lack the root
                key = key[key.index(f"/{registry.resource.storage_prefix}/") :]
            raise registry.conflict(
                change.name,
                f"StorageError: invalid object, Code: 4, Key: {key}, ResourceVersion: 0, AdditionalErrorMsg: {reason}",
            )


def _check_version(registry: Registry, new: Object, old: Object) -> None:
    """Refuse an update that was made from another version of the object than the stored one."""
    meta, kept = new["metadata"], old["metadata"]
    version = meta.get("resourceVersion", "")
    check_number(version)
    if version in ("", "0"):
        if not registry.strategy.unconditional_update:
            error = fielderrors.invalid("metadata.resourceVersion", 0, "must be specified for an update")
            raise errors.invalid(registry.group, registry.plural, kept["name"], [error])
        meta["resourceVersion"] = kept["resourceVersion"]
    elif int(version) != int(kept["resourceVersion"]):
        raise registry.conflict(kept["name"])


def check_number(version: str) -> None:
    """A resource version that is no number is refused in the words of the parser."""
    if not version:
        return
    if not (version.isascii() and version.isdigit()):
        raise errors.from_code(500, f"strconv.ParseUint: parsing {quote(version)}: invalid syntax")
    if int(version) >= 2**64:
        raise errors.from_code(500, f"strconv.ParseUint: parsing {quote(version)}: value out of range")


async def before_update(registry: Registry, new: Object, old: Object, rules: UpdateRules, write: Write) -> None:
    """Restore what an update cannot change, apply the rules, and validate."""
    meta, kept = new["metadata"], old["metadata"]

    def prepare() -> None:
        drop_disabled(registry.group, registry.plural, new, old)
        rules.prepare(new, old, write)

    if registry.resource.namespaced:
        match_namespace(meta, write.namespace)
    else:
        meta.pop("namespace", None)
    meta.pop("selfLink", None)
    _restore(meta, kept, "generation")
    await off_the_loop(write, prepare)
    if not meta.get("uid"):
        meta["uid"] = kept["uid"]
    meta["creationTimestamp"] = kept["creationTimestamp"]
    if "deletionTimestamp" in kept:
        meta["deletionTimestamp"] = kept["deletionTimestamp"]
    if "deletionGracePeriodSeconds" in kept:
        meta.setdefault("deletionGracePeriodSeconds", kept["deletionGracePeriodSeconds"])

    def check() -> None:
        if problems := fielderrors.enough(lambda: rules.validate(new, old, write)):
            sent = write.as_sent(new)
            again = sent and fielderrors.enough(lambda: rules.validate(sent, old, write))
            raise registry.invalid(new, again or problems)
        # A write of the scale is one of the object, and is judged like it.
        for warning in registry.strategy.warnings(new, old, write.subresource.removeprefix("scale")):
            write.warn(warning)

    await checked(registry, write, check)


def _restore(meta: Object, kept: Object, name: str) -> None:
    if name in kept:
        meta[name] = kept[name]
    else:
        meta.pop(name, None)


def ignore_managed_times(new: Object, old: Object) -> None:
    """If nothing but the times of managed fields changed, keep the old ones, so that nothing is written."""
    fields, kept = new["metadata"].get("managedFields"), old["metadata"].get("managedFields")
    if not fields or not kept or fields == kept:
        return
    if {**new, "metadata": _bare(new)} == {**old, "metadata": _bare(old)} and _timeless(fields) == _timeless(kept):
        new["metadata"]["managedFields"] = kept


def _bare(obj: Object) -> Object:
    return {key: value for key, value in obj["metadata"].items() if key not in ("managedFields", "resourceVersion")}


def _timeless(fields: list[Object]) -> list[Object]:
    return [{key: value for key, value in entry.items() if key != "time"} for entry in fields]


def is_deleted_by(registry: Registry, new: Object, old: Object) -> bool:
    """Whether this update removes the last thing that a deletion waits for."""
    kept = old["metadata"]
    if new["metadata"].get("finalizers") or "deletionTimestamp" not in kept or kept.get("deletionGracePeriodSeconds"):
        return False
    return registry.strategy.deleted_by_update(new, old)


async def _delete(registry: Registry, entry: Entry, new: Object, write: Write) -> Entry:
    if write.dry_run:
        return registry.entry_of(new, entry.revision)
    await registry.store.delete(entry.key, entry)
    await registry.strategy.deleted(new)
    return registry.entry_of(new, entry.revision)


async def _store(registry: Registry, entry: Entry, new: Object, write: Write) -> Entry:
    if write.dry_run:
        return registry.entry_of(new, entry.revision)
    return await registry.store.update(entry.key, entry, new, registry.strategy.ttl)
