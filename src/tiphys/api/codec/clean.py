"""The fast path of decoding: a compiled check that an object needs no repair.

``compiled(schema)`` accepts an object only if the slow path would give it back unchanged and without a word: only
declared fields, values of the right types, nothing that the wire form leaves out, canonical quantities, times and
bytes. It may refuse what is fine (then the slow path runs), and must never accept what is not. The check is a JSON
Schema of draft 4, where ``1.0`` is no integer, compiled by ``jsonschema_rs`` once for each kind.

Source: https://kubernetes.io/docs/reference/using-api/api-concepts/
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tiphys.api.codec.complete import shown_as_null
from tiphys.api.schema import (
    ARRAY,
    BOOLEAN,
    BYTES,
    INT_OR_STRING,
    INTEGER,
    MAP,
    MICRO_TIME,
    NUMBER,
    OBJECT,
    QUANTITY,
    STRING,
    TIME,
    Field,
    Schema,
)

# Three digits and more only if the last three are not all zeros: 1000m is written 1, 1000 is written 1k. Below 1000
# a count of binary units cannot be a multiple of 1024. Days beyond the 28th are left to the slow path.
_AMOUNT = "([1-9][0-9]{0,2}|[1-9][0-9]{0,8}([1-9][0-9][0-9]|[0-9][1-9][0-9]|[0-9][0-9][1-9]))"
_QUANTITY = f"^(0|{_AMOUNT}(m|k|M|G|T)?|[1-9][0-9]{{0,2}}(Ki|Mi|Gi|Ti))$"
_SECONDS = "[1-9][0-9]{3}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]"
_BASE64 = "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/][AQgw]==|[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=)?$"

_SCALARS: dict[str, dict[str, Any]] = {
    STRING: {"type": "string"},
    BOOLEAN: {"type": "boolean"},
    NUMBER: {"type": "number"},
    BYTES: {"type": "string", "pattern": _BASE64},
    QUANTITY: {"type": "string", "pattern": _QUANTITY},
    INT_OR_STRING: {"anyOf": [{"type": "string"}, {"type": "integer", "minimum": -(2**31), "maximum": 2**31 - 1}]},
    TIME: {"type": "string", "pattern": f"^{_SECONDS}Z$"},
    MICRO_TIME: {"type": "string", "pattern": f"^{_SECONDS}\\.[0-9]{{6}}Z$"},
}
_BITS = {"int32": 31, "int64": 63}

Check = Callable[[dict[str, Any]], bool]


def compiled(schema: Schema) -> Check:
    """The check of an object schema; compiled on first use."""
    from jsonschema_rs import Draft4Validator

    definitions: dict[str, Any] = {}
    document = _Document(definitions).reference(schema)
    check: Check = Draft4Validator({**document, "definitions": definitions}).is_valid
    return check


class _Document:
    """Builds the JSON Schema of a tree; object types become definitions, so that cycles end."""

    def __init__(self, definitions: dict[str, Any]) -> None:
        self._definitions = definitions
        self._names: dict[int, str] = {}
        self._kept: list[Schema] = []

    def reference(self, schema: Schema) -> dict[str, Any]:
        # Types that differ only in their map type share their fields.
        identity = id(schema.fields)
        if identity not in self._names:
            name = self._names[identity] = f"t{len(self._names)}"
            self._kept.append(schema)
            properties = {f.name: self._field(f) for f in schema.fields.values()}
            self._definitions[name] = {"type": "object", "properties": properties, "additionalProperties": False}
        return {"$ref": f"#/definitions/{self._names[identity]}"}

    def _field(self, field: Field) -> dict[str, Any]:
        type_ = self._type(field.schema)
        if shown_as_null(field):
            # What was completed is clean: so that an object that is patched costs no more than a new one.
            return {"anyOf": [type_, {"type": "null"}]}
        if field.pointer or not field.omit_empty:
            return type_
        kind = field.schema.kind
        if kind in (STRING, BYTES):
            return {**type_, "minLength": 1}
        if kind == BOOLEAN:
            return {"enum": [True]}
        if kind == INTEGER:
            return {**type_, "not": {"enum": [0]}}
        if kind == NUMBER:
            return {**type_, "not": {"enum": [0]}}
        if kind == ARRAY:
            return {**type_, "minItems": 1}
        if kind == MAP:
            return {**type_, "minProperties": 1}
        return type_

    def _type(self, schema: Schema) -> dict[str, Any]:
        kind = schema.kind
        if kind in _SCALARS:
            return _SCALARS[kind]
        if kind == INTEGER:
            bound = 2 ** _BITS.get(schema.go, 63)
            return {"type": "integer", "minimum": -bound, "maximum": bound - 1}
        if kind == OBJECT:
            return self.reference(schema)
        if kind in (ARRAY, MAP):
            items = self._type(schema.items) if schema.items else {}
            name = "items" if kind == ARRAY else "additionalProperties"
            return {"type": "array" if kind == ARRAY else "object", name: items}
        # Values of any type are kept as they are, but a null among the fields is left out.
        return {"not": {"type": "null"}} if kind in ("any", "raw") else {"not": {}}
