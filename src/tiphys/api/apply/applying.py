"""Server-side apply: a client says which fields it wants, and the server merges, removes, and finds conflicts.

The pipeline: check the applied object → merge it over the live one → take out what this manager applied last time and
nobody wants any more → find who else owns what changed → record who owns what.
Source: KEP-555, and https://kubernetes.io/docs/reference/using-api/server-side-apply/
"""

from __future__ import annotations

from collections.abc import Mapping

import orjson

from tiphys.api import errors
from tiphys.api.apply.compare import compare
from tiphys.api.apply.configured import check, to_set, with_named_members
from tiphys.api.apply.fieldset import (
    FieldSet,
    FieldSetError,
    Filter,
    Path,
    difference,
    has,
    intersection,
    ordered,
    path_text,
    paths,
    union,
)
from tiphys.api.apply.managers import APPLY, UPDATE, ManagedEntry, ManagerIdentity, Managers, read, strip, write
from tiphys.api.apply.merging import merge, remove
from tiphys.api.apply.reconcile import reconcile
from tiphys.api.apply.updating import empty_object, record, take_from_others, without_managers
from tiphys.api.apply.versions import Change, Converter, no_versions
from tiphys.api.codec.decoding import normalize
from tiphys.api.codec.typed import DecodeError
from tiphys.api.errors import StatusError
from tiphys.api.gotext import json_text
from tiphys.api.meta.copying import copy
from tiphys.api.object import Object
from tiphys.api.schema import Schema
from tiphys.api.scheme import GroupVersionKind

BEFORE_FIRST_APPLY = "before-first-apply"
"""The manager that gets what was there before an object's owners were recorded."""
KUBECTL = "kubectl"
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_MAX_ANNOTATIONS = 256 * 1024


class Conflicts(Exception):
    """Others own fields that the applied object sets otherwise."""

    def __init__(self, conflicts: list[tuple[ManagerIdentity, Path]]) -> None:
        super().__init__("conflicts")
        self.lost = conflicts

    def status(self) -> StatusError:
        """The 409 that lists them."""
        causes = [
            errors.cause("FieldManagerConflict", f"conflict with {identity}", path_text(path))
            for identity, path in self.lost
        ]
        return errors.apply_conflict(causes, self._message())

    def _message(self) -> str:
        if len(self.lost) == 1:
            identity, path = self.lost[0]
            return f"Apply failed with 1 conflict: conflict with {identity}: {path_text(path)}"
        lines: list[str] = []
        for identity in sorted({identity for identity, _ in self.lost}, key=lambda i: i.text):
            lines.append(f"conflicts with {identity}:")
            lines += [f"- {path_text(path)}" for other, path in self.lost if other == identity]
        return f"Apply failed with {len(self.lost)} conflicts: " + "\n".join(lines)


def apply(
    live: Object | None,
    applied: Object,
    manager: str,
    gvk: GroupVersionKind,
    schema: Schema,
    now: str,
    subresource: str = "",
    *,
    force: bool,
    filters: Mapping[str, Filter] | None = None,
    convert: Converter = no_versions,
) -> Object:
    """The live object (None if it does not exist yet) with ``applied`` merged into it, and its managed fields.

    ``live`` is completed and in the version of ``gvk``; ``applied`` is as the client wrote it. The result is a new
    object with canonical values, still to be given defaults and completed; if nothing changed it equals ``live``.
    Raises ``StatusError``: 409 for conflicts, 400 and 500 for what cannot be applied, as upstream does.
    """
    _check_request(applied, gvk)
    return _Apply(
        live=live,
        applied=applied,
        manager=manager,
        gvk=gvk,
        schema=schema,
        now=now,
        subresource=subresource,
        filters=filters or {},
        convert=convert,
    ).run(force=force)


def _check_request(applied: Object, gvk: GroupVersionKind) -> None:
    kind, api_version = (
        value if isinstance(value, str) else "" for value in (applied.get("kind"), applied.get("apiVersion"))
    )
    if api_version.count("/") > 1:
        kind = api_version = ""
    if (kind, api_version) != (gvk.kind, gvk.api_version):
        shown = api_version if "/" in api_version else f"/{api_version}"
        raise errors.bad_request(f"invalid object type: {shown}, Kind={kind}")
    meta = applied.get("metadata")
    if isinstance(meta, dict) and meta.get("managedFields") is not None:
        raise errors.bad_request("metadata.managedFields must be nil")


class _Apply:
    def __init__(
        self,
        *,
        live: Object | None,
        applied: Object,
        manager: str,
        gvk: GroupVersionKind,
        schema: Schema,
        now: str,
        subresource: str,
        filters: Mapping[str, Filter],
        convert: Converter,
    ) -> None:
        self.original = live
        self.live = empty_object(gvk, schema) if live is None else without_managers(live)
        self.applied = applied
        self.manager = manager
        self.gvk = gvk
        self.schema = schema
        self.now = now
        self.subresource = subresource
        self.filters = filters
        self.convert = convert
        self.identity = ManagerIdentity.of(manager or "unknown", APPLY, gvk.api_version, subresource)

    def run(self, *, force: bool) -> Object:
        self._check_applied()
        managers = self._managers()
        try:
            return self._merged(dict(managers), force=force)
        except Conflicts as conflicts:
            left = self._without_own(conflicts)
            if left is not None and not left.lost:
                return self._merged(dict(managers), force=True)
            raise (left or conflicts).status() from None
        except FieldSetError as error:
            raise errors.from_code(500, f"failed to merge config: {error}") from error

    def _check_applied(self) -> None:
        try:
            check(self.applied, self.schema)
        except FieldSetError as error:
            raise errors.from_code(500, f"failed to create typed patch object ({self._shown()}): {error}") from error

    def _shown(self) -> str:
        meta = self.applied.get("metadata")
        meta = meta if isinstance(meta, dict) else {}
        kind = f"{self.gvk.group}/{self.gvk.version}, Kind={self.gvk.kind}"
        namespace, name = (value if isinstance(value, str) else "" for value in map(meta.get, ("namespace", "name")))
        return f"{namespace}/{name}; {kind}"

    def _managers(self) -> Managers:
        entries = (self.original or {}).get("metadata", {}).get("managedFields")
        try:
            managers = read(entries, trusted=True)
        except FieldSetError as error:
            raise errors.from_code(500, f"failed to decode managed fields: {error}") from error
        if not managers:
            # What is there already belongs to those who wrote it, whoever that was.
            before = empty_object(self.gvk, self.schema)
            change = Change(before, self.live, self.gvk.api_version, self.schema, self.convert, self.filters)
            first = ManagerIdentity.of(BEFORE_FIRST_APPLY, UPDATE, self.gvk.api_version, self.subresource)
            try:
                record(managers, change, first, self.now)
            except FieldSetError as error:
                raise errors.from_code(500, f"failed to create manager for existing fields: {error}") from error
        if not self.schema.name:
            managers = reconcile(managers, self.schema, self.gvk.api_version, self.convert)
        return managers

    def _merged(self, managers: Managers, *, force: bool) -> Object:
        """The merged object with its new managers. Raises ``Conflicts`` unless forced."""
        version = self.gvk.api_version
        merged = merge(self.live, self.applied, self.schema)
        last = managers.get(self.identity)
        fields = to_set(self.applied, self.schema)
        keep = self.filters.get(version)
        fields = ordered(keep(fields) if keep is not None else fields)
        managers[self.identity] = ManagedEntry(fields, version, last.time if last else "")
        if last is not None and last.fields:
            merged = self._prune(merged, managers, last)
        change = Change(self.live, merged, version, self.schema, self.convert, self.filters)
        if not force:
            self._find_conflicts(managers, change)
        take_from_others(managers, change, spare=self.identity)
        changed = merged != self.live
        stripped = strip(managers[self.identity].fields) if self.identity in managers else {}
        if stripped:
            time = self.now if changed else managers[self.identity].time
            managers[self.identity] = ManagedEntry(stripped, version, time)
        else:
            managers.pop(self.identity, None)
        return self._result(merged if changed else self.live, managers)

    def _result(self, merged: Object, managers: Managers) -> Object:
        result = self._canonical(copy(merged))
        meta = result.setdefault("metadata", {})
        if self.manager == KUBECTL and (meta.get("annotations") or {}).get(LAST_APPLIED):
            self._note_last_applied(meta)
        meta.pop("managedFields", None)
        if managers:
            meta["managedFields"] = write(managers)
        return result

    def _canonical(self, obj: Object) -> Object:
        if not self.schema.name:
            return obj
        try:
            return normalize(obj, self.schema)
        except DecodeError as error:
            kind = f"{self.gvk.group}/{self.gvk.version}, Kind={self.gvk.kind}"
            why = f"unable to convert unstructured object to {kind}: {error}"
            raise errors.from_code(
                500, f"failed to convert new object ({self._shown()}) to proper version: {why}"
            ) from error

    # -- what was applied last time and is no more

    def _prune(self, merged: Object, managers: Managers, last: ManagedEntry) -> Object:
        """Without the fields that this manager applied last time, does not apply now, and nobody else owns."""
        there_and_schema = self._at(merged, last.api_version)
        if there_and_schema is None:
            return merged
        there, schema = there_and_schema
        pruned = remove(there, with_named_members(last.fields, schema), schema)
        pruned = self._add_back_owned(there, pruned, managers, last.api_version)
        pruned = self._add_back_dangling(there, pruned, schema, last)
        back = self._between(pruned, last.api_version, self.gvk.api_version)
        return back[0] if back is not None else merged

    def _at(self, obj: Object, version: str) -> tuple[Object, Schema] | None:
        return self._between(obj, self.gvk.api_version, version)

    def _between(self, obj: Object, source: str, target: str) -> tuple[Object, Schema] | None:
        if source == target:
            return obj, self.schema if target == self.gvk.api_version else self._schema_at(target)
        return self.convert(obj, source, target)

    def _schema_at(self, version: str) -> Schema:
        converted = self.convert(self.live, self.gvk.api_version, version)
        return converted[1] if converted is not None else self.schema

    def _add_back_owned(self, merged: Object, pruned: Object, managers: Managers, version: str) -> Object:
        """What others own stays; their sets are looked at in the version of each."""
        owned: dict[str, FieldSet] = {}
        for entry in managers.values():
            owned[entry.api_version] = union(owned.get(entry.api_version, {}), entry.fields)
        at = version
        for other in sorted(owned, key=lambda v: v != version):
            there, less = self._between(merged, at, other), self._between(pruned, at, other)
            if there is None or less is None:
                continue
            merged, schema = there
            all_fields = with_named_members(to_set(merged, schema), schema)
            kept = with_named_members(to_set(less[0], schema), schema)
            mine = with_named_members(owned[other], schema)
            pruned = remove(merged, difference(all_fields, union(kept, mine)), schema)
            at = other
        back = self._between(pruned, at, version)
        return back[0] if back is not None else pruned

    def _add_back_dangling(self, merged: Object, pruned: Object, schema: Schema, last: ManagedEntry) -> Object:
        """Remove only what this manager applied last time: what nobody owns stays."""
        kept = with_named_members(to_set(pruned, schema), schema)
        all_fields = with_named_members(to_set(merged, schema), schema)
        own = with_named_members(last.fields, schema)
        return remove(merged, intersection(difference(all_fields, kept), own), schema)

    # -- conflicts

    def _find_conflicts(self, managers: Managers, change: Change) -> None:
        conflicts: list[tuple[ManagerIdentity, Path]] = []
        for identity in sorted(managers, key=lambda i: i.text):
            comparison = None if identity == self.identity else change.at(managers[identity].api_version)
            if comparison is None:
                continue
            touched = union(comparison.modified, comparison.added)
            lost = intersection(managers[identity].fields, touched)
            conflicts += [(identity, path) for path in paths(lost)]
        if conflicts:
            raise Conflicts(conflicts)

    def _without_own(self, conflicts: Conflicts) -> Conflicts | None:
        """Of kubectl's conflicts, those with others than its own client-side applies."""
        if self.manager != KUBECTL:
            return None
        allowed = self._last_applied_fields()
        if allowed is None:
            return None
        return Conflicts([(identity, path) for identity, path in conflicts.lost if not has(allowed, path)])

    def _last_applied_fields(self) -> FieldSet | None:
        """What the client-side apply set, as far as it is still so."""
        text = (self.live.get("metadata", {}).get("annotations") or {}).get(LAST_APPLIED)
        if not text:
            return None
        try:
            last = orjson.loads(text)
            if not isinstance(last, dict) or last.get("apiVersion") != self.gvk.api_version:
                return None
            check(last, self.schema)
            comparison = compare(last, self.live, self.schema)
        except (orjson.JSONDecodeError, FieldSetError):
            return None
        fields = to_set(last, self.schema)
        for changed in comparison:
            fields = difference(fields, changed)
        return fields

    def _note_last_applied(self, meta: Object) -> None:
        """Keep the annotation of client-side apply in step, so that a return to it finds what was applied."""
        applied = copy(self.applied)
        (applied.get("metadata", {}).get("annotations") or {}).pop(LAST_APPLIED, None)
        annotations = meta["annotations"]
        ordered = orjson.loads(orjson.dumps(applied, option=orjson.OPT_SORT_KEYS))
        annotations[LAST_APPLIED] = json_text(ordered) + "\n"
        if sum(len(k.encode()) + len(v.encode()) for k, v in annotations.items()) > _MAX_ANNOTATIONS:
            del annotations[LAST_APPLIED]


__all__ = ["BEFORE_FIRST_APPLY", "apply"]
