"""What a library adds to the language: functions with their overloads, macros, and names of types.

An overload is declared by its signature, ``member("string_find_string", "find", "string, string -> string", find)``:
the target of a member comes first. Single upper-case letters are type parameters.

Source: https://github.com/google/cel-spec/blob/master/doc/langdef.md
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Protocol

from tiphys.cel import types
from tiphys.cel.parsing.parser import Macro
from tiphys.cel.types import Kind, Type

Run = Callable[..., Any]

QUANTITY = types.struct("kubernetes.Quantity")
URL = types.struct("kubernetes.URL")
SEMVER = types.struct("kubernetes.Semver")
FORMAT = types.struct("kubernetes.NamedFormat")
IP, CIDR = types.opaque("net.IP"), types.opaque("net.CIDR")
AUTHORIZER = types.struct("kubernetes.authorization.Authorizer")
PATH_CHECK = types.struct("kubernetes.authorization.PathCheck")
GROUP_CHECK = types.struct("kubernetes.authorization.GroupCheck")
RESOURCE_CHECK = types.struct("kubernetes.authorization.ResourceCheck")
DECISION = types.struct("kubernetes.authorization.Decision")

_NAMES: dict[str, Type] = {
    "any": types.ANY,
    "bool": types.BOOL,
    "bytes": types.BYTES,
    "double": types.DOUBLE,
    "duration": types.DURATION,
    "dyn": types.DYN,
    "int": types.INT,
    "null": types.NULL,
    "string": types.STRING,
    "timestamp": types.TIMESTAMP,
    "uint": types.UINT,
    "quantity": QUANTITY,
    "url": URL,
    "semver": SEMVER,
    "format": FORMAT,
    "ip": IP,
    "cidr": CIDR,
    "authorizer": AUTHORIZER,
    "pathCheck": PATH_CHECK,
    "groupCheck": GROUP_CHECK,
    "resourceCheck": RESOURCE_CHECK,
    "decision": DECISION,
}
_WORD = re.compile(r"\s*([A-Za-z]+|[(),])")


@dataclass(frozen=True, slots=True)
class Overload:
    id: str
    function: str
    args: tuple[Type, ...]
    result: Type
    is_member: bool
    run: Run | None
    """Takes the arguments' values; None if the evaluator knows the function itself."""
    params: frozenset[str]


@dataclass(frozen=True, slots=True)
class Library:
    overloads: Sequence[Overload] = ()
    macros: Mapping[tuple[str, int, bool], Macro] = field(default_factory=dict)
    types: Sequence[Type] = ()
    """Types that may be named in an expression."""


class Names(Protocol):
    """What an environment knows about the names in an expression, as far as the checker asks."""

    @property
    def functions(self) -> Mapping[str, tuple[Overload, ...]]: ...

    def identifier(self, name: str) -> Type | None: ...

    def has_message(self, name: str) -> bool: ...

    def field_type(self, message: str, name: str) -> Type | None: ...


def member(id: str, function: str, signature: str, run: Run | None = None) -> Overload:
    return _overload(id, function, signature, run, is_member=True)


def overload(id: str, function: str, signature: str, run: Run | None = None) -> Overload:
    return _overload(id, function, signature, run, is_member=False)


def _overload(id: str, function: str, signature: str, run: Run | None, *, is_member: bool) -> Overload:
    before, _, after = signature.partition("->")
    args, result = parse_types(before), parse_types(after)[0]
    params = frozenset().union(*(_params(type) for type in (*args, result)))
    return Overload(id, function, args, result, is_member, run, params)


def _params(type: Type) -> frozenset[str]:
    if type.kind is Kind.PARAM:
        return frozenset((type.name,))
    return frozenset().union(*(_params(param) for param in type.params))


@cache
def parse_types(text: str) -> tuple[Type, ...]:
    """The types that ``text`` lists, such as ``list(A), int``; single letters are type parameters."""
    words = _WORD.findall(text)
    at = 0

    def one() -> Type:
        nonlocal at
        name = words[at]
        at += 1
        params = list[Type]()
        if at < len(words) and words[at] == "(":
            while words[at] in ("(", ","):
                at += 1
                params.append(one())
            at += 1
        match name:
            case "list":
                return types.list_of(*params)
            case "map":
                return types.map_of(*params)
            case "type":
                return types.type_of(*params)
            case "optional":
                return types.optional(*params)
        return types.param(name) if len(name) == 1 else _NAMES[name]

    parsed = list[Type]()
    while at < len(words):
        parsed.append(one())
        at += 1
    return tuple(parsed)
