"""Decoding of an object that is in memory already, as after a strategic merge: other words than for a body.

The original converts maps to its types here without going through JSON, and says less about what does not fit.
"""

from __future__ import annotations

from tiphys.api.codec.jsontext import Node, Number, Pairs
from tiphys.api.codec.typed import DecodeError, TypedDecoder
from tiphys.api.schema import ARRAY, BYTES, MAP, OBJECT, Schema

_KINDS = {"boolean": "bool", "number": "float64", "string": "string"}


class Restorer(TypedDecoder):
    """A decoder whose messages are those of the conversion."""

    def _unfit(self, node: Node, schema: Schema) -> object:
        kind = _kind(node)
        if schema.kind == OBJECT:
            raise DecodeError(f"cannot restore struct from: {kind}")
        if schema.kind == MAP:
            raise DecodeError(f"cannot restore map from {kind}")
        if schema.kind in (ARRAY, BYTES):
            raise DecodeError(f"cannot restore slice from {kind}")
        target = schema.go if schema.kind == "integer" else _KINDS.get(schema.kind, schema.kind)
        convertible = kind in ("int64", "float64") and target in ("int32", "int64", "float64", "string")
        if convertible:
            raise DecodeError(f"cannot convert {kind} to {schema.go}")
        raise DecodeError(f"unrecognized type: {target}")


def _kind(node: Node) -> str:
    if isinstance(node, bool):
        return "bool"
    if isinstance(node, Number):
        return "int64" if node.text.lstrip("-").isdigit() else "float64"
    if isinstance(node, str):
        return "string"
    return "map" if isinstance(node, Pairs) else "slice"
