"""From answers to the bytes of DNS messages by hand: what nearly every question gets, in a tenth of the time.

The reply is the question's own bytes and, for each record, a pointer to the name that was asked for, and its data.
What is not so plain (an answer that has to be cut, a zone's own SOA, names that are not ASCII) is left to ``messages``,
which a property test holds this to. A record's data as bytes follows from the record alone and is remembered by it,
so that it need not be forgotten when a service changes. Sources: RFC 1035, 2308 (negative answers), 6891 (EDNS).
"""

from __future__ import annotations

import ipaddress
import struct
from functools import lru_cache
from typing import Any

from tiphys.dns.messages import ONE_PIECE, soa_times
from tiphys.dns.question import INTERNET, NUMBERS, Query
from tiphys.dns.records import Answer, Record

_REMEMBERED = 4096
_POINTER = 0xC000
_FURTHEST = 1 << 14
"""A pointer has 14 bits: names that are further on are not pointed at."""
_NAME_AT = 12
_KEPT_FLAGS = 0x0170
"""Of the question's flags: RD, the reserved one, AD and CD."""
_OWN_FLAGS = 0x8480
"""QR, AA and RA."""
_NO_SUCH_NAME = 3
_TARGET_AT = 6
"""Where the name is in an SRV's data."""

_head = struct.Struct("!5H").pack
_fixed = struct.Struct("!HHIH").pack
_pointed = struct.Struct("!HHHIH").pack
_numbers = struct.Struct("!3H").pack
_soa_data = struct.Struct("!7sH11sH5I").pack
_edns = struct.Struct("!BHHIH").pack


def written(query: Query, answer: Answer, domain: str, ttl: int, serial: int, limit: int) -> bytes | None:
    """The reply to a question about the cluster's names, as ``render`` and ``pack`` of ``messages`` have it.

    ``domain`` is the zone that the name is in. None if it has more than ``limit`` bytes, or is not plain.
    """
    if answer.has_soa:
        return None
    question = query.spelled
    edns = b""
    if query.edns is not None:
        edns = _edns(0, NUMBERS["OPT"], ONE_PIECE, query.edns[2] << 15, 0)
    body = _Body(query, limit - len(edns))
    try:
        for record in answer.records:
            body.add(record, ttl)
        if not answer.records:
            body.add_soa(domain, ttl, serial)
        for record in answer.additional:
            body.add(record, ttl)
    except ValueError:
        return None
    flags = query.flags & _KEPT_FLAGS | _OWN_FLAGS | (0 if answer.exists else _NO_SUCH_NAME)
    authorities = 0 if answer.records else 1
    head = _head(flags, 1, len(answer.records), authorities, len(answer.additional) + bool(edns))
    return b"".join((query.data[:2], head, question, *body.parts, edns))


class _NotPlain(ValueError):
    """What is left to the other way."""


class _Body:
    """The records of a reply, and where names are in it."""

    __slots__ = ("_asked_end", "_names", "_room", "_size", "parts")

    def __init__(self, query: Query, room: int) -> None:
        self.parts: list[bytes] = []
        self._asked_end = query.end - 4
        self._size, self._room = query.end, room
        self._names = {".".join(query.name) + ".": _NAME_AT}

    def add(self, record: Record, ttl: int) -> None:
        data = _data(record.type, record.data)
        at = self._names.get(record.name)
        if at is None:
            self._remember(record.name, self._size)
            self._put(_name(record.name), _fixed(NUMBERS[record.type], INTERNET, ttl, len(data)), data)
        else:
            self._put(_pointed(_POINTER | at, NUMBERS[record.type], INTERNET, ttl, len(data)), data)
        if record.type == "SRV":
            self._remember(record.data[3], self._size - len(data) + _TARGET_AT)

    def _remember(self, name: str, at: int) -> None:
        if at < _FURTHEST:
            self._names.setdefault(name, at)

    def add_soa(self, domain: str, ttl: int, serial: int) -> None:
        """The SOA of the zone that the question's name ends with."""
        zone = _POINTER | self._asked_end - len(_name(domain))
        data = _soa_data(b"\x02ns\x03dns", zone, b"\x0ahostmaster", zone, *soa_times(ttl, serial))
        self._put(_pointed(zone, NUMBERS["SOA"], INTERNET, ttl, len(data)), data)

    def _put(self, *parts: bytes) -> None:
        self.parts += parts
        self._size += sum(map(len, parts))
        if self._size > self._room:
            raise _NotPlain("too large")


def _data(type_: str, data: Any) -> bytes:
    """A record's data. Raises ``ValueError`` if it has a name or an address that is not plain."""
    match type_:
        case "A" | "AAAA":
            return _address(data)
        case "SRV":
            *numbers, target = data
            return _numbers(*numbers) + _name(target)
        case "TXT":
            text: bytes = data.encode("ascii")
            return bytes([len(text)]) + text
    return _name(data)


@lru_cache(_REMEMBERED)
def _address(text: str) -> bytes:
    return ipaddress.ip_address(text).packed


@lru_cache(_REMEMBERED)
def _name(name: str) -> bytes:
    """A name as labels with their lengths. Raises ``ValueError`` for one that is not plain ASCII, or is too long."""
    labels = name.removesuffix(".").encode("ascii").split(b".")
    packed = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
    if b"\\" in packed or len(packed) > 255 or not all(0 < len(label) < 64 for label in labels):
        raise _NotPlain(name)
    return packed
