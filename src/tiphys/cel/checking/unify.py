"""Whether a value of one type may stand where another is declared, and what that says about type parameters.

Source: https://github.com/google/cel-spec/blob/master/doc/langdef.md
"""

from __future__ import annotations

from collections.abc import Sequence

from tiphys.cel import types
from tiphys.cel.types import Kind, Type

Bindings = dict[str, Type]
"""What is known of type parameters, by name."""

_SIMPLE = frozenset(
    (
        Kind.BOOL,
        Kind.BYTES,
        Kind.DOUBLE,
        Kind.INT,
        Kind.STRING,
        Kind.UINT,
        Kind.ANY,
        Kind.DURATION,
        Kind.TIMESTAMP,
        Kind.STRUCT,
    )
)
_NULLABLE = frozenset((Kind.OPAQUE, Kind.STRUCT, Kind.ANY, Kind.DURATION, Kind.TIMESTAMP))
_COMPOUND = frozenset((Kind.OPAQUE, Kind.LIST, Kind.MAP))


def assignable(bound: Bindings, pairs: Sequence[tuple[Type, Type]]) -> Bindings | None:
    """The bindings that make each pair fit; None if no such bindings exist."""
    tried = dict(bound)
    return tried if all(_fits(tried, a, b) for a, b in pairs) else None


def _fits(bound: Bindings, a: Type, b: Type) -> bool:
    """Whether ``a`` is assignable to ``b``, binding type parameters in ``bound``."""
    if b.kind is Kind.PARAM:
        valid, was_bound = _bind(bound, a, b)
        if valid or was_bound:
            return valid
    if a.kind is Kind.PARAM:
        return _bind(bound, b, a)[0]
    if _dynamic_or_error(a) or _dynamic_or_error(b):
        return True
    if a.kind is Kind.NULL:
        return _takes_null(b)
    if b.kind is Kind.NULL:
        return _takes_null(a)
    if a.kind in _SIMPLE:
        return b.accepts(a)
    if a.kind is Kind.TYPE:
        return b.kind is Kind.TYPE
    if a.kind in _COMPOUND:
        return (
            a.kind is b.kind
            and a.name == b.name
            and len(a.params) == len(b.params)
            and all(_fits(bound, x, y) for x, y in zip(a.params, b.params, strict=True))
        )
    return False


def _bind(bound: Bindings, type: Type, param: Type) -> tuple[bool, bool]:
    """Whether the parameter may stand for the type, and whether it stood for something before."""
    if type == param:
        return True, True
    known = bound.get(param.name)
    if known is not None:
        if type == known:
            return True, True
        if not _fits(bound, type, known):
            return False, True
        wider = most_general(type, known)
        if _independent(bound, param, wider):
            bound[param.name] = wider
        return True, True
    if _independent(bound, param, type):
        bound[param.name] = type
        return True, False
    return False, False


def _independent(bound: Bindings, param: Type, type: Type) -> bool:
    """Whether the type does not contain the parameter itself."""
    if param == type:
        return False
    if type.kind is Kind.PARAM:
        known = bound.get(type.name)
        return known is None or _independent(bound, param, known)
    return all(_independent(bound, param, inner) for inner in type.params)


def _dynamic_or_error(type: Type) -> bool:
    return type.kind in (Kind.DYN, Kind.ANY, Kind.ERROR)


def _takes_null(type: Type) -> bool:
    return type.kind in _NULLABLE or type.accepts(types.NULL)


def most_general(a: Type, b: Type) -> Type:
    return a if _at_most_as_specific(a, b) else b


def _at_most_as_specific(a: Type, b: Type) -> bool:
    if a.is_dyn or a.kind is Kind.PARAM:
        return True
    if b.is_dyn or b.kind is Kind.PARAM or a.kind is not b.kind:
        return False
    if a.kind in _COMPOUND:
        same = a.name == b.name and len(a.params) == len(b.params)
        return same and all(map(_at_most_as_specific, a.params, b.params))
    return a.kind is Kind.TYPE or a == b


def substitute(bound: Bindings, type: Type, *, free_to_dyn: bool = False) -> Type:
    """The type with what is known put in; parameters that stay free become ``dyn`` if wanted."""
    if type.kind is Kind.PARAM:
        known = bound.get(type.name)
        if known is not None:
            return substitute(bound, known, free_to_dyn=free_to_dyn)
        return types.DYN if free_to_dyn else type
    if not type.params:
        return type
    params = [substitute(bound, param, free_to_dyn=free_to_dyn) for param in type.params]
    if all(new is old for new, old in zip(params, type.params, strict=True)):
        return type
    return Type(type.kind, type.name, params, nullable=type.nullable)
