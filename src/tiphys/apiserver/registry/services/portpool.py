"""Node ports: which of them are taken is one bitmap in the store, changed by compare-and-write, so that any number of
API servers can share it. Its form and key are upstream's (``/registry/ranges/servicenodeports``), whose servers write
it as protobuf. Source: https://kubernetes.io/docs/concepts/services-networking/service/#type-nodeport
"""

from __future__ import annotations

import base64
import random

import orjson

from tiphys.api import errors
from tiphys.apiserver.storage.foreign import CannotRead, read_value
from tiphys.store.backend import Backend, Compare, CompareTarget, Put, Range, Txn

_ATTEMPTS = 50


class PortTaken(Exception):
    """The port is allocated already."""


class NoPortLeft(Exception):
    """Every port of the range is allocated."""


class PortPool:
    """Ports ``first`` to ``last``."""

    def __init__(self, *, backend: Backend, root: str, first: int, last: int, generator: random.Random) -> None:
        self.first, self.last = first, last
        self._backend = backend
        self._key = f"{root}/ranges/servicenodeports".encode()
        self._random = generator

    def holds(self, port: int) -> bool:
        return self.first <= port <= self.last

    async def allocate(self, port: int = 0) -> int:
        """Take a port, any free one for 0. Raises ``PortTaken``, ``NoPortLeft``."""
        for _ in range(_ATTEMPTS):
            bits, revision = await self._read()
            chosen = port or self._free(bits)
            if bits >> (chosen - self.first) & 1:
                raise PortTaken(chosen)
            if await self._write(bits | 1 << (chosen - self.first), revision):
                return chosen
        raise NoPortLeft

    async def release(self, ports: list[int]) -> None:
        mask = sum(1 << (port - self.first) for port in set(ports) if self.holds(port))
        for _ in range(_ATTEMPTS):
            bits, revision = await self._read()
            if not bits & mask or await self._write(bits & ~mask, revision):
                return

    async def taken(self) -> set[int]:
        bits, _ = await self._read()
        return {self.first + offset for offset in range(bits.bit_length()) if bits >> offset & 1}

    async def mark(self, ports: set[int]) -> None:
        """These are in use, whether they were allocated or not."""
        mask = sum(1 << (port - self.first) for port in ports if self.holds(port))
        for _ in range(_ATTEMPTS):
            bits, revision = await self._read()
            if not mask & ~bits or await self._write(bits | mask, revision):
                return

    def _free(self, bits: int) -> int:
        count = self.last - self.first + 1
        start = self._random.randrange(count)
        for step in range(count):
            offset = (start + step) % count
            if not bits >> offset & 1:
                return self.first + offset
        raise NoPortLeft

    async def _read(self) -> tuple[int, int]:
        stored = await self._backend.range(Range(self._key))
        if not stored.kvs:
            return 0, 0
        try:
            data = read_value(stored.kvs[0].value).get("data") or ""
        except CannotRead as error:
            raise errors.internal(f'"{self._key.decode()}" in the store cannot be read: {error}') from None
        return int.from_bytes(base64.b64decode(data), "big"), stored.kvs[0].mod_revision

    async def _write(self, bits: int, revision: int) -> bool:
        size = (bits.bit_length() + 7) // 8
        value = {
            "kind": "RangeAllocation",
            "apiVersion": "v1",
            "metadata": {},
            "range": f"{self.first}-{self.last}",
            "data": base64.b64encode(bits.to_bytes(size, "big")).decode(),
        }
        compare = Compare(self._key, CompareTarget.MOD, "=", revision)
        result = await self._backend.txn(Txn((compare,), (Put(self._key, orjson.dumps(value)),)))
        return result.succeeded
