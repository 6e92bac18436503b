"""The values of CEL as Python has them, and what may be done with any two of them.

``bool``, ``int``, ``float``, ``str``, ``bytes``, ``None``, ``list`` and ``dict`` are themselves; unsigned numbers,
durations, timestamps, optionals, messages and what the libraries add are classes. An object of the API is used as it
is. Errors are exceptions; in the accumulator of a fold, and there only, an exception is kept as a value.

Source: https://github.com/google/cel-spec/blob/master/doc/langdef.md
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Any, ClassVar, Protocol, runtime_checkable

from tiphys.cel import limits, types
from tiphys.cel.types import Type

MIN_INT, MAX_INT, MAX_UINT = -(2**63), 2**63 - 1, 2**64 - 1
_NANO = 10**9
_MIN_SECONDS, _MAX_SECONDS = -62135596800, 253402300799
NO_OVERLOAD = "no such overload"


class CelError(Exception):
    """Evaluation gives an error; the text is what clients see."""


class Uint(int):
    """An unsigned number. Equal to the signed one of the same size."""

    __slots__ = ()


class Duration:
    __slots__ = ("nanos",)

    def __init__(self, nanos: int) -> None:
        if not MIN_INT <= nanos <= MAX_INT:
            raise CelError("duration overflow")
        self.nanos = nanos

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Duration) and self.nanos == other.nanos

    def __hash__(self) -> int:
        return hash(("duration", self.nanos))

    def __str__(self) -> str:
        return f"{decimal_text(self.nanos / _NANO)}s"


class Timestamp:
    """A moment, in nanoseconds since 1970, and the offset from UTC that it was written with."""

    __slots__ = ("nanos", "offset")

    def __init__(self, nanos: int, offset: int = 0) -> None:
        if not _MIN_SECONDS <= nanos // _NANO <= _MAX_SECONDS:
            raise CelError("timestamp overflow")
        self.nanos, self.offset = nanos, offset

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Timestamp) and self.nanos == other.nanos

    def __hash__(self) -> int:
        return hash(("timestamp", self.nanos))

    def at(self, zone: tzinfo = UTC) -> datetime:
        """To the second, in the zone."""
        utc = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=self.nanos // _NANO)
        try:
            return utc.astimezone(zone)
        except OverflowError:
            return utc

    def __str__(self) -> str:
        local = self.at(timezone(timedelta(seconds=self.offset)))
        fraction = f"{self.nanos % _NANO:09d}".rstrip("0")
        sign, minutes = "-" if self.offset < 0 else "+", abs(self.offset) // 60
        zone = f"{sign}{minutes // 60:02d}:{minutes % 60:02d}" if self.offset else "Z"
        text = f"{local.year:04d}-{local.month:02d}-{local.day:02d}T{local.hour:02d}:{local.minute:02d}"
        return f"{text}:{local.second:02d}{'.' + fraction if fraction else ''}{zone}"


class Optional:
    """A value, or none."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    @property
    def present(self) -> bool:
        return self is not NONE

    def get(self) -> Any:
        if not self.present:
            raise CelError("optional.none() dereference")
        return self.value


NONE = Optional(None)


@runtime_checkable
class Extension(Protocol):
    """A value of a type that a library adds."""

    cel_type: ClassVar[Type]

    def equals(self, other: Any) -> bool: ...


class SetList(list[Any]):
    """A list of the API that is a set: the order does not matter to equality, and adding adds what is not there."""

    def equals(self, other: list[Any]) -> bool:
        mine = set(map(_scalar, self))
        return len(self) == len(other) and all(_scalar(item) in mine for item in other)

    def plus(self, other: list[Any]) -> SetList:
        mine = set(map(_scalar, self))
        return SetList(self + [item for item in other if _scalar(item) not in mine])


def _scalar(item: Any) -> Any:
    """By which items of a set are equal, or not: they are no lists or maps. Numbers are, whatever their types."""
    return item if type(item) in (str, int, float) else (type(item).__name__, str(item))


class MapList(list[Any]):
    """A list of the API that is a map: some fields of an item are its key."""

    def __init__(self, items: list[Any], keys: tuple[str, ...]) -> None:
        super().__init__(items)
        self.keys = keys

    def key(self, item: Any) -> tuple[Any, ...]:
        return tuple(item.get(key) for key in self.keys) if isinstance(item, dict) else ()

    def equals(self, other: list[Any]) -> bool:
        mine = {self.key(item): item for item in self}
        return len(self) == len(other) and all(
            self.key(item) in mine and equal(mine[self.key(item)], item) for item in other
        )

    def plus(self, other: list[Any]) -> MapList:
        merged = {self.key(item): item for item in self}
        merged.update((self.key(item), item) for item in other)
        return MapList(list(merged.values()), self.keys)


class Message:
    """A message literal, such as ``Object.spec{replicas: 1}``."""

    __slots__ = ("fields", "name")

    def __init__(self, name: str, fields: dict[str, Any]) -> None:
        self.name, self.fields = name, fields


_TYPES: dict[type, Type] = {
    bool: types.BOOL,
    int: types.INT,
    Uint: types.UINT,
    float: types.DOUBLE,
    str: types.STRING,
    bytes: types.BYTES,
    type(None): types.NULL,
    list: types.list_of(types.DYN),
    SetList: types.list_of(types.DYN),
    MapList: types.list_of(types.DYN),
    dict: types.map_of(types.DYN, types.DYN),
    Duration: types.DURATION,
    Timestamp: types.TIMESTAMP,
    Optional: types.opaque(types.OPTIONAL),
    Type: types.TYPE,
}
NUMBERS = frozenset((int, Uint, float))


def type_of(value: Any) -> Type:
    type_ = _TYPES.get(type(value))
    if type_ is not None:
        return type_
    if isinstance(value, Message):
        return types.struct(value.name)
    if isinstance(value, Extension):
        return value.cel_type
    if isinstance(value, Mapping):
        return _TYPES[dict]
    return types.DYN


def size(value: Any) -> int:
    """How large the value counts in costs."""
    kind = type(value)
    if kind in (str, bytes, list, dict):
        return len(value)
    if kind is Optional:
        return size(value.value) if value.present else 1
    if isinstance(value, Mapping | list):
        return len(value)
    size_: int = getattr(value, "cel_size", 1)
    return size_


def equal(a: Any, b: Any) -> bool:
    """CEL's equality: numbers compare across types; values of different types are unequal, never an error."""
    left, right = type(a), type(b)
    if left is right and left in (str, int, bool, bytes):
        return bool(a == b)
    if a is None or b is None:
        return a is b
    if left in NUMBERS:
        return right in NUMBERS and bool(a == b)
    if isinstance(a, SetList | MapList):
        return isinstance(b, list) and a.equals(b)
    if isinstance(a, list):
        limits.look_at(len(a))
        return isinstance(b, list) and len(a) == len(b) and all(map(equal, a, b))
    if isinstance(a, Mapping):
        limits.look_at(len(a))
        return isinstance(b, Mapping) and len(a) == len(b) and _equal_maps(a, b)
    if left is Optional:
        if right is not Optional or a.present != b.present:
            return False
        return not a.present or equal(a.value, b.value)
    if left is Type:
        return right is Type and a.name == b.name
    if left is Message:
        return right is Message and a.name == b.name and _equal_maps(a.fields, b.fields)
    if isinstance(a, Extension):
        return a.equals(b)
    return left is right and bool(a == b)


def _equal_maps(a: Mapping[Any, Any], b: Mapping[Any, Any]) -> bool:
    return a.keys() == b.keys() and all(equal(value, b[key]) for key, value in a.items())


def compare(a: Any, b: Any) -> int:
    """-1, 0 or 1."""
    left, right = type(a), type(b)
    if left is right and left in (str, int, bool, bytes, Uint):
        if left is str:
            a, b = a.encode("utf-8", "surrogatepass"), b.encode("utf-8", "surrogatepass")
        return int(a > b) - int(a < b)
    if left in NUMBERS and right in NUMBERS:
        if a != a or b != b:
            raise CelError("NaN values cannot be ordered")
        return int(a > b) - int(a < b)
    if left is right and left in (Duration, Timestamp):
        return int(a.nanos > b.nanos) - int(a.nanos < b.nanos)
    raise CelError(NO_OVERLOAD)


def decimal_text(number: float) -> str:
    """A number in the fewest digits that identify it, without an exponent."""
    text = repr(number)
    if "e" not in text and "E" not in text:
        return text.removesuffix(".0")
    mantissa, _, exponent = text.partition("e")
    sign = "-" if mantissa.startswith("-") else ""
    whole, _, fraction = mantissa.lstrip("-").partition(".")
    power = int(exponent)
    if power < 0:
        return f"{sign}0.{'0' * (-power - 1)}{whole}{fraction}"
    return f"{sign}{whole}{fraction.ljust(power, '0')}"


def shown(value: Any) -> str:
    """A value as messages print it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "null"
    limits.show(value)
    return str(value)
