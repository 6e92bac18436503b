"""Resource quantities as whole numbers: ``milli("250m") == 250``, ``value("1Ki") == 1024``. Both round up.

Source: https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/
"""

from __future__ import annotations

from functools import lru_cache

from tiphys.api.meta.quantity import Quantity


@lru_cache(4096)
def _nano(text: str) -> int:
    return Quantity(text).nano


def exact(quantity: str | int | float | None) -> int:
    """Billionths, for comparing; 0 for an absent quantity. Raises ``QuantityError``."""
    return 0 if quantity is None else _nano(str(quantity))


def milli(quantity: str | int | float | None) -> int:
    """Thousandths, rounded up."""
    return -(-exact(quantity) // 10**6)


def value(quantity: str | int | float | None) -> int:
    """Whole units, rounded up."""
    return -(-exact(quantity) // 10**9)


def binary(size: int) -> str:
    """Bytes as a quantity with the largest suffix of powers of 1024 that fits: ``2Mi``."""
    for suffix, unit in (("Gi", 1 << 30), ("Mi", 1 << 20), ("Ki", 1 << 10)):
        if size and size % unit == 0:
            return f"{size // unit}{suffix}"
    return str(size)
