"""Resource quantities as whole numbers: ``milli("250m") == 250``, ``value("1Ki") == 1024``. Both round up.

Source: https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/
"""

from __future__ import annotations

from decimal import ROUND_CEILING, Decimal, InvalidOperation
from functools import lru_cache

_SUFFIXES = {
    "": Decimal(1),
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    "k": Decimal(10**3),
    "M": Decimal(10**6),
    "G": Decimal(10**9),
    "T": Decimal(10**12),
    "P": Decimal(10**15),
    "E": Decimal(10**18),
    "Ki": Decimal(2**10),
    "Mi": Decimal(2**20),
    "Gi": Decimal(2**30),
    "Ti": Decimal(2**40),
    "Pi": Decimal(2**50),
    "Ei": Decimal(2**60),
}


@lru_cache(4096)
def _exact(text: str) -> Decimal:
    digits = text.rstrip("numkKMGTPEi")
    suffix = text[len(digits) :]
    try:
        return Decimal(digits) * _SUFFIXES[suffix]
    except (InvalidOperation, KeyError):
        raise ValueError(f"{text!r} is not a quantity") from None


def exact(quantity: str | int | float | None) -> Decimal:
    """The number itself; 0 for an absent quantity. Raises ``ValueError``."""
    return Decimal(0) if quantity is None else _exact(str(quantity))


def milli(quantity: str | int | float | None) -> int:
    """Thousandths, rounded up."""
    return int((exact(quantity) * 1000).to_integral_value(ROUND_CEILING))


def value(quantity: str | int | float | None) -> int:
    """Whole units, rounded up."""
    return int(exact(quantity).to_integral_value(ROUND_CEILING))
