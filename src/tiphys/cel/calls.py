"""Which overload of a function runs for the values at hand, and what a call says if none does.

Source: https://github.com/google/cel-spec/blob/master/doc/langdef.md
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tiphys.cel.checking.declarations import Overload
from tiphys.cel.types import Kind, Type
from tiphys.cel.values import NO_OVERLOAD, CelError, type_of

Function = Callable[..., Any]

_ORDERED = frozenset(
    (Kind.BOOL, Kind.BYTES, Kind.DOUBLE, Kind.DURATION, Kind.INT, Kind.STRING, Kind.TIMESTAMP, Kind.UINT)
)
_NUMBERS = frozenset((Kind.DOUBLE, Kind.INT, Kind.UINT))
_TRAITS = {
    "_+_": (_ORDERED - {Kind.BOOL}) | {Kind.LIST},
    "_-_": _NUMBERS | {Kind.DURATION, Kind.TIMESTAMP},
    "_*_": _NUMBERS,
    "_/_": _NUMBERS,
    "_%_": frozenset((Kind.INT, Kind.UINT)),
    "-_": frozenset((Kind.INT, Kind.DOUBLE, Kind.DURATION)),
    "_<_": _ORDERED,
    "_<=_": _ORDERED,
    "_>_": _ORDERED,
    "_>=_": _ORDERED,
    "size": frozenset((Kind.STRING, Kind.BYTES, Kind.LIST, Kind.MAP)),
    "matches": frozenset((Kind.STRING,)),
}
"""Functions that look only at the kind of their first argument, and which it may be."""
_UNGUARDED = frozenset(("contains", "startsWith", "endsWith", "@in"))
"""Functions whose error says only that no overload matches."""


def bind(function: str, overloads: Sequence[Overload]) -> Function:
    """What runs: the overload that fits the values."""
    run = overloads[0].run
    if function in _TRAITS and run is not None:
        return _by_kind(function, _TRAITS[function], run)
    if function in _UNGUARDED and run is not None:
        return _unguarded(overloads[0], run)

    def dispatch(*values: Any) -> Any:
        for overload in overloads:
            if overload.run is not None and _takes(overload, values):
                return overload.run(*values)
        names = ", ".join(type_of(value).name for value in values)
        raise CelError(f"{NO_OVERLOAD}: {function}({names})")

    return dispatch


def _by_kind(function: str, allowed: frozenset[Kind], run: Function) -> Function:
    def call(*values: Any) -> Any:
        if type_of(values[0]).kind not in allowed:
            raise CelError(f"{NO_OVERLOAD}: {function}")
        return run(*values)

    return call


def _unguarded(overload: Overload, run: Function) -> Function:
    def call(*values: Any) -> Any:
        if not _takes(overload, values) and overload.function != "@in":
            raise CelError(NO_OVERLOAD)
        return run(*values)

    return call


def _takes(overload: Overload, values: tuple[Any, ...]) -> bool:
    return len(values) == len(overload.args) and all(map(_is_a, overload.args, values))


def _is_a(type: Type, value: Any) -> bool:
    if type.kind in (Kind.DYN, Kind.ANY, Kind.PARAM):
        return True
    actual = type_of(value)
    if type.kind is not actual.kind or type.name != actual.name:
        return False
    if type.kind is Kind.LIST and value:
        return _is_a(type.params[0], value[0])
    return True
