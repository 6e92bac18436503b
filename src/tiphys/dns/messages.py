"""From answers to the bytes of DNS messages, by dnslib: whatever ``plain`` leaves.

Sources: RFC 1035, 2308 (negative answers), 6891 (EDNS)
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from dnslib import (
    AAAA,
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
    DNSHeader,
    DNSLabel,
    DNSQuestion,
    DNSRecord,
)

from tiphys.dns.question import Address, Query
from tiphys.dns.records import Answer, Record

ONE_PIECE = 1232
"""What passes every network in one piece: the size of questions that this server asks for."""
LARGEST_TCP = 65535

_CUT = 0x0200
"""The flag TC of a header."""
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


def reply_to(query: Query, rcode: str = "NOERROR") -> DNSRecord:
    """A reply without records: its question, and EDNS's record if that had one."""
    reply = _head(query)
    reply.header.rcode = getattr(RCODE, rcode)
    if query.edns is not None:
        _, _, wants_dnssec = query.edns
        reply.add_ar(EDNS0(udp_len=ONE_PIECE, flags="do" if wants_dnssec else ""))
    return reply


def bad_version(query: Query) -> DNSRecord:
    """The refusal of a version of EDNS that is to come (RFC 6891, section 6.1.3)."""
    reply = _head(query)
    reply.add_ar(EDNS0(udp_len=ONE_PIECE, ext_rcode=_BAD_VERSION))
    return reply


def _head(query: Query) -> DNSRecord:
    header = DNSHeader(id=int.from_bytes(query.data[:2], "big"), bitmap=query.flags, qr=1, aa=0, ra=1)
    return DNSRecord(header, q=DNSQuestion(DNSLabel(query.labels), query.qnumber, query.qclass))


def render(query: Query, answer: Answer, domain: str, ttl: int, serial: int) -> DNSRecord:
    """The reply to a question about the cluster's names."""
    reply = reply_to(query, "NOERROR" if answer.exists else "NXDOMAIN")
    reply.header.aa = 1
    asked, soa, spelled = ".".join(query.name) + ".", _soa(domain, ttl, serial), reply.q.qname
    reply.add_answer(*(_rr(record, ttl, spelled if record.name == asked else None) for record in answer.records))
    if answer.has_soa:
        reply.add_answer(RR(spelled, QTYPE.SOA, ttl=ttl, rdata=soa))
    reply.add_ar(*(_rr(record, ttl) for record in answer.additional))
    if not reply.rr:
        reply.add_auth(RR(domain, QTYPE.SOA, ttl=ttl, rdata=soa))
    return reply


def _soa(domain: str, ttl: int, serial: int) -> SOA:
    return SOA(f"ns.dns.{domain}", f"hostmaster.{domain}", soa_times(ttl, serial))


def soa_times(ttl: int, serial: int) -> tuple[int, int, int, int, int]:
    """Of a zone's SOA: serial, refresh, retry, expire, and for how long a negative answer is kept, in seconds."""
    return serial, 7200, 1800, 86400, ttl


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
    flags = reply.header.bitmap & ~_CUT | (_CUT if cut else 0)
    counts = (len(reply.questions), answers, authorities, additional + len(edns))
    head = (reply.header.id, flags, *counts)
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


def records_from(addresses: Iterable[Address]) -> list[RR]:
    """Another server's answers, to go into one of ours."""
    return [RR(DNSLabel(one.name), one.kind, ttl=one.ttl, rdata=_address_data(one)) for one in addresses]


def _address_data(address: Address) -> Any:
    if isinstance(address.data, list):
        return CNAME(DNSLabel(address.data))
    return A(tuple(address.data)) if len(address.data) == 4 else AAAA(tuple(address.data))
