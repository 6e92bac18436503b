"""Between answers and the bytes of DNS messages, by dnslib. Sources: RFC 1035, 2308 (negative answers), 6891 (EDNS)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from dnslib import (
    AAAA,
    CLASS,
    CNAME,
    EDNS0,
    NS,
    PTR,
    QTYPE,
    RCODE,
    RR,
    SOA,
    SRV,
    TXT,
    A,
    DNSBuffer,
    DNSError,
    DNSRecord,
)

from tiphys.dns.records import Answer, Name, Record

PLAIN_UDP = 512
ONE_PIECE = 1232
"""What passes every network in one piece: the size of questions that this server asks for."""
LARGEST_UDP = 65487
"""What fits into one datagram, over IPv6, too. A client that says it takes more than ``ONE_PIECE`` is believed."""
LARGEST_TCP = 65535

_BAD_VERSION = 1
"""BADVERS is 16: these are its upper bits, which travel in the OPT record."""


class _Pointers(dict[tuple[bytes, ...], int]):
    """Where names are in a message. A pointer has 14 bits: names that are further on are not pointed at (RFC 1035)."""

    def __setitem__(self, name: tuple[bytes, ...], offset: int) -> None:
        if offset < 1 << 14:
            super().__setitem__(name, offset)


def _buffer() -> DNSBuffer:
    buffer = DNSBuffer()
    buffer.names = _Pointers()
    return buffer


class Query:
    """A parsed question. Raises ``DNSError`` for bytes that are none."""

    def __init__(self, data: bytes) -> None:
        self.message = DNSRecord.parse(data)
        if self.message.header.qr or len(self.message.questions) != 1:
            raise DNSError("not a query with one question")
        question = self.message.q
        self.spelled = question.qname
        """The name with the upper and lower case of the question: the answer repeats it (RFC 4343)."""
        self.name: Name = tuple(part.decode("ascii", "replace").lower() for part in question.qname.label)
        self.qtype: str = QTYPE.get(question.qtype)
        self.is_internet: bool = question.qclass == CLASS.IN
        self.is_plain: bool = self.message.header.opcode == 0
        self.edns = next((rr for rr in self.message.ar if rr.rtype == QTYPE.OPT), None)

    @property
    def udp_limit(self) -> int:
        if self.edns is None:
            return PLAIN_UDP
        return max(PLAIN_UDP, min(int(self.edns.rclass), LARGEST_UDP))

    @property
    def knows_edns(self) -> bool:
        """Whether the question has the one version of EDNS that there is, or no EDNS."""
        return self.edns is None or self.edns.edns_ver == 0

    def reply(self, rcode: str = "NOERROR") -> DNSRecord:
        reply = self.message.reply(aa=0, ra=1)
        reply.header.rcode = getattr(RCODE, rcode)
        if self.edns is not None:
            reply.add_ar(EDNS0(udp_len=ONE_PIECE, flags="do" if self.edns.edns_do else ""))
        return reply

    def bad_version(self) -> DNSRecord:
        """The refusal of a version of EDNS that is to come (RFC 6891, section 6.1.3)."""
        reply = self.message.reply(aa=0, ra=1)
        reply.add_ar(EDNS0(udp_len=ONE_PIECE, ext_rcode=_BAD_VERSION))
        return reply


def render(query: Query, answer: Answer, domain: str, ttl: int, serial: int) -> DNSRecord:
    """The reply to a question about the cluster's names."""
    reply = query.reply("NOERROR" if answer.exists else "NXDOMAIN")
    reply.header.aa = 1
    asked, soa = ".".join(query.name) + ".", _soa(domain, ttl, serial)
    reply.add_answer(*(_rr(record, ttl, query.spelled if record.name == asked else None) for record in answer.records))
    if answer.has_soa:
        reply.add_answer(RR(query.spelled, QTYPE.SOA, ttl=ttl, rdata=soa))
    reply.add_ar(*(_rr(record, ttl) for record in answer.additional))
    if not reply.rr:
        reply.add_auth(RR(domain, QTYPE.SOA, ttl=ttl, rdata=soa))
    return reply


def _soa(domain: str, ttl: int, serial: int) -> SOA:
    return SOA(f"ns.dns.{domain}", f"hostmaster.{domain}", (serial, 7200, 1800, 86400, ttl))


def pack(reply: DNSRecord, limit: int) -> bytes:
    """The reply in at most ``limit`` bytes: its question, and as many of its records as fit.

    If answers are left out the reply says so, and the client asks by TCP; if only additional records are, it
    does not (RFC 2181, section 9). The cost follows from what fits, not from what there is.
    """
    buffer = _buffer()
    reply.header.pack(buffer)
    for question in reply.questions:
        question.pack(buffer)
    edns = [rr for rr in reply.ar if rr.rtype == QTYPE.OPT]
    room = limit - sum(_size(rr) for rr in edns)
    answers = _pack_fitting(buffer, reply.rr, room)
    cut = answers < len(reply.rr)
    authorities = 0 if cut else _pack_fitting(buffer, reply.auth, room)
    cut = cut or authorities < len(reply.auth)
    additional = 0 if cut else _pack_fitting(buffer, (rr for rr in reply.ar if rr.rtype != QTYPE.OPT), room)
    for rr in edns:
        rr.pack(buffer)
    reply.header.tc = int(cut)
    counts = (len(reply.questions), answers, authorities, additional + len(edns))
    head = (reply.header.id, reply.header.bitmap, *counts)
    return b"".join(number.to_bytes(2, "big") for number in head) + bytes(buffer.data[12:])


def _pack_fitting(buffer: DNSBuffer, records: Iterable[RR], room: int) -> int:
    """Pack records until one does not fit; returns how many did. Nothing that has names may follow one that did not."""
    count = 0
    for record in records:
        before = len(buffer.data)
        record.pack(buffer)
        if len(buffer.data) > room:
            del buffer.data[before:]
            buffer.offset = before
            return count
        count += 1
    return count


def _size(record: RR) -> int:
    buffer = _buffer()
    record.pack(buffer)
    return len(buffer.data)


def _rr(record: Record, ttl: int, spelled: Any = None) -> RR:
    return RR(spelled or record.name, getattr(QTYPE, record.type), ttl=ttl, rdata=_rdata(record))


def _rdata(record: Record) -> Any:
    match record.type:
        case "SRV":
            priority, weight, port, target = record.data
            return SRV(priority, weight, port, target)
        case "TXT":
            return TXT(record.data)
    return {"A": A, "AAAA": AAAA, "CNAME": CNAME, "PTR": PTR, "NS": NS}[record.type](record.data)


def least_ttl(message: DNSRecord) -> int:
    """How long a reply may be kept, in seconds."""
    return min((rr.ttl for rr in (*message.rr, *message.auth) if rr.rtype != QTYPE.OPT), default=0)
