"""The text of a patched object, as the original's library writes it; it stands in messages.

What the patch went into is written with sorted keys, the rest as it was: objects in the order of their type.
"""

from __future__ import annotations

from typing import Any

from tiphys.api.codec.jsontext import Node, Pairs
from tiphys.api.gotext import json_text, quote
from tiphys.api.schema import OBJECT, Schema


def patched_text(value: Any, schema: Schema | None, touched: set[int]) -> str:
    if isinstance(value, dict):
        names = _order(value, schema, id(value) in touched)
        inner = ",".join(f"{json_text(n)}:{patched_text(value[n], _child(schema, n), touched)}" for n in names)
        return f"{{{inner}}}"
    if isinstance(value, list):
        items = schema.items if schema is not None else None
        return f"[{','.join(patched_text(item, items, touched) for item in value)}]"
    return json_text(value)


def _order(value: dict[str, Any], schema: Schema | None, sorted_keys: bool) -> list[str]:
    if sorted_keys or schema is None or schema.kind != OBJECT:
        return sorted(value)
    known = [name for name in schema.fields if name in value]
    return known + sorted(name for name in value if name not in schema.fields)


def _child(schema: Schema | None, name: str) -> Schema | None:
    if schema is None:
        return None
    field = schema.fields.get(name)
    return field.schema if field is not None else schema.items


def duplicates(node: Node, path: str = "") -> list[str]:
    """The keys that come twice in a value without a type, in the words of strict decoding."""
    found: list[str] = []
    if isinstance(node, Pairs):
        seen: set[str] = set()
        for key, value in node.pairs:
            here = f"{path}.{key}" if path else key
            if key in seen:
                found.append(f"duplicate field {quote(here)}")
            seen.add(key)
            found += duplicates(value, here)
    elif isinstance(node, list):
        for index, item in enumerate(node):
            found += duplicates(item, f"{path}[{index}]")
    return list(dict.fromkeys(found))
