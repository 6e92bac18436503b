"""The field tree of a custom resource, from the structural schema in its definition.

Only what patching and applying need: validation, pruning and defaults of custom resources work on the schema itself.
Source: https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#specifying-a-structural-schema
"""

from __future__ import annotations

from typing import Any

from tiphys.api.schema import (
    ANY,
    ARRAY,
    ATOMIC,
    BOOLEAN,
    GRANULAR,
    INT_OR_STRING,
    INTEGER,
    MAP,
    NUMBER,
    OBJECT,
    STRING,
    Field,
    Schema,
    object_meta,
)

_SCALARS = {"string": STRING, "integer": INTEGER, "number": NUMBER, "boolean": BOOLEAN}


RULES = "x-kubernetes-validations"
"""Where a structural schema has its rules in CEL."""


def schema_from_structural(schema: dict[str, Any] | None) -> Schema:
    """The tree of a resource; without a schema everything is kept, and owned by what it is."""
    if not schema:
        root = Schema(OBJECT, preserve_unknown=True)
    else:
        root = _node({"type": "object", **schema}, preserve=False)
    _add_object_fields(root)
    return root


def _add_object_fields(node: Schema) -> None:
    """What every object has, whether its schema says so or not; metadata is always of the same type."""
    for name in ("apiVersion", "kind"):
        node.fields.setdefault(name, Field(name, Schema(STRING, "string")))
    node.fields["metadata"] = Field("metadata", object_meta())


def _node(schema: dict[str, Any], *, preserve: bool) -> Schema:
    preserve = preserve or bool(schema.get("x-kubernetes-preserve-unknown-fields"))
    result = _typed(schema, preserve=preserve)
    result.nullable = bool(schema.get("nullable"))
    if schema.get("x-kubernetes-embedded-resource") and result.kind == OBJECT:
        _add_object_fields(result)
    return result


def _typed(schema: dict[str, Any], *, preserve: bool) -> Schema:
    kind = schema.get("type", "")
    if schema.get("x-kubernetes-int-or-string"):
        return Schema(INT_OR_STRING)
    if kind in _SCALARS:
        # Formats other than bytes are checked by nobody who merges.
        return Schema(_SCALARS[kind] if not schema.get("format") or kind != "string" else "text")
    if kind == "array":
        return _array(schema, preserve=preserve)
    return _object(schema, preserve=preserve) if kind == "object" else Schema(ANY)


def _array(schema: dict[str, Any], *, preserve: bool) -> Schema:
    keys = tuple(schema.get("x-kubernetes-list-map-keys") or ())
    list_type = schema.get("x-kubernetes-list-type", ATOMIC)
    items = schema.get("items")
    return Schema(
        ARRAY, items=_node(items, preserve=preserve) if items else Schema(ANY), list_type=list_type, list_keys=keys
    )


def _object(schema: dict[str, Any], *, preserve: bool) -> Schema:
    map_type = schema.get("x-kubernetes-map-type", GRANULAR)
    properties = schema.get("properties") or {}
    more = schema.get("additionalProperties")
    if not properties and isinstance(more, dict):
        return Schema(MAP, items=_node(more, preserve=preserve), map_type=map_type)
    # Without any declared field everything is allowed, and each field owned by what its value is.
    open_ended = preserve or not properties or more is True
    result = Schema(OBJECT, map_type=map_type, preserve_unknown=open_ended)
    for name, inner in properties.items():
        result.fields[name] = Field(name, _node(inner, preserve=preserve), default=inner.get("default"))
    return result
