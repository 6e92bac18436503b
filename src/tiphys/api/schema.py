"""The field tree of every type: what decoding, patching, applying and defaulting need to know about a field.

Built-in types are in the table ``data/types.txt``: the published OpenAPI
definitions joined with what they leave out, the Go types' empty-value rules. A tree is built when it is first requested
for, and shared; types that contain themselves are cycles in it. Custom resources make the same tree from their
structural schema.

Source: the published OpenAPI definitions of Kubernetes v1.36, KEP-555 (list and map types), KEP-1152 (strategic merge).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from threading import RLock
from typing import Any

import orjson

from tiphys.api.fieldtree import (
    ANY,
    ARRAY,
    ATOMIC,
    BOOLEAN,
    BYTES,
    GRANULAR,
    INT_OR_STRING,
    INTEGER,
    MAP,
    MICRO_TIME,
    NUMBER,
    OBJECT,
    QUANTITY,
    RAW,
    SCHEMA_OR_ARRAY,
    SCHEMA_OR_BOOL,
    SCHEMA_OR_STRINGS,
    SET,
    STRING,
    TIME,
    Field,
    Schema,
)
from tiphys.api.resources import definition_name
from tiphys.api.scheme import GroupVersionKind

__all__ = [
    "ANY",
    "ARRAY",
    "ATOMIC",
    "BOOLEAN",
    "BYTES",
    "GRANULAR",
    "INTEGER",
    "INT_OR_STRING",
    "MAP",
    "META_KINDS",
    "MICRO_TIME",
    "NUMBER",
    "OBJECT",
    "QUANTITY",
    "RAW",
    "SCHEMA_OR_ARRAY",
    "SCHEMA_OR_BOOL",
    "SCHEMA_OR_STRINGS",
    "SET",
    "STRING",
    "TIME",
    "Field",
    "Schema",
    "has_schema",
    "object_meta",
    "schema_for",
    "schema_of",
]

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


Extras = Mapping[str, Any]
NO_EXTRAS: Extras = {}


@cache
def _table() -> dict[str, str]:
    """The paragraph of each published definition in ``data/types.txt``, which says how it is to be read."""
    text = (Path(__file__).parent / "data" / "types.txt").read_text()
    return {paragraph.partition(" ")[0]: paragraph for paragraph in text.rstrip("\n").split("\n\n")[1:]}


_built: dict[str, Schema] = {}
_building: dict[str, Schema] = {}
_builder = RLock()
"""Several threads request trees; one that is half built is seen by its builder only."""
_KEEP_EMPTY = {("io.k8s.api.autoscaling.v2.HPAScalingRules", "policies")}


def has_schema(name: str) -> bool:
    return name in _table()


def schema_of(name: str) -> Schema:
    """The tree of a published definition, such as ``io.k8s.api.core.v1.Pod``. Raises ``KeyError``."""
    built = _built.get(name)
    return built if built is not None else _build(name)


def _build(name: str) -> Schema:
    with _builder:
        known = _built.get(name) or _building.get(name)
        if known is not None:
            return known
        head, *lines = _table()[name].split("\n")
        _, go, *map_type = head.split(" ")
        is_whole = not _building
        schema = _building[name] = Schema(OBJECT, go, name, map_type=map_type[0] if map_type else GRANULAR)
        for line in lines:
            field_name, _, described = line.partition(" ")
            schema.fields[field_name] = _field(field_name, *orjson.loads(described))
            schema.fields[field_name].keeps_empty = (name, field_name) in _KEEP_EMPTY
        if is_whole:
            _built.update(_building)
            _building.clear()
        return schema


def schema_for(gvk: GroupVersionKind) -> Schema:
    """The tree of a built-in kind. Raises ``KeyError``."""
    if gvk.kind in META_KINDS or gvk.group == "meta.k8s.io":
        return schema_of(f"{_META}.{gvk.kind}")
    return schema_of(definition_name(gvk))


def object_meta() -> Schema:
    return schema_of(f"{_META}.ObjectMeta")


def _field(name: str, type_: list[Any], flags: str = "", embedded: str = "", extras: Extras = NO_EXTRAS) -> Field:
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


def _list_type(extras: Extras, strategy: tuple[str, ...], merge_key: str) -> tuple[str, tuple[str, ...]]:
    """If no list type is published, the patch strategy says what apply does."""
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
