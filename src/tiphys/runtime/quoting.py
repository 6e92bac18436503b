"""Strings between quotes as ``%q`` of Go's ``fmt`` prints them. A leaf.

Source: https://pkg.go.dev/strconv#Quote
"""

from __future__ import annotations

import re

_ESCAPES = {
    "\a": "\\a",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\v": "\\v",
    "\\": "\\\\",
    '"': '\\"',
}
_PLAIN = re.compile(r"[ !#-\[\]-~]*\Z")


def quote(text: str) -> str:
    """A text; a lone surrogate, which Go's strings cannot hold, is its replacement."""
    if _PLAIN.match(text):
        return f'"{text}"'
    return '"' + "".join(_ESCAPES.get(char) or _escaped(char) for char in text) + '"'


def quote_bytes(data: bytes) -> str:
    """Bytes; those that are no UTF-8 are shown by number."""
    text = data.decode("utf-8", "surrogateescape")
    return '"' + "".join(_ESCAPES.get(char) or _byte(char) or _escaped(char) for char in text) + '"'


def _byte(char: str) -> str:
    return f"\\x{ord(char) - 0xDC00:02x}" if "\udc80" <= char <= "\udcff" else ""


def _escaped(char: str) -> str:
    if char.isprintable():
        return char
    code = ord(char)
    if 0xD800 <= code < 0xE000:
        return "\N{REPLACEMENT CHARACTER}"
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
