"""Messages read by hand: one pass over the bytes, whoever wrote them.

A question has one name, and names in it are never compressed, as nothing stands before them that they could point at.
Of its other records only EDNS's counts; they are stepped over and not read. So the cost follows from the question's
length alone: no pointer is followed. Of others' answers pointers are, but no further than a name can be long.
Sources: RFC 1035, section 4; RFC 6891 (EDNS).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from tiphys.dns.records import Name

PLAIN_UDP = 512
LARGEST_UDP = 65487
"""What fits into one datagram, over IPv6, too. A client that says it takes as much is believed."""

TYPES = {1: "A", 2: "NS", 5: "CNAME", 6: "SOA", 12: "PTR", 16: "TXT", 28: "AAAA", 33: "SRV", 41: "OPT", 255: "ANY"}
"""The types that mean something here; each other one is a ``TYPE65``, as RFC 3597 writes them."""
NUMBERS = {name: number for number, name in TYPES.items()}
INTERNET = 1

_NAME_AT = 12
_LONGEST_NAME = 255
_LONGEST_LABEL = 63
_POINTER = 0xC0
_MOST_HOPS = 16
_RESPONSE = 0x8000
_OPCODE = 0x7800
_DNSSEC_OK = 0x8000

_counts = struct.Struct("!6H").unpack_from
_type_and_class = struct.Struct("!HH").unpack_from
_record = struct.Struct("!HHIH").unpack_from


class NotAQuestion(ValueError):
    """Bytes that are no question, or one that nobody can answer."""


class Query:
    """A question. Raises ``NotAQuestion`` for bytes that are none."""

    __slots__ = ("data", "edns", "end", "flags", "name", "qclass", "qnumber", "qtype")

    def __init__(self, data: bytes) -> None:
        try:
            self._read(data)
        except (IndexError, struct.error) as error:
            raise NotAQuestion("it ends too early") from error

    def _read(self, data: bytes) -> None:
        self.data = data
        _, self.flags, questions, answers, authorities, additional = _counts(data)
        if self.flags & _RESPONSE or questions != 1:
            raise NotAQuestion("not a query with one question")
        at = _NAME_AT
        labels = []
        while length := data[at]:
            if length > _LONGEST_LABEL:
                raise NotAQuestion("a name with something else than labels")
            labels.append(data[at + 1 : at + 1 + length].decode("ascii", "replace").lower())
            at += length + 1
        if at >= _NAME_AT + _LONGEST_NAME:
            raise NotAQuestion("a name of more than 255 bytes")
        self.name: Name = tuple(labels)
        """In lower case; ``spelled`` has what the question has."""
        self.qnumber, self.qclass = _type_and_class(data, at + 1)
        self.qtype: str = TYPES.get(self.qnumber) or f"TYPE{self.qnumber}"
        self.end = at + 5
        """Where the question ends in the message."""
        self.edns: tuple[int, int, bool] | None = None
        """Of EDNS's record, if it has one: how much the client takes, the version, and whether it wants DNSSEC."""
        others = answers + authorities + additional
        if others:
            for number, (_, kind, size, ttl, _, _) in enumerate(records_of(data, self.end, others)):
                if kind == NUMBERS["OPT"] and self.edns is None and number >= answers + authorities:
                    self.edns = (size, ttl >> 16 & 0xFF, bool(ttl & _DNSSEC_OK))

    @property
    def spelled(self) -> bytes:
        """The name, the type and the class as the question has them: the answer repeats them (RFC 4343)."""
        return self.data[_NAME_AT : self.end]

    @property
    def labels(self) -> list[bytes]:
        """The labels of the name as the question has them."""
        labels, at = [], _NAME_AT
        while length := self.data[at]:
            labels.append(self.data[at + 1 : at + 1 + length])
            at += length + 1
        return labels

    @property
    def is_plain(self) -> bool:
        """Whether it is a query, and no notice, update or anything else."""
        return not self.flags & _OPCODE

    @property
    def is_internet(self) -> bool:
        return bool(self.qclass == INTERNET)

    @property
    def knows_edns(self) -> bool:
        """Whether the question has the one version of EDNS that there is, or no EDNS."""
        return self.edns is None or self.edns[1] == 0

    @property
    def udp_limit(self) -> int:
        """The bytes that its answer may have by UDP."""
        if self.edns is None:
            return PLAIN_UDP
        return max(PLAIN_UDP, min(self.edns[0], LARGEST_UDP))


class Entry(NamedTuple):
    """Where a record is in a message: its name, and its data from ``start`` to ``end``. ``ttl`` is in seconds."""

    at: int
    kind: int
    class_: int
    ttl: int
    start: int
    end: int


def records_of(message: bytes, at: int, count: int) -> Iterator[Entry]:
    """The records that begin at a place in a message.

    Raises ``IndexError``, ``struct.error`` or ``NotAQuestion`` where the message is broken.
    """
    for _ in range(count):
        name_at = at
        while length := message[at]:
            if length >= _POINTER:
                at += 1
                break
            if length > _LONGEST_LABEL:
                raise NotAQuestion("a name with something else than labels")
            at += length + 1
        kind, class_, ttl, size = _record(message, at + 1)
        start = at + 11
        at = start + size
        if at > len(message):
            raise NotAQuestion("a record ends too early")
        yield Entry(name_at, kind, class_, ttl, start, at)


def _answered(message: bytes) -> tuple[int, int, int]:
    """Where the answers of a message begin, how many there are, and how many authorities. Raises as ``records_of``."""
    _, _, questions, answers, authorities, _ = _counts(message)
    at = _NAME_AT
    for _ in range(questions):
        while length := message[at]:
            if length > _LONGEST_LABEL:
                raise NotAQuestion("a name with something else than labels")
            at += length + 1
        at += 5
    return at, answers, authorities


def least_ttl(message: bytes) -> int:
    """For how many seconds an answer may be kept: 0 if it has no records, or is broken.

    One that says that nothing is there may be kept for as long as the SOA beside it says (RFC 2308, section 5).
    """
    least: int | None = None
    try:
        at, answers, authorities = _answered(message)
        for number, entry in enumerate(records_of(message, at, answers + authorities)):
            ttl = entry.ttl
            if entry.kind == NUMBERS["SOA"] and number >= answers:
                ttl = min(ttl, int.from_bytes(message[entry.start : entry.end][-4:], "big"))
            if entry.kind != NUMBERS["OPT"]:
                least = ttl if least is None else min(least, ttl)
    except (IndexError, struct.error, NotAQuestion):
        return 0
    return least or 0


class Address(NamedTuple):
    """An answer that leads to an address: ``data`` is the address's bytes, or for CNAME the name's labels."""

    name: list[bytes]
    kind: int
    ttl: int
    data: bytes | list[bytes]


def addresses_in(message: bytes) -> list[Address]:
    """The answers of types A, AAAA and CNAME in another server's message; none of one that is broken."""
    lengths = {NUMBERS["A"]: 4, NUMBERS["AAAA"]: 16}
    addresses = []
    try:
        at, answers, _ = _answered(message)
        for entry in records_of(message, at, answers):
            if entry.class_ != INTERNET:
                continue
            data: bytes | list[bytes] = message[entry.start : entry.end]
            if entry.kind == NUMBERS["CNAME"]:
                data = name_at(message, entry.start)
            elif len(data) != lengths.get(entry.kind):
                continue
            addresses.append(Address(name_at(message, entry.at), entry.kind, entry.ttl, data))
    except (IndexError, struct.error, NotAQuestion):
        return []
    return addresses


def name_at(message: bytes, at: int) -> list[bytes]:
    """The labels of a name, whose pointers lead backwards and not on for ever. Raises as ``records_of``."""
    labels: list[bytes] = []
    size = hops = 0
    while length := message[at]:
        if length >= _POINTER:
            to = (length & 0x3F) << 8 | message[at + 1]
            hops += 1
            if to >= at or hops > _MOST_HOPS:
                raise NotAQuestion("a pointer that leads nowhere")
            at = to
            continue
        size += length + 1
        if length > _LONGEST_LABEL or size >= _LONGEST_NAME:
            raise NotAQuestion("a name of more than 255 bytes")
        labels.append(message[at + 1 : at + 1 + length])
        at += length + 1
    return labels
