"""What an object becomes by its structural schema: removes unknown fields and nulls, adds defaults.

All functions work in place, on an object as JSON. Order matters: prune, drop nulls, default; as decoding does it.
Source: https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#field-pruning
and #defaulting-and-nullable
"""

from __future__ import annotations

from typing import Any

from tiphys.api.meta.copying import copy
from tiphys.api.object import Object

PRESERVE = "x-kubernetes-preserve-unknown-fields"
EMBEDDED = "x-kubernetes-embedded-resource"
IMPLIED = ("apiVersion", "kind", "metadata")
"""The fields that every resource has, in its schema or not."""


def prune(obj: Object, schema: Object | None) -> list[str]:
    """Remove what the schema does not know. Gives the paths of what was removed, in alphabetical order."""
    pruned: list[str] = []
    _prune(obj, {**(schema or {}), EMBEDDED: True}, "", pruned)
    return sorted(pruned)


def prune_value(value: Any, schema: Object | None) -> list[str]:
    """The same for a value that need not be a resource."""
    pruned: list[str] = []
    _prune(value, schema, "", pruned)
    return sorted(pruned)


def _prune(value: Any, schema: Object | None, path: str, pruned: list[str]) -> None:
    """Remove unknown fields below ``path``; their paths are added to ``pruned``."""
    if isinstance(value, list):
        items = schema.get("items") if schema is not None else None
        keep = schema is not None and bool(schema.get(PRESERVE))
        for i, item in enumerate(value):
            if not keep:
                _prune(item, items, f"{path}[{i}]", pruned)
            elif items is not None:
                _prune(item, {**items, PRESERVE: True}, f"{path}[{i}]", pruned)
        return
    if not isinstance(value, dict):
        return
    schema = schema or {}
    properties, more = schema.get("properties") or {}, schema.get("additionalProperties")
    keep = bool(schema.get(PRESERVE))
    for name in list(value):
        if name in IMPLIED and schema.get(EMBEDDED):
            continue
        here = f"{path}.{name}" if path else name
        if name in properties:
            _prune(value[name], properties[name], here, pruned)
        elif isinstance(more, dict):
            _prune(value[name], more, here, pruned)
        elif more is True or more is False:
            _prune(value[name], None, here, pruned)
        elif not keep:
            pruned.append(here)
            del value[name]


def drop_nulls(value: Any, schema: Object | None) -> None:
    """Remove nulls if the schema allows none and has no default to put in their place."""
    if isinstance(value, dict):
        for name in list(value):
            inner = _of_field(schema, name)
            if value[name] is None and inner is not None and not inner.get("nullable") and inner.get("default") is None:
                del value[name]
            else:
                drop_nulls(value[name], inner)
    elif isinstance(value, list):
        items = schema.get("items") if schema else None
        for item in value:
            drop_nulls(item, items)


def _of_field(schema: Object | None, name: str) -> Object | None:
    if schema is None:
        return None
    inner = (schema.get("properties") or {}).get(name)
    if inner is None and isinstance(schema.get("additionalProperties"), dict):
        inner = schema["additionalProperties"]
    return inner


def default(value: Any, schema: Object | None) -> None:
    """Set the defaults of absent fields, and of nulls if none are allowed."""
    if schema is None:
        return
    if isinstance(value, dict):
        properties, more = schema.get("properties") or {}, schema.get("additionalProperties")
        for name, inner in properties.items():
            if inner.get("default") is not None and (name not in value or _is_forbidden_null(value[name], inner)):
                value[name] = copy(inner["default"])
        for name in value:
            if name in properties:
                default(value[name], properties[name])
            elif isinstance(more, dict):
                if _is_forbidden_null(value[name], more):
                    value[name] = copy(more.get("default"))
                default(value[name], more)
    elif isinstance(value, list):
        items = schema.get("items")
        for i, item in enumerate(value):
            if isinstance(items, dict) and _is_forbidden_null(item, items):
                value[i] = copy(items.get("default"))
            default(value[i], items)


def _is_forbidden_null(value: Any, schema: Object) -> bool:
    return value is None and not schema.get("nullable")


def shape(obj: Object, schema: Object | None) -> None:
    """All three, for an object from the store or from another version."""
    meta = {name: obj[name] for name in IMPLIED if name in obj}
    prune(obj, schema)
    drop_nulls(obj, schema)
    default(obj, schema)
    obj.update(meta)
