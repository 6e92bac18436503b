"""Answers that are remembered for a while, and never more than so many of them; and those that several wait for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Expiring(Generic[K, V]):
    """A table whose entries end. If it is full the oldest goes: nobody makes it grow by asking ever new things."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._entries: dict[K, tuple[float, V]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: K, now: float) -> tuple[V] | None:
        """The value in its own tuple, as it may be None; None if no value exists, or it has expired."""
        entry = self._entries.get(key)
        if entry is None or entry[0] <= now:
            self._entries.pop(key, None)
            return None
        return (entry[1],)

    def put(self, key: K, value: V, until: float) -> None:
        self._entries.pop(key, None)
        if len(self._entries) >= self._limit:
            del self._entries[next(iter(self._entries))]
        self._entries[key] = (until, value)


class SharedCalls(Generic[K, V]):
    """Calls under way, by what they ask: who asks the same waits for the same answer.

    A call needs a limit of time of its own: that one of those who wait goes away ends it for no other.
    """

    def __init__(self) -> None:
        self._calls: dict[K, asyncio.Task[V]] = {}

    async def answer(self, key: K, ask: Callable[[], Coroutine[Any, Any, V]]) -> V:
        """The answer of the call under way, or else of ``ask``; raises what it raises."""
        call = self._calls.get(key)
        if call is None:
            call = self._calls[key] = asyncio.ensure_future(ask())
            call.add_done_callback(lambda done: self._ended(key, done))
        return await asyncio.shield(call)

    def _ended(self, key: K, call: asyncio.Task[V]) -> None:
        del self._calls[key]
        if not call.cancelled():
            call.exception()  # it was raised to those who waited, if there still are any

    def cancel(self) -> None:
        """End them all: nobody waits any more."""
        for call in tuple(self._calls.values()):
            call.cancel()
