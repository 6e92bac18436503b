"""The functions of the language itself: operators, conversions, sizes, and tests of text.

Source: https://github.com/google/cel-spec/blob/master/doc/langdef.md
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

from tiphys.cel import arithmetic, types, values
from tiphys.cel.checking.declarations import Library, Overload, member, overload
from tiphys.cel.library import regex, times
from tiphys.cel.parsing import macros
from tiphys.cel.values import MAX_INT, MAX_UINT, MIN_INT, CelError, Duration, Timestamp, Uint, type_of

_INT = re.compile(r"[+-]?[0-9]+\Z")
_FLOAT = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?\Z|[+-]?(?:inf|infinity|nan)\Z", re.I)
_TRUE, _FALSE = ("1", "t", "T", "true", "TRUE", "True"), ("0", "f", "F", "false", "FALSE", "False")


def _no_conversion(value: Any, wanted: str) -> CelError:
    return CelError(f"type conversion error from '{type_of(value).name}' to '{wanted}'")


def to_int(value: Any) -> int:
    if isinstance(value, Duration):
        return value.nanos
    if isinstance(value, Timestamp):
        return value.nanos // 10**9
    if isinstance(value, str):
        if not _INT.match(value) or not MIN_INT <= int(value) <= MAX_INT:
            raise _no_conversion(value, "int")
        return int(value)
    if isinstance(value, float) and not (math.isfinite(value) and MIN_INT < value < MAX_INT):
        raise CelError("integer overflow")
    if int(value) > MAX_INT:
        raise CelError("integer overflow")
    return int(value)


def to_uint(value: Any) -> Uint:
    if isinstance(value, str):
        if not re.match(r"[0-9]+\Z", value) or int(value) > MAX_UINT:
            raise _no_conversion(value, "uint")
        return Uint(int(value))
    if isinstance(value, float) and not (math.isfinite(value) and value < MAX_UINT):
        raise CelError("unsigned integer overflow")
    if value < 0:
        raise CelError("unsigned integer overflow")
    return Uint(int(value))


def to_double(value: Any) -> float:
    if isinstance(value, str) and not _FLOAT.match(value):
        raise _no_conversion(value, "double")
    number = float(value)
    if isinstance(value, str) and math.isinf(number) and "n" not in value.lower():
        raise _no_conversion(value, "double")
    return number


def to_bool(value: Any) -> bool:
    if isinstance(value, str):
        if value not in _TRUE and value not in _FALSE:
            raise _no_conversion(value, "bool")
        return value in _TRUE
    return bool(value)


def to_string(value: Any) -> str:
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise CelError("invalid UTF-8 in bytes, cannot convert to string") from None
    if isinstance(value, float):
        return double_text(value)
    if isinstance(value, types.Type):
        return value.name
    return values.shown(value)


def double_text(value: float) -> str:
    """As ``%g`` prints it with the digits it needs."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    mantissa, _, power = _shortest(value).partition("e")
    if -4 <= int(power) < 6:
        return values.decimal_text(value)
    return f"{mantissa}e{power[0]}{int(power[1:]):02d}"


def _shortest(value: float) -> str:
    for precision in range(17):
        text = f"{value:.{precision}e}"
        if float(text) == value:
            return text
    return f"{value:.16e}"


def _size(value: Any) -> int:
    return len(value)


def _comparisons() -> list[Overload]:
    kinds = ("bool", "int", "uint", "double", "string", "bytes", "timestamp", "duration")
    ids = {"int": "int64", "uint": "uint64"}
    mixed = {"int": ("double", "uint"), "uint": ("double", "int"), "double": ("int", "uint")}
    overloads = list[Overload]()
    for name, function in (
        ("less", "_<_"),
        ("less_equals", "_<=_"),
        ("greater", "_>_"),
        ("greater_equals", "_>=_"),
    ):
        run = arithmetic.BINARY[function]
        for kind in kinds:
            id = ids.get(kind, kind)
            overloads.append(overload(f"{name}_{id}", function, f"{kind}, {kind} -> bool", run))
            for other in mixed.get(kind, ()):
                signature = f"{kind}, {other} -> bool"
                overloads.append(overload(f"{name}_{id}_{ids.get(other, other)}", function, signature, run))
    return overloads


_ARITHMETIC = {
    "_+_": (
        ("add_bytes", "bytes, bytes -> bytes"),
        ("add_double", "double, double -> double"),
        ("add_duration_duration", "duration, duration -> duration"),
        ("add_duration_timestamp", "duration, timestamp -> timestamp"),
        ("add_timestamp_duration", "timestamp, duration -> timestamp"),
        ("add_int64", "int, int -> int"),
        ("add_list", "list(A), list(A) -> list(A)"),
        ("add_string", "string, string -> string"),
        ("add_uint64", "uint, uint -> uint"),
    ),
    "_-_": (
        ("subtract_double", "double, double -> double"),
        ("subtract_duration_duration", "duration, duration -> duration"),
        ("subtract_int64", "int, int -> int"),
        ("subtract_timestamp_duration", "timestamp, duration -> timestamp"),
        ("subtract_timestamp_timestamp", "timestamp, timestamp -> duration"),
        ("subtract_uint64", "uint, uint -> uint"),
    ),
    "_*_": (
        ("multiply_double", "double, double -> double"),
        ("multiply_int64", "int, int -> int"),
        ("multiply_uint64", "uint, uint -> uint"),
    ),
    "_/_": (
        ("divide_double", "double, double -> double"),
        ("divide_int64", "int, int -> int"),
        ("divide_uint64", "uint, uint -> uint"),
    ),
    "_%_": (("modulo_int64", "int, int -> int"), ("modulo_uint64", "uint, uint -> uint")),
}
_CONVERSIONS: dict[str, tuple[Callable[[Any], Any], tuple[str, ...]]] = {
    "bool": (to_bool, ("bool", "string")),
    "double": (to_double, ("double", "int", "string", "uint")),
    "duration": (times.to_duration, ("duration", "int", "string")),
    "int": (to_int, ("int", "double", "duration", "string", "timestamp", "uint")),
    "string": (to_string, ("string", "bool", "bytes", "double", "duration", "int", "timestamp", "uint")),
    "timestamp": (times.to_timestamp, ("timestamp", "int", "string")),
    "uint": (to_uint, ("uint", "double", "int", "string")),
}


def _conversions() -> list[Overload]:
    ids = {"int": "int64", "uint": "uint64"}
    overloads = list[Overload]()
    for name, (run, sources) in _CONVERSIONS.items():
        for source in sources:
            id = f"{ids.get(source, source)}_to_{ids.get(name, name)}"
            overloads.append(overload(id, name, f"{source} -> {name}", run))
    overloads.append(overload("bytes_to_bytes", "bytes", "bytes -> bytes", bytes))
    overloads.append(overload("string_to_bytes", "bytes", "string -> bytes", lambda text: text.encode()))
    return overloads


def _sizes() -> list[Overload]:
    overloads = list[Overload]()
    for kind, type in (("bytes", "bytes"), ("list", "list(A)"), ("map", "map(A, B)"), ("string", "string")):
        overloads.append(overload(f"size_{kind}", "size", f"{type} -> int", _size))
        overloads.append(member(f"{kind}_size", "size", f"{type} -> int", _size))
    return overloads


_OPERATORS = [
    overload("conditional", "_?_:_", "bool, A, A -> A"),
    overload("logical_and", "_&&_", "bool, bool -> bool"),
    overload("logical_or", "_||_", "bool, bool -> bool"),
    overload("logical_not", "!_", "bool -> bool", arithmetic.negate_bool),
    overload("not_strictly_false", "@not_strictly_false", "bool -> bool"),
    overload("equals", "_==_", "A, A -> bool", values.equal),
    overload("not_equals", "_!=_", "A, A -> bool", lambda a, b: not values.equal(a, b)),
    *(
        overload(id, function, signature, arithmetic.BINARY[function])
        for function, signatures in _ARITHMETIC.items()
        for id, signature in signatures
    ),
    overload("negate_double", "-_", "double -> double", arithmetic.negate),
    overload("negate_int64", "-_", "int -> int", arithmetic.negate),
    *_comparisons(),
    overload("index_list", "_[_]", "list(A), int -> A"),
    overload("index_map", "_[_]", "map(A, B), A -> B"),
    overload("in_list", "@in", "A, list(A) -> bool", arithmetic.contains),
    overload("in_map", "@in", "A, map(A, B) -> bool", arithmetic.contains),
]
LIBRARY = Library(
    [
        *_OPERATORS,
        *_sizes(),
        overload("type", "type", "A -> type(A)", type_of),
        overload("to_dyn", "dyn", "A -> dyn", lambda value: value),
        *_conversions(),
        member("contains_string", "contains", "string, string -> bool", lambda text, part: part in text),
        member("ends_with_string", "endsWith", "string, string -> bool", str.endswith),
        member("starts_with_string", "startsWith", "string, string -> bool", str.startswith),
        *regex.STANDARD.overloads,
        *times.LIBRARY.overloads,
    ],
    macros.STANDARD,
)
