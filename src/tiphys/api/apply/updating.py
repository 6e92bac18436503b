"""Who owns what after a write that is not an apply: the fields that it changed become the writer's.

Source: KEP-555, and https://kubernetes.io/docs/reference/using-api/server-side-apply/#field-management
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from tiphys.api.apply.fieldset import FieldSet, FieldSetError, Filter, difference, ordered, union
from tiphys.api.apply.managers import UPDATE, ManagedEntry, ManagerIdentity, Managers, cap, read, strip, write
from tiphys.api.apply.reconcile import reconcile
from tiphys.api.apply.versions import Change, Converter, no_versions
from tiphys.api.codec.complete import complete
from tiphys.api.object import Object
from tiphys.api.schema import Schema
from tiphys.api.scheme import GroupVersionKind
from tiphys.runtime.remembering import Recent

UNKNOWN = "unknown"

_empty: dict[int, tuple[Schema, Object]] = {}


def update_managed_fields(
    old: Object | None,
    new: Object,
    manager: str,
    gvk: GroupVersionKind,
    schema: Schema,
    now: str,
    subresource: str = "",
    *,
    filters: Mapping[str, Filter] | None = None,
    convert: Converter = no_versions,
    recent: Recent[bytes] | None = None,
) -> Object:
    """``new`` with its ``metadata.managedFields`` brought up to date, in place; returns it.

    ``old`` is the object before the write, None for a create; both are completed (``codec.complete``) and in the
    version of ``gvk``. ``now`` is RFC 3339 in seconds. ``filters`` say, by API version, which fields a writer by this
    endpoint can own at all. ``recent`` are, of one kind and endpoint, the fields that the writers of new objects came
    to own. Never fails: if the objects cannot be compared, ``managedFields`` are dropped.
    """
    meta = new.setdefault("metadata", {})
    given = meta.pop("managedFields", None)
    live = (old or {}).get("metadata", {}).get("managedFields")
    managers = _managers(given, live, ignore_given=bool(subresource))
    if not managers and old is not None and old.get("metadata", {}).get("uid"):
        # An object whose owners were never recorded, or were dropped on purpose, stays without.
        return new
    identity = ManagerIdentity.of(manager or UNKNOWN, UPDATE, gvk.api_version, subresource)
    series = _Series(recent, new) if recent is not None and old is None and not managers else None
    try:
        if series is not None and (fields := series.fields()) is not None:
            managers[identity] = ManagedEntry(fields, gvk.api_version, now)
        else:
            change = _change(old, new, gvk, schema, filters or {}, convert)
            if not schema.name:
                managers = reconcile(managers, schema, gvk.api_version, convert)
            record(managers, change, identity, now)
            if series is not None and identity in managers:
                series.remember(managers[identity].fields)
    except FieldSetError:
        return new
    if managers:
        meta["managedFields"] = write(managers)
    return new


class _Series:
    """What the writer of a new object owns, if it was found out for one that is alike but for its name, which nobody
    owns. Sets are kept as text: who changes the object that has one must not change others."""

    def __init__(self, recent: Recent[bytes], new: Object) -> None:
        self._recent = recent
        nameless = {key: value for key, value in new["metadata"].items() if key != "name"}
        try:
            self._text: bytes | None = orjson.dumps({**new, "metadata": nameless})
        except TypeError:  # a number of more than 64 bits, or half a character
            self._text = None

    def fields(self) -> FieldSet | None:
        known = None if self._text is None else self._recent.get(self._text)
        return None if known is None else orjson.loads(known)

    def remember(self, fields: FieldSet) -> None:
        if self._text is not None:
            self._recent.put(self._text, orjson.dumps(fields))


def _managers(given: Any, live: Any, *, ignore_given: bool) -> Managers:
    """The entries to continue from: those in the request if it may and does bring some, else those of the object."""
    if ignore_given or given == live or given is None:
        return _read(live, trusted=True)
    if not given or given == [{}]:
        # A request empties the list to reset it.
        return {}
    managers = _read(given, trusted=False)
    return managers or _read(live, trusted=True)


def _read(entries: Any, *, trusted: bool) -> Managers:
    try:
        return read(entries, trusted=trusted)
    except FieldSetError:
        return {}


def _change(
    old: Object | None,
    new: Object,
    gvk: GroupVersionKind,
    schema: Schema,
    filters: Mapping[str, Filter],
    convert: Converter,
) -> Change:
    before = empty_object(gvk, schema) if old is None else without_managers(old)
    return Change(before, new, gvk.api_version, schema, convert, filters)


def without_managers(obj: Object) -> Object:
    """The object without its managed fields; shares all else."""
    meta = obj.get("metadata") or {}
    if "managedFields" not in meta:
        return obj
    return {**obj, "metadata": {key: value for key, value in meta.items() if key != "managedFields"}}


def empty_object(gvk: GroupVersionKind, schema: Schema) -> Object:
    """What a create starts from: nothing but what the wire form of the type always shows."""
    if not schema.name:
        return {"kind": gvk.kind, "apiVersion": gvk.api_version, "metadata": {}}
    cached = _empty.get(id(schema))
    if cached is None:
        cached = _empty[id(schema)] = (schema, complete({"kind": gvk.kind, "apiVersion": gvk.api_version}, schema))
    return cached[1]


def record(managers: Managers, change: Change, identity: ManagerIdentity, now: str) -> None:
    """Give the writer what the change touched, and take that, and what was removed, from all others; in place."""
    own_change = change.at(change.api_version)
    assert own_change is not None
    take_from_others(managers, change)
    own: FieldSet = union(own_change.modified, own_change.added)
    mixed = bool(own_change.modified and own_change.added)
    keep = change.filters.get(change.api_version)
    own = strip(keep(own) if keep is not None else own)
    if own:
        previous = managers.get(identity)
        fields = union(own, previous.fields) if previous else own
        fields = ordered(fields) if mixed or previous else fields
        managers[identity] = ManagedEntry(fields, change.api_version, now)
    cap(managers)


def take_from_others(managers: Managers, change: Change, spare: ManagerIdentity | None = None) -> None:
    """Remove from every manager but ``spare`` the fields that ``change`` took; in place.

    Managers left without fields are removed.
    """
    for identity, entry in list(managers.items()):
        if identity == spare:
            continue
        comparison = change.at(entry.api_version)
        if comparison is None:
            del managers[identity]
            continue
        fields = entry.fields
        for taken in comparison:
            if taken:
                fields = difference(fields, taken)
        if not fields:
            del managers[identity]
        elif fields is not entry.fields:
            managers[identity] = entry.with_fields(fields)


__all__ = ["Change", "empty_object", "record", "take_from_others", "update_managed_fields", "without_managers"]
