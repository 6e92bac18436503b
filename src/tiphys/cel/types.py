"""The types of CEL, and how messages name them.

A type has two names: in messages about overloads and mismatches it is ``str(type)``; in messages about what an
expression must give it is ``type.declared``. Source: https://github.com/google/cel-spec/blob/master/doc/langdef.md
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum, auto


class Kind(Enum):
    ANY = auto()
    BOOL = auto()
    BYTES = auto()
    DOUBLE = auto()
    DURATION = auto()
    DYN = auto()
    ERROR = auto()
    INT = auto()
    LIST = auto()
    MAP = auto()
    NULL = auto()
    OPAQUE = auto()
    PARAM = auto()
    STRING = auto()
    STRUCT = auto()
    TIMESTAMP = auto()
    TYPE = auto()
    UINT = auto()
    UNSPECIFIED = auto()
    """That of a field which a message lets one write, but does not have; it has no name, and nothing fits it."""


_SHORT = {
    Kind.ANY: "any",
    Kind.DURATION: "duration",
    Kind.ERROR: "!error!",
    Kind.NULL: "null",
    Kind.TIMESTAMP: "timestamp",
    Kind.UNSPECIFIED: "",
}
_DYNAMIC = (Kind.DYN, Kind.ANY)


class Type:
    """Immutable. ``nullable`` marks the wrapper types of protobuf, which may also be null."""

    __slots__ = ("_text", "kind", "name", "nullable", "params")

    def __init__(self, kind: Kind, name: str, params: Iterable[Type] = (), *, nullable: bool = False) -> None:
        self.kind, self.name, self.params, self.nullable = kind, name, tuple(params), nullable
        self._text = self._describe()

    def _describe(self) -> str:
        if self.kind in _SHORT:
            return _SHORT[self.kind]
        name = f"wrapper({self.name})" if self.nullable and not self.params else self.name
        return f"{name}({', '.join(map(str, self.params))})" if self.params else name

    def __str__(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return f"<{self._text}>"

    @property
    def declared(self) -> str:
        if self.kind is Kind.PARAM:
            return f"<{self.name}>"
        name = f"wrapper({self.name})" if self.nullable else self.name
        return f"{name}({', '.join(param.declared for param in self.params)})" if self.params else name

    def __eq__(self, other: object) -> bool:
        """Exactly the same; whether null is allowed does not matter."""
        if self is other:
            return True
        return (
            isinstance(other, Type)
            and self.kind is other.kind
            and self.name == other.name
            and self.params == other.params
        )

    def __hash__(self) -> int:
        return hash((self.kind, self.name, self.params))

    @property
    def is_dyn(self) -> bool:
        return self.kind in _DYNAMIC

    def equivalent(self, other: Type) -> bool:
        """The same but for the names of type parameters."""
        if self.kind is not other.kind or len(self.params) != len(other.params):
            return False
        if self.kind is not Kind.PARAM and self.name != other.name:
            return False
        return all(a.equivalent(b) for a, b in zip(self.params, other.params, strict=True))

    def accepts(self, other: Type) -> bool:
        """Whether a value of the other type may be used where this one is declared."""
        if self is other or self.is_dyn or self.kind is Kind.PARAM:
            return True
        if self.nullable and other.kind is Kind.NULL:
            return True
        return (
            self.kind is other.kind
            and self.name == other.name
            and len(self.params) == len(other.params)
            and all(a.accepts(b) for a, b in zip(self.params, other.params, strict=True))
        )


ANY = Type(Kind.ANY, "google.protobuf.Any")
BOOL = Type(Kind.BOOL, "bool")
BYTES = Type(Kind.BYTES, "bytes")
DOUBLE = Type(Kind.DOUBLE, "double")
DURATION = Type(Kind.DURATION, "google.protobuf.Duration")
DYN = Type(Kind.DYN, "dyn")
ERROR = Type(Kind.ERROR, "error")
INT = Type(Kind.INT, "int")
NULL = Type(Kind.NULL, "null_type")
STRING = Type(Kind.STRING, "string")
TIMESTAMP = Type(Kind.TIMESTAMP, "google.protobuf.Timestamp")
TYPE = Type(Kind.TYPE, "type")
UINT = Type(Kind.UINT, "uint")
UNSPECIFIED = Type(Kind.UNSPECIFIED, "")
OPTIONAL = "optional_type"


def list_of(element: Type) -> Type:
    return Type(Kind.LIST, "list", (element,))


def map_of(key: Type, value: Type) -> Type:
    return Type(Kind.MAP, "map", (key, value))


def type_of(param: Type) -> Type:
    return Type(Kind.TYPE, "type", (param,))


def param(name: str) -> Type:
    return Type(Kind.PARAM, name)


def opaque(name: str, *params: Type) -> Type:
    return Type(Kind.OPAQUE, name, params)


def optional(of: Type) -> Type:
    return opaque(OPTIONAL, of)


def struct(name: str) -> Type:
    return WELL_KNOWN.get(name) or Type(Kind.STRUCT, name)


def wrapper(of: Type) -> Type:
    return Type(of.kind, of.name, of.params, nullable=True)


def is_optional(type: Type) -> bool:
    return type.kind is Kind.OPAQUE and type.name == OPTIONAL


def unwrap_optional(type: Type) -> Type:
    return type.params[0] if is_optional(type) else type


WELL_KNOWN: dict[str, Type] = {
    "google.protobuf.BoolValue": wrapper(BOOL),
    "google.protobuf.BytesValue": wrapper(BYTES),
    "google.protobuf.DoubleValue": wrapper(DOUBLE),
    "google.protobuf.FloatValue": wrapper(DOUBLE),
    "google.protobuf.Int64Value": wrapper(INT),
    "google.protobuf.Int32Value": wrapper(INT),
    "google.protobuf.UInt64Value": wrapper(UINT),
    "google.protobuf.UInt32Value": wrapper(UINT),
    "google.protobuf.StringValue": wrapper(STRING),
    "google.protobuf.Any": ANY,
    "google.protobuf.Duration": DURATION,
    "google.protobuf.Timestamp": TIMESTAMP,
    "google.protobuf.ListValue": list_of(DYN),
    "google.protobuf.NullValue": NULL,
    "google.protobuf.Struct": map_of(STRING, DYN),
    "google.protobuf.Value": DYN,
}
