"""From the structural schema of a custom resource to the types and sizes that its rules see.

Source: "Common Expression Language in Kubernetes", "Type system integration"; KEP-2876.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tiphys.cel import types
from tiphys.cel.parsing.escaping import escape
from tiphys.cel.schema import decltypes
from tiphys.cel.schema.decltypes import DeclType, list_type, map_type, object_type

Schema = Mapping[str, Any]

MAX_REQUEST = 3 * 1024 * 1024
_EMBEDDED, _INT_OR_STRING = "x-kubernetes-embedded-resource", "x-kubernetes-int-or-string"
_MAX_TEXT = MAX_REQUEST - 2
_TEXT_LIMITS = {"duration": 32, "date": 12, "date-time": 32}
_STRING: Schema = {"type": "string"}
_METADATA: Schema = {"type": "object", "properties": {"name": _STRING, "generateName": _STRING}}


def decl_type(schema: Schema, *, is_resource: bool) -> DeclType | None:
    """None if the schema says no type. A resource has at least a kind, a version and some metadata."""
    if schema.get(_INT_OR_STRING):
        limit = schema.get("maxLength")
        return replace(decltypes.DYN, max_elements=_MAX_TEXT if limit is None else max(limit, 0) * 4)
    match schema.get("type"):
        case "array":
            return _list(schema)
        case "object":
            return _object(_with_metadata(schema) if is_resource else schema)
        case "string":
            return _text(schema)
        case "boolean":
            return decltypes.BOOL
        case "number":
            return decltypes.DOUBLE
        case "integer":
            return decltypes.INT
    return None


def _list(schema: Schema) -> DeclType | None:
    items = schema.get("items")
    element = decl_type(items, is_resource=bool(items.get(_EMBEDDED))) if items is not None else None
    if element is None:
        return None
    limit = schema.get("maxItems")
    return list_type(element, (MAX_REQUEST - 2) // (element.min_size + 1) if limit is None else max(limit, 0))


def _object(schema: Schema) -> DeclType | None:
    """An object or map type with its smallest size in bytes; None without a usable schema."""
    additional = schema.get("additionalProperties")
    if isinstance(additional, Mapping):
        element = decl_type(additional, is_resource=bool(additional.get(_EMBEDDED)))
        if element is None:
            return None
        limit = schema.get("maxProperties")
        return map_type(
            decltypes.STRING, element, (MAX_REQUEST - 2) // (element.min_size + 6) if limit is None else max(limit, 0)
        )
    fields, size = dict[str, DeclType](), 2
    required = frozenset(schema.get("required") or ())
    for name, inner in (schema.get("properties") or {}).items():
        field = decl_type(inner, is_resource=bool(inner.get(_EMBEDDED)))
        if field is None:
            continue
        escaped = escape(name)
        if escaped is not None:
            fields[escaped] = field
        if name in required and inner.get("default") is None:
            size += len(name.encode()) + field.min_size + 4
    return object_type("object", fields, size)


def _text(schema: Schema) -> DeclType:
    format, limit = schema.get("format"), schema.get("maxLength")
    if format == "byte":
        return replace(decltypes.BYTES, max_elements=_MAX_TEXT if limit is None else max(limit, 0))
    if format == "duration":
        return replace(decltypes.DURATION, max_elements=_TEXT_LIMITS[format])
    if format in ("date", "date-time"):
        size = 12 if format == "date" else 21
        return DeclType("timestamp", types.TIMESTAMP, size, _TEXT_LIMITS[format])
    if limit is not None:
        return replace(decltypes.STRING, max_elements=max(limit, 0) * 4)
    choices = schema.get("enum") or ()
    if choices:
        return replace(
            decltypes.STRING, max_elements=max(len(c.encode()) if isinstance(c, str) else 0 for c in choices)
        )
    return replace(decltypes.STRING, max_elements=_MAX_TEXT)


def _with_metadata(schema: Schema) -> Schema:
    properties = schema.get("properties") or {}
    metadata = properties.get("metadata") or {}
    inner = metadata.get("properties") or {}
    texts = (properties.get("kind"), properties.get("apiVersion"), inner.get("name"), inner.get("generateName"))
    if metadata.get("type") == "object" and all((text or {}).get("type") == "string" for text in texts):
        return schema
    whole = {**properties, "kind": _STRING, "apiVersion": _STRING, "metadata": _METADATA}
    return {"type": "object", **schema, "properties": whole}
