"""The field tree of every type: what decoding, patching, applying and defaulting need to know about a field.

Built-in types come from the table ``data/types.json.gz``: the published OpenAPI
definitions joined with what they leave out, the Go types' empty-value rules. A tree is built when it is first asked
for, and shared; types that contain themselves are cycles in it. Custom resources make the same tree from their
structural schema.

Source: the published OpenAPI definitions of Kubernetes v1.36, KEP-555 (list and map types), KEP-1152 (strategic merge).
"""

from __future__ import annotations

import gzip
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import orjson

from tiphys.api.resources import definition_name
from tiphys.api.scheme import GroupVersionKind

OBJECT, MAP, ARRAY = "object", "map", "array"
STRING, INTEGER, NUMBER, BOOLEAN, BYTES = "string", "integer", "number", "boolean", "bytes"
QUANTITY, INT_OR_STRING, TIME, MICRO_TIME = "quantity", "int-or-string", "time", "micro-time"
ANY = "any"
"""Any value; maps in it are granular for apply, lists atomic."""
RAW = "raw"
"""Any value, as one piece: an object of another type."""
SCHEMA_OR_ARRAY, SCHEMA_OR_BOOL, SCHEMA_OR_STRINGS = "schema-or-array", "schema-or-bool", "schema-or-strings"
"""The three places in a JSON schema where a schema stands beside another type; ``items`` is the schema's tree."""

ATOMIC, GRANULAR, SET = "atomic", "granular", "set"

META_KINDS = {
    "DeleteOptions",
    "Status",
    "WatchEvent",
    "APIGroup",
    "APIGroupList",
    "APIResourceList",
    "APIVersions",
}
_META = "io.k8s.apimachinery.pkg.apis.meta.v1"


@dataclass(slots=True, eq=False)
class Schema:
    """One node of the tree."""

    kind: str
    go: str = ""
    """The Go type, as messages about values of a wrong type name it: ``v1.Container``, ``[]string``, ``int32``."""
    name: str = ""
    """The published definition's name; only of objects."""
    fields: dict[str, Field] = field(default_factory=dict, repr=False)
    """Of objects, in the order in which the original writes them."""
    items: Schema | None = field(default=None, repr=False)
    """The type of an array's items or a map's values."""
    list_type: str = ATOMIC
    """Of arrays, for apply: ``atomic``, ``set`` or ``map``."""
    list_keys: tuple[str, ...] = ()
    """The fields that tell the items of a ``map`` list apart, in the published order."""
    map_type: str = GRANULAR
    """Of objects and maps, for apply: ``granular`` or ``atomic``."""
    preserve_unknown: bool = False
    """Objects keep fields that they do not declare (custom resources)."""
    nullable: bool = False
    """A null stays a null (custom resources)."""
    plan: Any = field(default=None, repr=False)
    """Room for what a walker compiles out of this node."""

    def with_map_type(self, map_type: str) -> Schema:
        """The same type with another map type; fields stay shared."""
        return Schema(self.kind, self.go, self.name, self.fields, self.items, self.list_type, self.list_keys, map_type)


@dataclass(slots=True, eq=False)
class Field:
    """One field of an object."""

    name: str
    schema: Schema
    omit_empty: bool = True
    """Empty values (false, 0, "", no items, absent pointers) are left out on the wire."""
    omit_zero: bool = False
    """Zero values of struct types are left out too."""
    pointer: bool = True
    """Absent and empty are two values."""
    keeps_empty: bool = False
    """An empty list is refused where an absent one gets defaults, so it must not be lost on the way there."""
    embedded: str = ""
    """Go's names of the embedded structs that hold the field, as error messages show them: ``VolumeSource``."""
    default: Any = None
    """The published default; only there for keys of lists and few others."""
    patch_strategy: tuple[str, ...] = ()
    """Of strategic merge patch: ``merge``, ``replace``, ``retainKeys``."""
    merge_key: str = ""


@cache
def _table() -> dict[str, Any]:
    data = (Path(__file__).parent / "data" / "types.json.gz").read_bytes()
    return orjson.loads(gzip.decompress(data))  # type: ignore[no-any-return]


_built: dict[str, Schema] = {}
_KEEP_EMPTY = {("io.k8s.api.autoscaling.v2.HPAScalingRules", "policies")}


def has_schema(name: str) -> bool:
    return name in _table()


def schema_of(name: str) -> Schema:
    """The tree of a published definition, such as ``io.k8s.api.core.v1.Pod``. Raises ``KeyError``."""
    found = _built.get(name)
    if found is None:
        row = _table()[name]
        found = Schema(OBJECT, row["go"], name, map_type=row.get("map", GRANULAR))
        _built[name] = found
        for field_name, (type_, flags, embedded, extras) in row["fields"].items():
            found.fields[field_name] = _field(field_name, type_, flags, embedded, extras)
            found.fields[field_name].keeps_empty = (name, field_name) in _KEEP_EMPTY
    return found


def schema_for(gvk: GroupVersionKind) -> Schema:
    """The tree of a built-in kind. Raises ``KeyError``."""
    if gvk.kind in META_KINDS or gvk.group == "meta.k8s.io":
        return schema_of(f"{_META}.{gvk.kind}")
    return schema_of(definition_name(gvk))


def object_meta() -> Schema:
    return schema_of(f"{_META}.ObjectMeta")


def _field(name: str, type_: list[Any], flags: str, embedded: str, extras: dict[str, Any]) -> Field:
    schema = _node(type_)
    strategy = tuple(extras["strategy"].split(",")) if "strategy" in extras else ()
    merge_key = extras.get("merge", "")
    if schema.kind == ARRAY:
        schema.list_type, schema.list_keys = _list_type(extras, strategy, merge_key)
    elif "map" in extras and extras["map"] != schema.map_type:
        schema = schema.with_map_type(extras["map"])
    return Field(
        name,
        schema,
        omit_empty="o" in flags,
        omit_zero="z" in flags,
        pointer="p" in flags,
        embedded=embedded,
        default=extras.get("default"),
        patch_strategy=strategy,
        merge_key=merge_key,
    )


def _list_type(extras: dict[str, Any], strategy: tuple[str, ...], merge_key: str) -> tuple[str, tuple[str, ...]]:
    """Where no list type is published, the patch strategy says what apply does."""
    if "list" in extras:
        return extras["list"], tuple(extras.get("keys", ()))
    if "merge" in strategy:
        return (MAP, (merge_key,)) if merge_key else (SET, ())
    return ATOMIC, ()


def _node(type_: list[Any]) -> Schema:
    kind, go = type_[0], type_[1]
    if kind == OBJECT:
        return schema_of(type_[2])
    return Schema(kind, go, items=_node(type_[2]) if len(type_) > 2 else None)
