"""Quantities, such as ``1.5Gi``, as numbers.

Source: https://kubernetes.io/docs/reference/using-api/cel/#kubernetes-cel-libraries
"""

from __future__ import annotations

from typing import Any, ClassVar

from tiphys.api.meta import quantity
from tiphys.cel.checking import declarations
from tiphys.cel.checking.declarations import Library, member, overload
from tiphys.cel.types import Type
from tiphys.cel.values import MAX_INT, MIN_INT, NO_OVERLOAD, CelError

_NANO = 10**9


class Quantity:
    cel_type: ClassVar[Type] = declarations.QUANTITY

    __slots__ = ("amount",)

    def __init__(self, amount: quantity.Quantity) -> None:
        self.amount = amount

    def equals(self, other: Any) -> bool:
        if not isinstance(other, Quantity):
            raise CelError(NO_OVERLOAD)
        return self.amount == other.amount

    def __str__(self) -> str:
        return str(self.amount)


def to_quantity(text: str) -> Quantity:
    try:
        return Quantity(quantity.parse(text))
    except quantity.QuantityError as wrong:
        raise CelError(str(wrong)) from None


def _is_integer(value: Quantity) -> bool:
    nano = value.amount.nano
    return nano % _NANO == 0 and MIN_INT <= nano // _NANO <= MAX_INT


def _as_integer(value: Quantity) -> int:
    if not _is_integer(value):
        raise CelError("cannot convert value to integer")
    return value.amount.nano // _NANO


def _compare(a: Quantity, b: Quantity) -> int:
    return int(a.amount.nano > b.amount.nano) - int(a.amount.nano < b.amount.nano)


LIBRARY = Library(
    [
        overload("string_to_quantity", "quantity", "string -> quantity", to_quantity),
        overload("is_quantity_string", "isQuantity", "string -> bool", quantity.is_quantity),
        overload("quantity_sign", "sign", "quantity -> int", lambda value: value.amount.sign),
        member(
            "quantity_is_greater_than",
            "isGreaterThan",
            "quantity, quantity -> bool",
            lambda a, b: _compare(a, b) > 0,
        ),
        member("quantity_is_less_than", "isLessThan", "quantity, quantity -> bool", lambda a, b: _compare(a, b) < 0),
        member("quantity_compare_to", "compareTo", "quantity, quantity -> int", _compare),
        member("quantity_get_float", "asApproximateFloat", "quantity -> double", lambda value: value.amount.as_float()),
        member("quantity_get_int", "asInteger", "quantity -> int", _as_integer),
        member("quantity_is_integer", "isInteger", "quantity -> bool", _is_integer),
        member("quantity_add", "add", "quantity, quantity -> quantity", lambda a, b: Quantity(a.amount + b.amount)),
        member(
            "quantity_add_int",
            "add",
            "quantity, int -> quantity",
            lambda a, b: Quantity(a.amount + quantity.Quantity.of(b)),
        ),
        member("quantity_sub", "sub", "quantity, quantity -> quantity", lambda a, b: Quantity(a.amount - b.amount)),
        member(
            "quantity_sub_int",
            "sub",
            "quantity, int -> quantity",
            lambda a, b: Quantity(a.amount - quantity.Quantity.of(b)),
        ),
    ]
)
