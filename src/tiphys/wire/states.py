"""A protocol's states as a table: for each state, what may happen in it and which state follows. Pure.

The idea is h11's (``_state.py``): what is not in the table cannot happen, and is an error if it is tried, not a
combination of flags that nobody thought of. Source: https://h11.readthedocs.io/en/latest/api.html#the-state-machine
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Generic, TypeVar

S = TypeVar("S", bound=Enum)
E = TypeVar("E", bound=Enum)

Table = Mapping[S, Mapping[E, S]]


class States(Generic[S, E]):
    """Where one thing stands. ``now`` is its state; ``step`` moves it."""

    __slots__ = ("_table", "now")

    def __init__(self, table: Table[S, E], start: S) -> None:
        self._table = table
        self.now = start

    def may(self, event: E) -> bool:
        """Whether ``event`` has a place in the present state."""
        return event in self._table[self.now]

    def step(self, event: E) -> S:
        """Move as ``event`` says; returns the state before. Raises ``KeyError`` if the table has no such step."""
        before = self.now
        self.now = self._table[before][event]
        return before
