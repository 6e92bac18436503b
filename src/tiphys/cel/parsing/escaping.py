"""Property names that are no identifiers of CEL, written so that they are.

Source: "Common Expression Language in Kubernetes", "Escaping".
"""

from __future__ import annotations

import re

_RESERVED = (
    "true false null in as break const continue else for function if import let loop package namespace return var void "
    "while"
)
RESERVED = frozenset(_RESERVED.split())
_WORDS = {"__": "underscores", ".": "dot", "-": "dash", "/": "slash"}
_ESCAPED = re.compile(r"__|[.\-/]")
_VALID = re.compile(r"[A-Za-z_./\-][A-Za-z0-9_./\-]*\Z")


def escape(name: str) -> str | None:
    """None if there is no way to write the name."""
    if name in RESERVED:
        return f"__{name}__"
    if not _VALID.match(name):
        return None
    return _ESCAPED.sub(lambda match: f"__{_WORDS[match.group()]}__", name)
