"""``Target``: the resource, in the version of the path, that a call is about: how its objects are read and shown.

Source: https://kubernetes.io/docs/reference/using-api/api-concepts/
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar

from tiphys.api import codec, conversion, errors
from tiphys.api.apply import Filter, excluding, of_paths
from tiphys.api.codec.decoding import Decoded
from tiphys.api.codec.typed import DecodeError
from tiphys.api.defaults import apply_defaults
from tiphys.api.meta.selectors import (
    EVERYTHING,
    FieldSelector,
    SelectorError,
    parse_field_selector,
    parse_label_selector,
)
from tiphys.api.meta.timestamps import format_time
from tiphys.api.object import Object
from tiphys.api.patch import APPLY_PATCH, JSON_PATCH, MERGE_PATCH, STRATEGIC_MERGE_PATCH, patch_object
from tiphys.api.protobuf.messages import message_name
from tiphys.api.schema import Schema, schema_for
from tiphys.api.scheme import GroupVersionKind, Resource
from tiphys.api.tables import table_for
from tiphys.api.tables.tables import IncludeObject
from tiphys.apiserver.aside import BIG
from tiphys.apiserver.call import Call
from tiphys.apiserver.endpoints.options import ListOptions, WriteOptions
from tiphys.apiserver.endpoints.tablerows import TableRows
from tiphys.apiserver.registry.registry import Registry
from tiphys.apiserver.registry.strategy import Write
from tiphys.apiserver.registry.updating import EndpointRules, ObjectRules, StatusRules
from tiphys.apiserver.storage.converted import Conversions
from tiphys.apiserver.storage.fields import ALIASES, positions, unsupported
from tiphys.apiserver.storage.selection import NAME, NAMESPACE, FieldTerm, Selection
from tiphys.runtime.remembering import Recent

_WITHOUT_COLUMNS = frozenset(
    (
        ("apiservices", "status"),
        ("certificatesigningrequests", "approval"),
        ("customresourcedefinitions", "status"),
        ("pods", "ephemeralcontainers"),
        ("pods", "resize"),
        ("resourceclaims", "status"),
    )
)
"""Subresources that show the whole object, of which upstream makes no tables."""


@dataclass(eq=False)
class Target:
    """``registry`` keeps the objects; ``resource`` is the row of the path, which may differ in group (events)."""

    patch_types: ClassVar[tuple[str, ...]] = (JSON_PATCH, MERGE_PATCH, STRATEGIC_MERGE_PATCH, APPLY_PATCH)

    resource: Resource
    version: str
    registry: Registry
    subresource: str = ""
    watch_seconds: float = 1800.0
    """How long a watch lasts whose client does not say."""
    selections: dict[tuple[str, ...], Selection] = field(default_factory=dict)
    rows: TableRows = field(default_factory=TableRows)
    """What has been printed of the objects."""

    @cached_property
    def gvk(self) -> GroupVersionKind:
        return self.resource.gvk(self.version)

    @cached_property
    def stored(self) -> GroupVersionKind:
        kept = self.registry.resource
        return kept.gvk(kept.storage_version)

    @cached_property
    def is_stored_version(self) -> bool:
        return self.gvk == self.stored

    @cached_property
    def is_other_version(self) -> bool:
        """Whether a built-in kind is requested in another version of its group than it is kept in."""
        same_kind = (self.gvk.group, self.gvk.kind) == (self.stored.group, self.stored.kind)
        return self.resource.builtin and same_kind and not self.is_stored_version

    @cached_property
    def head(self) -> bytes:
        """How the JSON text of an object begins."""
        return b'{"kind":"%s","apiVersion":"%s",' % (self.gvk.kind.encode(), self.gvk.api_version.encode())

    @cached_property
    def item_head(self) -> bytes:
        """How an item of a list begins: items of built-in kinds name no kind."""
        return b"{" if self.resource.builtin else self.head

    @cached_property
    def schema(self) -> Schema:
        return schema_for(self.gvk)

    # -- objects

    def decode(self, call: Call, options: WriteOptions) -> Object:
        """The object in the body, with its defaults. Raises 400, 415."""
        request = call.request
        content_type = request.headers.get("content-type", "")
        decoded = codec.decode(request.body, content_type, self.gvk, self.schema, options.field_validation)
        for warning in decoded.warnings:
            call.warn(warning)
        call.empties[:] = decoded.empties
        prepared = self.prepared(decoded.object)
        if call.trail is not None:
            call.trail.request_object(prepared)
        return prepared

    def patch(self, old: Object, body: bytes, media: str, field_validation: str) -> Decoded:
        """``old`` with the patch in ``body``, yet without defaults. Raises ``StatusError``."""
        return patch_object(old, body, media, self.gvk, self.schema, field_validation)

    def prepared(self, obj: Object) -> Object:
        """The object with its defaults and what the wire form always shows; changed in place."""
        obj.setdefault("metadata", {})
        apply_defaults(obj, self.gvk, format_time(self.registry.clock.now()))
        completed = codec.complete(obj, self.schema)
        if not self.is_other_version:
            return completed
        # What is kept is what is left after a conversion: it may add defaults, and annotations that carry the rest.
        kept = conversion.convert(completed, self.gvk, self.stored)
        return conversion.convert(kept, self.stored, self.gvk)

    def applied(self, obj: Object) -> Object:
        """What came of an apply, which has canonical values, prepared."""
        return self.prepared(obj)

    def renew(self, obj: Object) -> Object:
        """An object that a webhook has changed, as if it had come in a body. Raises 500 if a value does not fit."""
        try:
            return self.prepared(codec.normalize(obj, self.schema))
        except DecodeError as error:
            raise errors.internal(str(error)) from None

    def show(self, stored: Object) -> Object:
        """A stored object as this path shows it: in its version; for a subresource such as scale, a view of it."""
        return stored if self.is_stored_version else conversion.convert(stored, self.stored, self.gvk)

    def judged(self, stored: Object) -> Object:
        """What validating admission sees of a stored object."""
        return self.show(stored)

    def working(self, stored: Object) -> Object:
        """What a change starts from: what is shown, and who owns which field of it."""
        return self.show(stored)

    def merge(self, stored: Object | None, changed: Object) -> Object:
        """The inverse: what is to be stored when the view has become ``changed``."""
        return changed if self.is_stored_version else conversion.convert(changed, self.gvk, self.stored)

    @cached_property
    def rules(self) -> EndpointRules:
        """What a change by this path may do."""
        return StatusRules(self.registry) if self.subresource == "status" else ObjectRules(self.registry)

    @cached_property
    def filters(self) -> dict[str, Filter]:
        """Which fields a write by this path can own, by API version: not those that go back to what they were."""
        reset = self.rules.reset
        if not reset:
            return {}
        keep = excluding(of_paths(*reset))
        return {self.resource.gvk(version).api_version: keep for version in self.resource.versions}

    @cached_property
    def recent(self) -> Recent[bytes] | None:
        """What the writers of new objects own, of kinds that are made in numbers from one template."""
        return Recent(256, 8192) if self.registry.strategy.in_series and not self.subresource else None

    def converter(self, obj: Object, source: str, target: str) -> tuple[Object, Schema] | None:
        """For managed fields: an object of this kind in another of its versions."""
        versions = {self.resource.gvk(version).api_version: version for version in self.resource.versions}
        if source not in versions or target not in versions:
            return None
        wanted = self.resource.gvk(versions[target])
        converted = conversion.convert(obj, self.resource.gvk(versions[source]), wanted)
        return converted, schema_for(wanted)

    @property
    def conversions(self) -> Conversions | None:
        """Who converts objects between versions, if that is a matter of asking a webhook."""
        return None

    @property
    def has_columns(self) -> bool:
        """Whether there are tables of what is read by this path."""
        return (self.resource.plural, self.subresource) not in _WITHOUT_COLUMNS

    @property
    def has_protobuf(self) -> bool:
        """Whether objects have a protobuf form: those of custom resources have none."""
        return self.resource.builtin

    @cached_property
    def message(self) -> str:
        """The name of the objects' protobuf message."""
        return message_name(self.gvk.api_version, self.gvk.kind)

    @property
    def is_namespaces(self) -> bool:
        return self.resource.plural == "namespaces" and not self.resource.group

    def write_context(self, call: Call, options: WriteOptions, subresource: str = "") -> Write:
        """The data of a write: time, user, dry run, field manager, and where warnings go."""
        now = self.registry.clock.now()
        return Write(
            now=format_time(now),
            epoch=now,
            user=call.user,
            namespace=call.info.namespace if self.resource.namespaced else "",
            dry_run=options.dry_run,
            manager=options.manager,
            subresource=subresource,
            version=self.gvk.api_version,
            warnings=call.warnings,
            empties=call.empties,
            verb=call.info.verb,
            big=len(call.request.body) > BIG,
        )

    def table(
        self, objects: list[Object], now: float, meta: Object, include: IncludeObject, *, headers: bool = True
    ) -> Object:
        """A Table of objects in the version of the call; ``meta`` is that of the list."""
        printed = None
        if self.is_other_version:
            # Cells are the same whatever the version: they are printed from all that is known of the object.
            printed = [conversion.convert(obj, self.gvk, self.stored) for obj in objects]
        return table_for(
            self.gvk, objects, now, list_meta=meta, include=include, headers=headers, printed=printed or objects
        )

    # -- selections

    def selection(self, namespace: str, options: ListOptions, name: str = "") -> Selection:
        """What a list or watch is about; ``name`` is that of a legacy watch of one object. Raises 400."""
        if not self.resource.namespaced:
            namespace = ""
        key = (namespace, options.label_selector, options.field_selector, name)
        known = self.selections.get(key)
        if known is None:
            known = self._selection(key, namespace, options, name)
            if len(self.selections) < 1000:
                self.selections[key] = known
        return known

    def _selection(self, key: tuple[str, ...], namespace: str, options: ListOptions, name: str) -> Selection:
        try:
            labels = parse_label_selector(options.label_selector) if options.label_selector else EVERYTHING
            fields = parse_field_selector(options.field_selector) if options.field_selector else FieldSelector()
        except SelectorError as error:
            raise errors.bad_request(str(error)) from None
        terms = [FieldTerm(self._position(term.field), term.value, term.equal) for term in fields.terms]
        if name:
            terms.append(FieldTerm(NAME, name))
        prefix = self.registry.store.place(namespace)
        return Selection(prefix, namespace, None if labels.empty else labels, tuple(terms), key)

    def _position(self, name: str) -> int:
        if name == "metadata.name":
            return NAME
        aliases = ALIASES.get(self.gvk.group_kind, {})
        at = positions(self.stored.group, self.stored.kind)
        if name == "metadata.namespace" and (self.resource.namespaced or not at):
            return NAMESPACE
        if self.gvk.group == self.stored.group:
            position = at.get(aliases.get(name, name))
        else:
            position = at.get(aliases.get(name, ""))
        if position is None:
            raise errors.bad_request(unsupported(self.gvk, name))
        return position
