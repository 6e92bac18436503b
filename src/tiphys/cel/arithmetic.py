"""The operators on values: numbers that overflow loudly, and every pair that has no meaning refused.

Source: https://github.com/google/cel-spec/blob/master/doc/langdef.md
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

from tiphys.cel import limits
from tiphys.cel.values import (
    MAX_INT,
    MAX_UINT,
    MIN_INT,
    NO_OVERLOAD,
    NUMBERS,
    CelError,
    Duration,
    MapList,
    SetList,
    Timestamp,
    Uint,
    compare,
    equal,
)


def _int(value: int) -> int:
    if not MIN_INT <= value <= MAX_INT:
        raise CelError("integer overflow")
    return value


def _uint(value: int) -> Uint:
    if not 0 <= value <= MAX_UINT:
        raise CelError("unsigned integer overflow")
    return Uint(value)


def _numbers(run: Callable[[Any, Any], Any], a: Any, b: Any) -> Any:
    kind = type(a)
    if kind is not type(b) or kind not in NUMBERS:
        raise CelError(NO_OVERLOAD)
    if kind is float:
        return run(a, b)
    return _int(run(a, b)) if kind is int else _uint(run(int(a), int(b)))


def add(a: Any, b: Any) -> Any:
    """``a + b`` for numbers, texts, bytes, lists, durations and timestamps.

    Raises ``CelError`` on overflow or other types.
    """
    kind = type(a)
    if isinstance(a, list) and isinstance(b, list):
        limits.make_items(len(a) + len(b))
        return a.plus(b) if isinstance(a, SetList | MapList) else list(a) + list(b)
    if kind is type(b):
        if kind is int:
            return _int(a + b)
        if kind in (str, bytes):
            limits.make_text(len(a) + len(b))
            return a + b
        if kind is Duration:
            return Duration(a.nanos + b.nanos)
    if kind is Duration and type(b) is Timestamp:
        a, b = b, a
    if type(a) is Timestamp and type(b) is Duration:
        return Timestamp(a.nanos + b.nanos, a.offset)
    return _numbers(operator.add, a, b)


def subtract(a: Any, b: Any) -> Any:
    if type(a) is Timestamp:
        if type(b) is Duration:
            return Timestamp(a.nanos - b.nanos, a.offset)
        if type(b) is Timestamp:
            return Duration(a.nanos - b.nanos)
    if type(a) is Duration and type(b) is Duration:
        return Duration(a.nanos - b.nanos)
    return _numbers(operator.sub, a, b)


def multiply(a: Any, b: Any) -> Any:
    return _numbers(operator.mul, a, b)


def _whole_divide(a: int, b: int) -> int:
    if b == 0:
        raise CelError("division by zero")
    quotient = abs(a) // abs(b)
    return quotient if (a < 0) == (b < 0) else -quotient


def divide(a: Any, b: Any) -> Any:
    if type(a) is float and type(b) is float:
        if b == 0:
            return math.nan if a == 0 or a != a else math.copysign(math.inf, a) * math.copysign(1, b)
        return a / b
    return _numbers(_whole_divide, a, b)


def modulo(a: Any, b: Any) -> Any:
    if type(a) is not type(b) or type(a) not in (int, Uint):
        raise CelError(NO_OVERLOAD)
    if b == 0:
        raise CelError("modulus by zero")
    if a == MIN_INT and b == -1:
        raise CelError("integer overflow")
    rest = math.fmod(a, b) if abs(a) < 2**53 and abs(b) < 2**53 else abs(a) % abs(b) * (-1 if a < 0 else 1)
    return type(a)(int(rest))


def negate(value: Any) -> Any:
    if type(value) is int:
        return _int(-value)
    if type(value) is float:
        return -value
    if type(value) is Duration:
        return Duration(-value.nanos)
    raise CelError(NO_OVERLOAD)


def negate_bool(value: Any) -> bool:
    if type(value) is not bool:
        raise CelError(NO_OVERLOAD)
    return not value


def contains(value: Any, holder: Any) -> bool:
    if isinstance(holder, list):
        if type(value) is str:
            return value in holder
        return any(equal(item, value) for item in holder)
    if isinstance(holder, Mapping):
        return value in holder if type(value) is str else find(holder, value) is not MISSING
    raise CelError(NO_OVERLOAD)


MISSING = object()


def find(holder: Mapping[Any, Any], key: Any) -> Any:
    """What the map has for the key; MISSING if it has nothing. Numbers of any type may be a key of each other."""
    try:
        value = holder.get(key, MISSING)
    except TypeError:
        return MISSING
    if value is not MISSING and type(key) is bool and not any(k is key for k in holder):
        return MISSING
    return value


BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "_+_": add,
    "_-_": subtract,
    "_*_": multiply,
    "_/_": divide,
    "_%_": modulo,
    "_<_": lambda a, b: compare(a, b) < 0,
    "_<=_": lambda a, b: compare(a, b) <= 0,
    "_>_": lambda a, b: compare(a, b) > 0,
    "_>=_": lambda a, b: compare(a, b) >= 0,
}
