"""From the schema of a kind, as OpenAPI documents have it, to the type that expressions see.

References are replaced by what they refer to; within itself, a schema is any object. Source: KEP-3488 (type checking).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tiphys.cel.schema.decltypes import DeclType
from tiphys.cel.schema.schematypes import decl_type

Schema = Mapping[str, Any]

_CIRCULAR: Schema = {"type": "object"}


def kind_type(schemas: Mapping[str, Schema], group: str, version: str, kind: str, name: str) -> DeclType | None:
    """The type of a kind, called ``name``; None if ``schemas`` (by name, as a document has them) hold no such kind."""
    root = next((root_type for root_type in _kinds(schemas) if root_type[1] == (group, version, kind)), None)
    if root is None:
        return None
    root_type = decl_type(_resolved(schemas, schemas[root[0]], (root[0],)), is_resource=True)
    return None if root_type is None else root_type.named(name)


def _kinds(schemas: Mapping[str, Schema]) -> Iterator[tuple[str, tuple[str, str, str]]]:
    for name, schema in schemas.items():
        for mark in schema.get("x-kubernetes-group-version-kind") or ():
            yield name, (mark["group"], mark["version"], mark["kind"])


def _resolved(schemas: Mapping[str, Schema], schema: Schema, inside: tuple[str, ...]) -> Schema:
    """``inside``: the names of the schemas that this one is part of."""
    reference = _reference(schema)
    if reference is not None:
        if reference in inside:
            return _CIRCULAR
        schema, inside = schemas.get(reference, _CIRCULAR), (*inside, reference)
    resolved = dict(schema)
    if resolved.get("format") == "int-or-string":
        resolved["x-kubernetes-int-or-string"] = True
    if "properties" in resolved:
        resolved["properties"] = {
            name: _resolved(schemas, part, inside) for name, part in resolved["properties"].items()
        }
    for key in ("items", "additionalProperties"):
        if isinstance(resolved.get(key), Mapping):
            resolved[key] = _resolved(schemas, resolved[key], inside)
    return resolved


def _reference(schema: Schema) -> str | None:
    """The name of what a schema refers to, also as the one part of a whole (``allOf``)."""
    parts = list(schema.get("allOf") or ())
    address = schema.get("$ref") or (parts[0].get("$ref") if len(parts) == 1 else None)
    return None if address is None else str(address).rpartition("/")[2]
