"""A JSON reader that keeps what other readers drop: duplicate keys, their order, and numbers as they were written.

It is the slow path of decoding. It says what is wrong with a text in the words of Go's ``encoding/json``, it has its
limit of depth, and it takes what that takes (lone surrogates and broken UTF-8 become U+FFFD).
Source: RFC 8259 and the documentation of ``encoding/json``.
"""

from __future__ import annotations

import re
from typing import Any

from tiphys.api.gotext import quote

MAX_DEPTH = 10000


class JSONError(ValueError):
    """The text is not JSON; the message is upstream's."""


class Number:
    """A number as it was written."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text


class Pairs:
    """An object: keys and values in order, repeated keys included."""

    __slots__ = ("pairs",)

    def __init__(self) -> None:
        self.pairs: list[tuple[str, Node]] = []


Node = str | bool | None | Number | Pairs | list[Any]

_SPACE = re.compile(rb"[ \t\r\n]*")
_NUMBER = re.compile(rb"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_PLAIN = re.compile(rb'[^"\\\x00-\x1f]*')
_HEX = re.compile(rb"[0-9a-fA-F]")
_LITERALS: dict[bytes, tuple[bytes, bool | None]] = {
    b"t": (b"true", True),
    b"f": (b"false", False),
    b"n": (b"null", None),
}
_ESCAPES = {
    ord('"'): '"',
    ord("\\"): "\\",
    ord("/"): "/",
    ord("b"): "\b",
    ord("f"): "\f",
    ord("n"): "\n",
    ord("r"): "\r",
    ord("t"): "\t",
}
_VALUE = "looking for beginning of value"
_KEY = "looking for beginning of object key string"
_IN_WORD = ("in literal", "in numeric", "in exponent", "after decimal point", "in string escape", "in \\u")
"""If the text ends here, report it as if a space followed, as Go's scanner takes the end for one."""


def read(data: bytes) -> Node:
    """The value in ``data``. Raises ``JSONError``."""
    return _Reader(data).document()


def problem(data: bytes) -> str:
    """What Go's decoder says of a text that is not JSON."""
    try:
        read(data)
    except JSONError as error:
        return str(error)
    return "invalid character in string"  # a text that is no UTF-8, which Go reads all the same


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def document(self) -> Node:
        """Iterative: depth is bounded by the count, not by Python's stack."""
        stack: list[tuple[Pairs | list[Node], str]] = []
        key = ""
        while True:
            value, opened = self._value()
            if opened:
                if len(stack) >= MAX_DEPTH:
                    bracket = "{" if isinstance(value, Pairs) else "["
                    raise JSONError(f"invalid character '{bracket}' exceeded max depth")
                if isinstance(value, Pairs):
                    first = self._first_key()
                    if first is not None:
                        stack.append((value, key))
                        key = first
                        continue
                elif isinstance(value, list) and not self._closes(b"]"):
                    stack.append((value, key))
                    continue
            while stack:
                container, outer = stack[-1]
                if isinstance(container, Pairs):
                    container.pairs.append((key, value))
                    following = self._next_key()
                    if following is not None:
                        key = following
                        break
                else:
                    container.append(value)
                    if self._next_item():
                        break
                stack.pop()
                value, key = container, outer
            else:
                self._end()
                return value

    def _skip(self) -> int:
        """The next byte that is not space, or -1 at the end."""
        space = _SPACE.match(self._data, self._at)
        self._at = space.end() if space else self._at
        return self._data[self._at] if self._at < len(self._data) else -1

    def _wrong(self, context: str) -> JSONError:
        if self._at >= len(self._data):
            if context.startswith(_IN_WORD):
                return JSONError(f"invalid character ' ' {context}")
            return JSONError("unexpected end of JSON input")
        return JSONError(f"invalid character {_character(self._data[self._at])} {context}")

    def _value(self) -> tuple[Node, bool]:
        """A scalar, or an object or array that has just been opened."""
        byte = self._skip()
        if byte == 0x22:
            self._at += 1
            return self._string(), False
        if byte == 0x7B:
            self._at += 1
            return Pairs(), True
        if byte == 0x5B:
            self._at += 1
            return [], True
        if byte in (0x74, 0x66, 0x6E):
            return self._literal(), False
        if byte == 0x2D or 0x30 <= byte <= 0x39:
            return self._number(), False
        raise self._wrong(_VALUE)

    def _literal(self) -> bool | None:
        text, value = _LITERALS[self._data[self._at : self._at + 1]]
        for expected in text:
            if self._at >= len(self._data) or self._data[self._at] != expected:
                raise self._wrong(f"in literal {text.decode()} (expecting {_character(expected)})")
            self._at += 1
        return value

    def _number(self) -> Number:
        number = _NUMBER.match(self._data, self._at)
        end = number.end() if number else self._at
        following = self._data[end : end + 1]
        if number is None:
            self._at += 1
            raise self._wrong("in numeric literal")
        text = number[0]
        if following == b"." and b"." not in text and b"e" not in text.lower():
            self._at = end + 1
            raise self._wrong("after decimal point in numeric literal")
        if following in (b"e", b"E") and b"e" not in text.lower():
            self._at = end + 1
            if self._data[self._at : self._at + 1] in (b"+", b"-"):
                self._at += 1
            raise self._wrong("in exponent of numeric literal")
        self._at = end
        return Number(text.decode())

    def _string(self) -> str:
        parts: list[str] = []
        data = self._data
        while True:
            plain_ = _PLAIN.match(data, self._at)
            if plain_:
                parts.append(plain_[0].decode("utf-8", "replace"))
                self._at = plain_.end()
            byte = data[self._at] if self._at < len(data) else -1
            if byte == 0x22:
                self._at += 1
                return "".join(parts)
            if byte != 0x5C:
                raise self._wrong("in string literal")
            self._at += 1
            parts.append(self._escape())

    def _escape(self) -> str:
        byte = self._data[self._at] if self._at < len(self._data) else -1
        if byte in _ESCAPES:
            self._at += 1
            return _ESCAPES[byte]
        if byte != 0x75:
            raise self._wrong("in string escape code")
        self._at += 1
        code = self._hex()
        if 0xD800 <= code < 0xDC00 and self._data[self._at : self._at + 2] == b"\\u":
            start = self._at
            self._at += 2
            low = self._hex()
            if 0xDC00 <= low < 0xE000:
                return chr(0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00))
            self._at = start
        return "\N{REPLACEMENT CHARACTER}" if 0xD800 <= code < 0xE000 else chr(code)

    def _hex(self) -> int:
        start = self._at
        for _ in range(4):
            if not _HEX.match(self._data, self._at):
                raise self._wrong("in \\u hexadecimal character escape")
            self._at += 1
        return int(self._data[start : self._at], 16)

    def _closes(self, end: bytes) -> bool:
        self._skip()
        if self._data[self._at : self._at + 1] == end:
            self._at += 1
            return True
        return False

    def _first_key(self) -> str | None:
        return None if self._closes(b"}") else self._key()

    def _key(self) -> str:
        if self._skip() != 0x22:
            raise self._wrong(_KEY)
        self._at += 1
        key = self._string()
        if self._skip() != 0x3A:
            raise self._wrong("after object key")
        self._at += 1
        return key

    def _next_key(self) -> str | None:
        """The key of the next pair, or None if the object ends."""
        if self._closes(b"}"):
            return None
        if self._data[self._at : self._at + 1] != b",":
            raise self._wrong("after object key:value pair")
        self._at += 1
        return self._key()

    def _next_item(self) -> bool:
        if self._closes(b"]"):
            return False
        if self._data[self._at : self._at + 1] != b",":
            raise self._wrong("after array element")
        self._at += 1
        return True

    def _end(self) -> None:
        if self._skip() != -1:
            raise self._wrong("after top-level value")


def _character(byte: int) -> str:
    if byte == 0x27:
        return "'\\''"
    if byte == 0x22:
        return "'\"'"
    return "'" + quote(chr(byte))[1:-1] + "'"
