"""``format``: a text with clauses (``%s``, ``%d``, ``%.2f``, ``%x`` …), and the check of its arguments' types.

Source: https://pkg.go.dev/github.com/google/cel-go/ext#Strings
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tiphys.api.gotext import quote
from tiphys.cel import limits, types, values
from tiphys.cel.parsing.source import Problems
from tiphys.cel.syntax import Call, ListNode, MapNode, Node
from tiphys.cel.types import Kind
from tiphys.cel.values import CelError, Duration, Timestamp, Uint, type_of

_PRECISION = re.compile(r"\.([0-9]*)")
_SUPERSCRIPT = str.maketrans("0123456789-+", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺")
_SPECIAL = ("NaN", "Infinity", "-Infinity")

_WRONG = {
    "b": "only integers and bools can be formatted as binary, was given {}",
    "d": "decimal clause can only be used on integers, was given {}",
    "e": "scientific clause can only be used on doubles, was given {}",
    "f": "fixed-point clause can only be used on doubles, was given {}",
    "o": "octal clause can only be used on integers, was given {}",
    "s": (
        "string clause can only be used on strings, bools, bytes, ints, doubles, maps, lists, types, durations, and "
        "timestamps, was given {}"
    ),
    "x": "only integers, byte buffers, and strings can be formatted as hex, was given {}",
}
_TAKES = {
    "b": (Kind.INT, Kind.UINT, Kind.BOOL),
    "d": (Kind.INT, Kind.UINT),
    "e": (Kind.DOUBLE, Kind.STRING),
    "f": (Kind.DOUBLE, Kind.STRING),
    "o": (Kind.INT, Kind.UINT),
    "s": (
        Kind.LIST,
        Kind.MAP,
        Kind.INT,
        Kind.UINT,
        Kind.DOUBLE,
        Kind.BOOL,
        Kind.STRING,
        Kind.TIMESTAMP,
        Kind.BYTES,
        Kind.DURATION,
        Kind.TYPE,
        Kind.NULL,
    ),
    "x": (Kind.INT, Kind.UINT, Kind.STRING, Kind.BYTES),
}


class _FormatError(Exception):
    """The text cannot be formatted with these arguments; ``node`` is the argument that is wrong."""

    def __init__(self, message: str, node: Node | None = None) -> None:
        self.node = node
        super().__init__(message)


Show = Callable[[str, int | None, int], str]
"""Clause, precision and number of the argument to the text that stands for it."""


def _expand(text: str, count: int, show: Show) -> tuple[str, int]:
    """The text with its clauses replaced, and how many arguments that took."""
    out, at, used = list[str](), 0, 0
    while at < len(text):
        if text[at] != "%":
            out.append(text[at])
            at += 1
        elif text[at + 1 : at + 2] == "%":
            out.append("%")
            at += 2
        else:
            used += 1
            if at + 1 >= len(text):
                raise _FormatError("unexpected end of string")
            if used > count:
                raise _FormatError(f"index {used - 1} out of range")
            clause, precision, at = _clause(text, at + 1)
            try:
                out.append(show(clause, precision, used - 1))
            except _FormatError as wrong:
                raise _FormatError(f"error during formatting: {wrong}", wrong.node) from None
    return "".join(out), used


def _clause(text: str, at: int) -> tuple[str, int | None, int]:
    precision, message = None, "could not parse formatting clause: "
    if match := _PRECISION.match(text, at):
        at = match.end()
        wrong = f"{message}error while parsing precision: "
        if at >= len(text):
            raise _FormatError(f"{wrong}could not find end of precision specifier")
        if not match.group(1):
            syntax = 'strconv.Atoi: parsing "": invalid syntax'
            raise _FormatError(f"{wrong}error while converting precision to integer: {syntax}")
        precision = int(match.group(1))
    clause = text[at]
    if clause not in "sdfebxXo":
        raise _FormatError(f'{message}unrecognized formatting clause "{clause}"')
    return clause, precision, at + 1


# The check before anything runs


def check(call: Call, text: str, args: Sequence[Node], problems: Problems) -> None:
    """Check number and types of the arguments of ``format`` against the clauses in ``text``; adds to ``problems``."""

    def show(clause: str, _precision: int | None, number: int) -> str:
        arg = args[number]
        wrong = _wrong_node(clause.lower(), arg)
        if wrong is not None:
            raise _FormatError(_WRONG[clause.lower()].format(wrong.type.name), wrong)
        return ""

    try:
        used = _expand(text, len(args), show)[1]
    except _FormatError as wrong:
        problems.add((wrong.node or call).pos, str(wrong))
        return
    if len(args) > used:
        message = f"too many arguments supplied to string.format (expected {used}, got {len(args)})"
        problems.add(call.pos, message)


def _wrong_node(clause: str, node: Node) -> Node | None:
    if node.type.kind is not Kind.DYN and node.type.kind not in _TAKES[clause]:
        return node
    if clause == "s":
        if isinstance(node, ListNode):
            return next(filter(None, (_wrong_node(clause, element) for element in node.elements)), None)
        if isinstance(node, MapNode):
            inner = (part for entry in node.entries for part in (entry.key, entry.value))
            return next(filter(None, (_wrong_node(clause, part) for part in inner)), None)
    return None


# The values


def format(text: str, args: list[Any]) -> str:
    def show(clause: str, precision: int | None, number: int) -> str:
        return _show(clause, precision, args[number])

    try:
        return _expand(text, len(args), show)[0]
    except _FormatError as wrong:
        raise CelError(str(wrong)) from None


def _show(clause: str, precision: int | None, value: Any) -> str:
    kind = clause.lower()
    limits.show(value)
    if kind == "s":
        return _text(value)
    if kind in "fe":
        limits.make_text(precision or 0)
        return _float(kind, 6 if precision is None else precision, value)
    if type_of(value).kind not in _TAKES[kind]:
        raise _FormatError(_WRONG[kind].format(type_of(value).name))
    if kind == "x":
        if isinstance(value, str | bytes):
            shown = (value.encode() if isinstance(value, str) else value).hex()
        else:
            shown = f"{int(value):x}"
        return shown.upper() if clause == "X" else shown
    return f"{int(value):{kind}}"


def _float(kind: str, precision: int, value: Any) -> str:
    if not isinstance(value, float) and value not in _SPECIAL:
        raise _FormatError(_WRONG[kind].format(type_of(value).name))
    number = float(value)
    if math.isnan(number):
        return "NaN"
    if math.isinf(number):
        return "∞" if number > 0 else "-∞"
    if kind == "f":
        return f"{number:,.{precision}f}"
    # Upstream takes the precision here for a width.
    mantissa, _, power = f"{number:.6e}".partition("e")
    return f"{mantissa}×10{_power(int(power))}"


def _power(power: int) -> str:
    return f"{power:03d}".translate(_SUPERSCRIPT) if power < 0 else f"{power:02d}".translate(_SUPERSCRIPT)


def _text(value: Any) -> str:
    from tiphys.cel.library.standard import to_string

    if isinstance(value, list):
        return "[" + ", ".join(_quoted(item) for item in value) + "]"
    if isinstance(value, Mapping):
        entries = sorted(((_key(key), _quoted(text)) for key, text in value.items()), key=lambda entry: entry[0])
        return "{" + ", ".join(f"{key}:{text}" for key, text in entries) + "}"
    if type_of(value).kind not in _TAKES["s"]:
        raise _FormatError(_WRONG["s"].format(type_of(value).name))
    return to_string(value)


def _key(key: Any) -> str:
    if isinstance(key, str):
        return quote(key)
    if isinstance(key, bool | int):
        return values.shown(key)
    raise _FormatError(f"no formatting function for map key of type {type_of(key).name}")


def _quoted(value: Any) -> str:
    """An element of a list or map."""
    if isinstance(value, str):
        return quote(value)
    if isinstance(value, bytes):
        return "b" + quote(value.decode("utf-8", "replace"))
    if isinstance(value, float):
        if math.isnan(value) or math.isinf(value):
            return '"NaN"' if math.isnan(value) else ('"+Inf"' if value > 0 else '"-Inf"')
        return f"{value:.6f}"
    if isinstance(value, Timestamp):
        return f"timestamp({quote(str(value))})"
    if isinstance(value, Duration):
        return f"duration({quote(str(value))})"
    if isinstance(value, Uint | int | list | Mapping | types.Type) or value is None:
        return _text(value)
    raise _FormatError(f"no formatting function for {type_of(value).name}")
