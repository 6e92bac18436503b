"""Decoding of an object that is in memory already, as after a strategic merge: other words than for a body.

Upstream converts maps to its types here without going through JSON. It says less about what does not fit, and it
converts numbers as Go does: a whole one loses the bits that its type has no place for.

Source: https://kubernetes.io/docs/reference/using-api/api-concepts/
"""

from __future__ import annotations

from typing import Any

from tiphys.api.codec.jsontext import Node, Number, Pairs
from tiphys.api.codec.typed import DecodeError, TypedDecoder, canonical_base64, real, type_name
from tiphys.api.schema import ARRAY, BYTES, INT_OR_STRING, INTEGER, MAP, MICRO_TIME, OBJECT, TIME, Schema

_KINDS = {"boolean": "bool", "number": "float64", "string": "string"}


class Restorer(TypedDecoder):
    """A decoder whose messages are those of the conversion."""

    def _value(self, node: Node, schema: Schema, old: Any) -> Any:
        if schema.kind == INTEGER and isinstance(node, Number):
            return _converted(node, schema)
        if schema.kind in (TIME, MICRO_TIME) and node is not None and not isinstance(node, str):
            raise DecodeError(f"json: cannot unmarshal {type_name(node)} into Go value of type string")
        if schema.kind == INT_OR_STRING:
            # The type reads itself, and knows nothing of the field it is in.
            return TypedDecoder()._int_or_string(node, schema)
        if schema.kind == BYTES and isinstance(node, str):
            try:
                return canonical_base64(node)
            except DecodeError as error:
                raise DecodeError(f"error decoding from json: {error}") from error
        return super()._value(node, schema, old)

    def _unfit(self, node: Node, schema: Schema) -> object:
        kind = _kind(node)
        if schema.kind == OBJECT:
            raise DecodeError(f"cannot restore struct from: {kind}")
        if schema.kind == MAP:
            raise DecodeError(f"cannot restore map from {kind}")
        if schema.kind in (ARRAY, BYTES):
            raise DecodeError(f"cannot restore slice from {kind}")
        target = schema.go if schema.kind == INTEGER else _KINDS.get(schema.kind, schema.kind)
        convertible = kind in ("int64", "float64") and target in ("int32", "int64", "float64", "string")
        if convertible:
            raise DecodeError(f"cannot convert {kind} to {schema.go}")
        raise DecodeError(f"unrecognized type: {target}")


def _converted(number: Number, schema: Schema) -> int:
    value = real(number.text) or 0
    if value != int(value):
        raise DecodeError(f"cannot convert float64 to {schema.go}")
    whole = int(value) if -(2**63) <= value < 2**63 else -(2**63)
    half = 2**31 if schema.go == "int32" else 2**63
    return (whole + half) % (2 * half) - half


def _kind(node: Node) -> str:
    if isinstance(node, bool):
        return "bool"
    if isinstance(node, Number):
        return "int64" if node.text.lstrip("-").isdigit() else "float64"
    if isinstance(node, str):
        return "string"
    return "map" if isinstance(node, Pairs) else "slice"
