"""The values that literals stand for.

Source: https://github.com/google/cel-spec/blob/master/doc/langdef.md
"""

from __future__ import annotations

from typing import Any

from tiphys.cel.parsing import lexer
from tiphys.cel.values import MAX_INT, MAX_UINT, MIN_INT, Uint

_SIMPLE = {
    "a": "\a",
    "b": "\b",
    "f": "\f",
    "n": "\n",
    "r": "\r",
    "t": "\t",
    "v": "\v",
    "\\": "\\",
    "'": "'",
    '"': '"',
    "`": "`",
    "?": "?",
}
_HEX_DIGITS = {"x": 2, "X": 2, "u": 4, "U": 8}
_CONSTANTS = {"true": True, "false": False, "null": None}
_TOO_LARGE = float("inf")


class LiteralError(ValueError):
    """No value can be made of the literal."""


def value(kind: str, text: str) -> Any:
    """The value of a literal token. Raises ``LiteralError`` if it is out of range."""
    if kind in _CONSTANTS:
        return _CONSTANTS[kind]
    if kind == lexer.INT:
        return _int(text)
    if kind == lexer.UINT:
        number = int(text[:-1], 16 if text.startswith("0x") else 10)
        if number > MAX_UINT:
            raise LiteralError("invalid uint literal")
        return Uint(number)
    if kind == lexer.FLOAT:
        number_ = float(text)
        if abs(number_) == _TOO_LARGE:
            raise LiteralError("invalid double literal")
        return number_
    if kind == lexer.STRING:
        return unquote(text, is_bytes=False)
    return unquote(text[1:], is_bytes=True)


def _int(text: str) -> int:
    digits = text.removeprefix("-")
    number = int(digits, 16 if digits.startswith("0x") else 10)
    if text.startswith("-"):
        number = -number
    if not MIN_INT <= number <= MAX_INT:
        raise LiteralError("invalid int literal")
    return number


def unquote(text: str, *, is_bytes: bool) -> Any:
    """What is between the quotes: a ``str``, or ``bytes`` in which escapes are single bytes."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    raw = text[0] in "rR"
    if raw:
        text = text[1:]
    size = 3 if text.startswith(("'''", '"""')) and len(text) >= 6 else 1
    text = text[size:-size]
    if raw or "\\" not in text:
        return text.encode() if is_bytes else text
    out = bytearray()
    at = 0
    while at < len(text):
        if text[at] != "\\":
            out += text[at].encode("utf-8", "surrogatepass")
            at += 1
            continue
        code, at, encode = _escape(text, at + 1, is_bytes=is_bytes)
        out += chr(code).encode() if encode else bytes((code,))
    return bytes(out) if is_bytes else out.decode("utf-8", "replace")


def _escape(text: str, at: int, *, is_bytes: bool) -> tuple[int, int, bool]:
    """Code, where to continue, and whether it is a character rather than a byte."""
    char = text[at]
    if char in _SIMPLE:
        return ord(_SIMPLE[char]), at + 1, True
    if char in _HEX_DIGITS:
        if is_bytes and char in "uU":
            raise LiteralError("unable to unescape string")
        end = at + 1 + _HEX_DIGITS[char]
        code = int(text[at + 1 : end], 16)
    else:
        end = at + 3
        code = int(text[at:end], 8)
    if is_bytes:
        return code, end, False
    if code > 0x10FFFF or 0xD800 <= code <= 0xDFFF:
        raise LiteralError("invalid unicode code point")
    return code, end, True
