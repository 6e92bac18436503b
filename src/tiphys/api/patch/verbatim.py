"""Values of a patch as they were written.

Upstream's library leaves what it does not look into as text: ``3.0`` stays ``3.0``, in messages and for the decoder
of the patched object. So numbers keep their text here, and an object of the server is laid out as it encodes it.

Source: https://kubernetes.io/docs/reference/using-api/api-concepts/#patch-and-apply
"""

from __future__ import annotations

from typing import Any

from tiphys.api.codec.jsontext import Node, Number, Pairs
from tiphys.api.codec.typed import MAX_DEPTH, DecodeError
from tiphys.api.gotext import json_text
from tiphys.api.schema import OBJECT, Schema


def verbatim(node: Node, depth: int = 0) -> Any:
    """Dicts and lists, in which numbers are still ``Number``. Raises ``DecodeError`` for what is too deep."""
    if depth > MAX_DEPTH:
        raise DecodeError("exceeded max depth")
    if isinstance(node, Pairs):
        return {key: verbatim(value, depth + 1) for key, value in node.pairs}
    return [verbatim(item, depth + 1) for item in node] if isinstance(node, list) else node


def as_node(value: Any, touched: set[int]) -> Node:
    """The inverse, of values that are verbatim in part. What the patch went into is written with sorted keys."""
    if isinstance(value, dict):
        node = Pairs()
        names = sorted(value) if id(value) in touched else list(value)
        node.pairs = [(name, as_node(value[name], touched)) for name in names]
        return node
    if isinstance(value, list):
        return [as_node(item, touched) for item in value]
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return Number(json_text(value))
    return value  # type: ignore[no-any-return]


def in_order(value: Any, schema: Schema | None) -> Any:
    """A copy of a value of the server, keys in the order in which upstream encodes them."""
    if isinstance(value, dict):
        return {name: in_order(value[name], _child(schema, name)) for name in _order(value, schema)}
    if isinstance(value, list):
        items = schema.items if schema is not None else None
        return [in_order(item, items) for item in value]
    return value


def _order(value: dict[str, Any], schema: Schema | None) -> list[str]:
    if schema is None or schema.kind != OBJECT:
        return sorted(value)
    known = [name for name in schema.fields if name in value]
    return known + sorted(name for name in value if name not in schema.fields)


def _child(schema: Schema | None, name: str) -> Schema | None:
    if schema is None:
        return None
    field = schema.fields.get(name)
    return field.schema if field is not None else schema.items


def node_text(node: Node) -> str:
    """The JSON text of a node."""
    if isinstance(node, Pairs):
        return "{" + ",".join(f"{json_text(name)}:{node_text(value)}" for name, value in node.pairs) + "}"
    if isinstance(node, list):
        return f"[{','.join(map(node_text, node))}]"
    return node.text if isinstance(node, Number) else json_text(node)


__all__ = ["as_node", "in_order", "node_text", "verbatim"]
