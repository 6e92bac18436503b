"""Repeated keys in a patch.

Source: https://kubernetes.io/docs/reference/using-api/api-concepts/#field-validation
"""

from __future__ import annotations

from tiphys.api.codec.jsontext import Node, Pairs
from tiphys.api.gotext import quote


def duplicates(node: Node, path: str = "") -> list[str]:
    """The repeated keys in a value without a type, in the words of strict decoding."""
    messages: list[str] = []
    if isinstance(node, Pairs):
        seen: set[str] = set()
        for key, value in node.pairs:
            here = f"{path}.{key}" if path else key
            if key in seen:
                messages.append(f"duplicate field {quote(here)}")
            seen.add(key)
            messages += duplicates(value, here)
    elif isinstance(node, list):
        for index, item in enumerate(node):
            messages += duplicates(item, f"{path}[{index}]")
    return list(dict.fromkeys(messages))
