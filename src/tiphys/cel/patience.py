"""How much evaluation a caller has the patience for, before it wants to know that there is more.

The costs of expressions are bounded, but by more than an event loop can wait for: an expression up to its limit may
run for 0.3 s. So a caller on a loop sets out with little patience; what runs into ``Lengthy`` is done over where
time does not matter. Unless a caller sets a limit, patience has none.

Source: https://kubernetes.io/docs/reference/using-api/cel/#resource-constraints
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

ON_A_LOOP = 20_000
"""In units of cost; mostly 1 ms, and 10 ms at most."""
_EACH = 10
"""What an evaluation is charged besides its cost: the cheapest takes some microseconds, too."""


class Lengthy(Exception):
    """The evaluation is not done; it takes longer than its caller has patience for."""


class Patience:
    """What is left of it, shared by all evaluations of one request."""

    __slots__ = ("left",)

    def __init__(self, cost: int = ON_A_LOOP) -> None:
        self.left = cost

    def spend(self, cost: int) -> None:
        """Raises ``Lengthy``."""
        self.left -= cost + _EACH
        if self.left < 0:
            raise Lengthy


_current: ContextVar[Patience | None] = ContextVar("patience", default=None)
current = _current.get


@contextmanager
def limited(patience: Patience) -> Iterator[None]:
    token = _current.set(patience)
    try:
        yield
    finally:
        _current.reset(token)
