"""What one HTTP/2 client may make the server do for nothing: bounds that hold before anybody is authenticated.

==============================================  ==================================================================
what a client can do                            what bounds it
==============================================  ==================================================================
small blocks that decode to long lists          ``BlockDecoder``: bytes decoded beyond bytes sent, by a budget that
(references to one large table entry)           refills with each sweep; fields in a block
many requests with long heads, none complete    ``HEADS``: bytes of all heads that are alive
many bodies, none complete                      ``BODIES``: bytes of all bodies that are not complete
PING, SETTINGS, PRIORITY, small DATA and such   ``Guard.idle``: frames between two sweeps
streams opened and reset (either side)          ``Guard.reset``: resets between two sweeps
CONTINUATION without end                        64 frames (the ``h2`` package)
answers that are not read                       reading stops while the transport is full
==============================================  ==================================================================

Sources: RFC 9113, section 10.5; CVE-2019-9511 to 9518, CVE-2023-44487, CVE-2024-27316.
"""

from __future__ import annotations

import logging
from typing import Any

from hpack import Decoder, OversizedHeaderListError

logging.getLogger("hpack").setLevel(logging.WARNING)  # below, it shows header fields, tokens and all

HEADS = 4 * 1024 * 1024
BODIES = 24 * 1024 * 1024
_FREE_EXPANSION = 16 * 1024
"""Bytes that any block may decode to beyond its own length: a token that is sent by reference is far below it."""
_EXPANSION_BUDGET = 1024 * 1024
_EXPANSION_REFILL = 256 * 1024
_IDLE_PER_SWEEP = 5000
_MOST_EARNED = 50_000
_RESETS_PER_SWEEP = 500


class BlockDecoder(Decoder):
    """Decodes header blocks within the connection's budget. What exceeds it ends the connection."""

    def __init__(self, max_list: int, max_fields: int) -> None:
        super().__init__(max_list)
        self._max_list = max_list
        self._max_fields = max_fields
        self._budget = _EXPANSION_BUDGET
        self._fields = 0
        self._size = 0

    def decode(self, data: bytes, raw: bool = False) -> Any:  # noqa: FBT001, FBT002 - hpack's signature
        self._fields = self._size = 0
        free = len(data) + _FREE_EXPANSION
        self.max_header_list_size = min(self._max_list, free + self._budget)
        fields = super().decode(data, raw)
        self._budget -= max(0, self._size - free)
        return fields

    def refill(self) -> None:
        self._budget = min(_EXPANSION_BUDGET, self._budget + _EXPANSION_REFILL)

    def _decode_indexed(self, data: bytes | memoryview) -> Any:
        field, consumed = super()._decode_indexed(data)
        self._count(field)
        return field, consumed

    def _decode_literal(self, data: bytes | memoryview, should_index: bool) -> Any:  # noqa: FBT001 - hpack's signature
        field, consumed = super()._decode_literal(data, should_index)
        self._count(field)
        return field, consumed

    def _count(self, field: tuple[bytes, bytes]) -> None:
        self._fields += 1
        self._size += len(field[0]) + len(field[1]) + 32
        if self._fields > self._max_fields:
            raise OversizedHeaderListError(f"more than {self._max_fields} header fields")


class Guard:
    """Counts between two sweeps. Each method returns whether the client has gone too far."""

    def __init__(self) -> None:
        self._idle = 0
        self._resets = 0

    def idle(self) -> bool:
        """A frame that asks for nothing."""
        self._idle += 1
        return self._idle > _IDLE_PER_SWEEP

    def earned(self, frames: int = 2) -> None:
        """The client was sent data, and may answer that with window updates."""
        self._idle = max(self._idle - frames, -_MOST_EARNED)

    def reset(self) -> bool:
        self._resets += 1
        return self._resets > _RESETS_PER_SWEEP

    def sweep(self) -> None:
        self._idle = min(self._idle, 0)
        self._resets = 0
