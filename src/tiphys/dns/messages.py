"""Between answers and the bytes of DNS messages, by dnslib. Sources: RFC 1035, 2308 (negative answers), 6891 (EDNS)."""

from __future__ import annotations

from typing import Any

from dnslib import AAAA, CLASS, CNAME, EDNS0, NS, PTR, QTYPE, RCODE, RR, SOA, SRV, TXT, A, DNSError, DNSRecord

from tiphys.dns.records import Answer, Name, Record

PLAIN_UDP = 512
LARGEST_UDP = 1232
"""What passes every network in one piece."""

ADDITIONAL = 16


class Query:
    """A parsed question. Raises ``DNSError`` for bytes that are none."""

    def __init__(self, data: bytes) -> None:
        self.message = DNSRecord.parse(data)
        if self.message.header.qr or len(self.message.questions) != 1:
            raise DNSError("not a query with one question")
        question = self.message.q
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

    def reply(self, rcode: str = "NOERROR") -> DNSRecord:
        reply = self.message.reply(aa=0, ra=1)
        reply.header.rcode = getattr(RCODE, rcode)
        if self.edns is not None:
            reply.add_ar(EDNS0(udp_len=LARGEST_UDP))
        return reply


def render(query: Query, answer: Answer, domain: str, ttl: int, serial: int) -> DNSRecord:
    """The reply to a question about the cluster's names."""
    reply = query.reply("NOERROR" if answer.exists else "NXDOMAIN")
    reply.header.aa = 1
    for record in answer.records:
        reply.add_answer(_rr(record, ttl))
    for record in answer.additional[:ADDITIONAL]:
        reply.add_ar(_rr(record, ttl))
    if not answer.records:
        times = (serial, 7200, 1800, 86400, ttl)
        reply.add_auth(RR(domain, QTYPE.SOA, ttl=ttl, rdata=SOA(f"ns.dns.{domain}", f"hostmaster.{domain}", times)))
    return reply


def pack(reply: DNSRecord, limit: int) -> bytes:
    """The reply's bytes; where they are more than fit, an empty one that says so, and the client asks by TCP."""
    data: bytes = reply.pack()
    if len(data) <= limit:
        return data
    reply.ar = [rr for rr in reply.ar if rr.rtype == QTYPE.OPT]
    data = reply.pack()
    return data if len(data) <= limit else bytes(reply.truncate().pack())


def _rr(record: Record, ttl: int) -> RR:
    return RR(record.name, getattr(QTYPE, record.type), ttl=ttl, rdata=_rdata(record))


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
