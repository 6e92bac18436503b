"""Transports by destination, a bounded number of them: the one that was used least lately makes room."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from tiphys.wire.client import SocketTransport

K = TypeVar("K", bound=Hashable)

MOST = 256


class Transports(Generic[K]):
    """A destination that lost its place is reached by a new transport; what runs on its old one continues."""

    def __init__(self, make: Callable[[K], SocketTransport], most: int = MOST) -> None:
        self._make = make
        self._most = most
        self._known: OrderedDict[K, SocketTransport] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def get(self, key: K) -> SocketTransport:
        transport = self._known.get(key)
        if transport is None:
            transport = self._known[key] = self._make(key)
            if len(self._known) > self._most:
                self._known.popitem(last=False)[1].retire()
        self._known.move_to_end(key)
        return transport

    async def close(self) -> None:
        known = tuple(self._known.values())
        self._known.clear()
        for transport in known:
            await transport.close()
