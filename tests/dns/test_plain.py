"""Questions read and answers written by hand say what dnslib reads and writes."""

from __future__ import annotations

import contextlib
import random
from typing import Any

import pytest
from dnslib import AAAA, CNAME, EDNS0, QTYPE, RR, SOA, TXT, A, DNSError, DNSHeader, DNSLabel, DNSQuestion, DNSRecord
from hypothesis import given, settings
from hypothesis import strategies as some

from tests.dns.test_records import Objects, slice_of
from tiphys.dns.messages import LARGEST_TCP, pack, records_from, render
from tiphys.dns.plain import written
from tiphys.dns.question import TYPES, NotAQuestion, Query, addresses_in, least_ttl
from tiphys.dns.records import Answer, ClusterZone, Record, dashed

DOMAIN = "cluster.local"
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789-"


def objects() -> Objects:
    """One service of each sort; ``many`` has more endpoints than fit into a datagram."""
    made = Objects()
    made.add("web", clusterIP="10.96.0.7", clusterIPs=["10.96.0.7", "fd00::7"])
    made.add("six", clusterIP="fd00::8", clusterIPs=["fd00::8"])
    peers = slice_of(
        {"addresses": ["10.244.0.5"], "hostname": "db-0", "conditions": {"ready": True}},
        {"addresses": ["10.244.0.6"], "conditions": {}},
        {"addresses": ["fd00:10::6"], "hostname": "db-6", "conditions": {}},
    )
    made.add("db", clusterIP="None", slices=[peers])
    made.add("many", clusterIP="None", slices=[slice_of(*({"addresses": [f"10.244.1.{i}"]} for i in range(1, 100)))])
    made.add("empty", clusterIP="None")
    made.add("away", type="ExternalName", externalName="Some.Where.Example.ORG")
    made.add("odd", type="ExternalName", externalName="m\u00fcnchen.example.org")
    return made


ZONE = ClusterZone(DOMAIN, objects(), "10.96.0.10")
KNOWN = [
    *(f"{name}.shop.svc" for name in ("web", "six", "db", "many", "empty", "away", "odd", "none")),
    *(f"_http._tcp.{name}.shop.svc" for name in ("web", "six", "db", "many", "away")),
    *("db-0.db.shop.svc", "db-6.db.shop.svc", f"{dashed('10.244.0.6')}.db.shop.svc", "_tcp.web.shop.svc"),
    *("", "svc", "pod", "dns", "ns.dns", "dns-version", "shop.svc", "nowhere.svc", "shop.pod"),
    *("10-1-2-3.shop.pod", "fd00--5.shop.pod", "10-1-2-3.nowhere.pod", "example.org", "www.example.org.shop.svc"),
]
REVERSED = [
    "7.0.96.10.in-addr.arpa",
    "5.0.244.10.in-addr.arpa",
    ".".join(reversed("fd000000000000000000000000000007")) + ".ip6.arpa",
]
NAMES = some.one_of(
    some.sampled_from([f"{name}.{DOMAIN}".removeprefix(".") for name in KNOWN] + REVERSED),
    some.lists(some.text(LETTERS, min_size=1, max_size=63), max_size=3).map(
        lambda labels: ".".join([*labels, "shop", "svc", DOMAIN])
    ),
)
SIZES = some.one_of(some.none(), some.sampled_from([0, 512, 600, 1232, 4096, 65535]))


def question(draw: some.DrawFn) -> bytes:
    """A question with a name in any spelling, any type, and EDNS of any size or none."""
    name, qtype = draw(NAMES), draw(some.sampled_from([*TYPES, 15, 65]))
    spelling = draw(some.randoms(use_true_random=False))
    labels = [bytes(spelling.choice((c, c ^ 0x20)) if 97 <= c <= 122 else c for c in label) for label in split(name)]
    header = DNSHeader(id=draw(some.integers(0, 65535)), bitmap=draw(some.sampled_from([0x0100, 0, 0x0120, 0x0130])))
    message = DNSRecord(header, q=DNSQuestion(DNSLabel(labels), qtype))
    size = draw(SIZES)
    if size is not None:
        message.add_ar(EDNS0(udp_len=size, flags="do" if draw(some.booleans()) else ""))
    return bytes(message.pack())


def split(name: str) -> list[bytes]:
    return name.encode().split(b".")


questions = some.composite(question)()


@settings(max_examples=400, deadline=None)
@given(questions, some.booleans(), some.integers(0, 2**31))
def test_both_ways_give_the_same_answer(data: bytes, tcp: bool, serial: int) -> None:
    query = Query(data)
    zone, answer = DOMAIN, None
    if ZONE.covers(query.name):
        answer = ZONE.answer(query.name, query.qtype)
    elif query.name[-1:] == ("arpa",):
        zone, answer = ".".join(query.name[-2:]), ZONE.reverse(query.name)
    assert answer is not None
    limit = LARGEST_TCP if tcp else query.udp_limit
    by_hand = written(query, answer, zone, 30, serial, limit)
    if is_odd(answer):
        assert by_hand is None
        return
    whole = render(query, answer, zone, 30, serial)
    by_dnslib = pack(whole, limit)
    if by_hand is None:  # it is a little longer, so that what it leaves may just fit
        assert len(pack(whole, LARGEST_TCP)) > limit * 0.7
        return
    assert len(by_hand) <= limit
    assert described(by_hand) == described(by_dnslib)
    assert by_hand[12 : query.end] == data[12 : query.end]
    assert least_ttl(by_hand) == 30


def is_odd(answer: Answer) -> bool:
    """Whether it is for dnslib in any case."""
    return answer.has_soa or any(record.type == "CNAME" and not record.data.isascii() for record in answer.records)


def described(message: bytes) -> list[Any]:
    """What a message says; answers with their names in the spelling that they have."""
    parsed = DNSRecord.parse(message)
    parts: list[Any] = [parsed.header.id, parsed.header.bitmap, str(parsed.q.qname), parsed.q.qtype, parsed.q.qclass]
    parts.append([(str(rr.rname), rr.rtype, rr.rclass, rr.ttl, str(rr.rdata)) for rr in parsed.rr])
    # a name that the question's ends with may be spelled as in the question
    return parts + [
        [(rr.rname, rr.rtype, rr.rclass, rr.ttl, str(rr.rdata).lower()) for rr in section]
        for section in (parsed.auth, parsed.ar)
    ]


def test_most_answers_are_written_by_hand() -> None:
    """Else the test above would hold nothing."""
    left = []
    for name in KNOWN:
        query = Query(bytes(DNSRecord.question(f"{name}.{DOMAIN}".removeprefix("."), "SRV").pack()))
        if written(query, ZONE.answer(query.name, "SRV"), DOMAIN, 30, 1, 1232) is None:
            left.append(name)
    assert left == ["many.shop.svc", "odd.shop.svc", "_http._tcp.many.shop.svc"]


def test_a_name_far_on_in_a_message_is_written_out() -> None:
    """A pointer has 14 bits."""
    query = Query(bytes(DNSRecord.question(f"many.{DOMAIN}", "SRV").pack()))
    targets = [f"host-{number}.many.{DOMAIN}." for number in range(600)]
    answer = Answer(
        exists=True,
        records=tuple(Record(f"many.{DOMAIN}.", "SRV", (0, 1, 80, target)) for target in targets),
        additional=tuple(Record(target, "A", "10.0.0.1") for target in targets),
    )
    by_hand = written(query, answer, DOMAIN, 30, 1, LARGEST_TCP)
    assert by_hand is not None
    assert described(by_hand)[-1] == [(target, 1, 1, 30, "10.0.0.1") for target in targets]


HEAD = b"\0\1\1\0\0\1\0\0\0\0"
"""A message's with one question; the number of additional records comes next."""


# -- reading ----------------------------------------------------------------------------------------------------------


@settings(max_examples=300, deadline=None)
@given(questions, some.data())
def test_a_question_is_read_as_dnslib_reads_it_or_not_at_all(data: bytes, more: some.DataObject) -> None:
    """As it is, and with bytes changed, cut off or added: what can be read is what dnslib reads, and all is quiet."""
    changed = bytearray(data)
    for at, value in more.draw(
        some.lists(some.tuples(some.integers(0, len(data) - 1), some.integers(0, 255)), max_size=3)
    ):
        changed[at] = value
    message = bytes(changed[: more.draw(some.integers(0, len(data)))] if more.draw(some.booleans()) else changed)
    message += more.draw(some.binary(max_size=8))
    try:
        query = Query(message)
    except NotAQuestion:
        return
    try:
        parsed = DNSRecord.parse(message)
    except DNSError:
        return  # what it minds is in records that mean nothing to a question
    assert query.name == tuple(label.decode("ascii", "replace").lower() for label in parsed.q.qname.label)
    assert (query.qnumber, query.qclass, query.flags) == (parsed.q.qtype, parsed.q.qclass, parsed.header.bitmap)
    edns = next((rr for rr in parsed.ar if rr.rtype == QTYPE.OPT), None)
    assert query.edns == (None if edns is None else (edns.rclass, edns.edns_ver, bool(edns.edns_do)))


@pytest.mark.parametrize(("last", "fits"), [(61, True), (62, False), (63, False)])
def test_a_name_has_at_most_255_bytes(last: int, fits: bool) -> None:
    labels = [b"x" * 63, b"x" * 63, b"x" * 63, b"y" * last]
    packed = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
    message = HEAD + b"\0\0" + packed + b"\0\1\0\1"
    if fits:
        assert (len(packed), Query(message).labels) == (255, labels)
    else:
        with pytest.raises(NotAQuestion, match="255"):
            Query(message)


def test_pointers_in_a_question_lead_nowhere() -> None:
    """Nothing stands before its name; what stands after it is not read, however much of it there is."""
    with pytest.raises(NotAQuestion):
        Query(HEAD + b"\0\0\xc0\x0c\0\1\0\1")
    chain = b"".join((0xC000 | 17 + 12 * max(0, i - 1)).to_bytes(2, "big") + bytes(10) for i in range(1300))
    assert Query(HEAD + (1300).to_bytes(2, "big") + b"\0\0\1\0\1" + chain).name == ()


@settings(max_examples=300, deadline=None)
@given(some.binary(max_size=80))
def test_any_bytes_are_a_question_or_none(data: bytes) -> None:
    with contextlib.suppress(NotAQuestion):
        Query(data)
    assert least_ttl(data) >= 0


SECONDS = some.integers(0, 2**31 - 1)


@settings(max_examples=100, deadline=None)
@given(some.lists(SECONDS, max_size=4), some.lists(some.tuples(SECONDS, SECONDS), max_size=2))
def test_an_answer_is_kept_for_its_least_ttl(answers: list[int], authorities: list[tuple[int, int]]) -> None:
    """A negative one no longer than its zone says: by the SOA's own TTL, and by what is in it."""
    message = DNSRecord.question("www.example.org").reply()
    message.add_answer(*(RR("www.example.org", ttl=ttl, rdata=A("192.0.2.1")) for ttl in answers))
    for ttl, minimum in authorities:
        soa = SOA("ns.example.org", "x.example.org", (1, 2, 3, 4, minimum))
        message.add_auth(RR("example.org", QTYPE.SOA, ttl=ttl, rdata=soa))
    message.add_ar(EDNS0(udp_len=1232))
    assert least_ttl(bytes(message.pack())) == min([*answers, *map(min, authorities)], default=0)


@settings(max_examples=150, deadline=None)
@given(some.lists(some.sampled_from(["A", "AAAA", "CNAME", "TXT"]), max_size=6), SECONDS, some.data())
def test_others_answers_are_read_as_dnslib_reads_them(kinds: list[str], ttl: int, more: some.DataObject) -> None:
    """Those that lead to an address; with bytes changed, what can be read, or nothing."""
    message = DNSRecord.question("www.Example.org").reply()
    rdata = {"A": A("192.0.2.1"), "AAAA": AAAA("2001:db8::1"), "CNAME": CNAME("a.www.example.org"), "TXT": TXT("x")}
    message.add_answer(*(RR("www.example.org", getattr(QTYPE, kind), ttl=ttl, rdata=rdata[kind]) for kind in kinds))
    packed = bytearray(message.pack())
    records = records_from(addresses_in(bytes(packed)))
    assert records == [rr for rr in DNSRecord.parse(bytes(packed)).rr if rr.rtype != QTYPE.TXT]
    for at, value in more.draw(some.lists(some.tuples(some.integers(0, len(packed) - 1), some.integers(0, 255)))):
        packed[at] = value
    records_from(addresses_in(bytes(packed)))


def test_an_answer_of_pointers_to_pointers_is_not_followed() -> None:
    """4,000 names that each lead through 450 pointers took dnslib seven seconds."""
    start, depth = 12 + 5 + 11, 450
    chain = b"".join((0xC000 | (start + 2 * (i - 1) if i else 12)).to_bytes(2, "big") for i in range(depth))
    first = b"\0\0\x63\0\1\0\0\0\0" + len(chain).to_bytes(2, "big") + chain
    each = (0xC000 | start + 2 * (depth - 1)).to_bytes(2, "big") + b"\0\1\0\1\0\0\0\1\0\4\1\2\3\4"
    head = b"\0\1\x81\x80\0\1" + (4001).to_bytes(2, "big") + b"\0\0\0\0"
    assert addresses_in(head + b"\0\0\1\0\1" + first + each * 4000) == []


def test_nothing_that_is_sent_raises() -> None:
    """20,000 messages made of good ones: cut, grown, with bytes changed; each answered or not."""
    seed = random.randrange(2**32)
    print("seed", seed)
    rng = random.Random(seed)
    good = [
        bytes(DNSRecord.question(f"{name}.{DOMAIN}".removeprefix("."), kind).pack())
        for name in KNOWN
        for kind in ("A", "SRV")
    ]
    for _ in range(20_000):
        message = bytearray(rng.choice(good))
        for _ in range(rng.randrange(4)):
            message[rng.randrange(len(message))] = rng.randrange(256)
        if rng.random() < 0.2:
            del message[rng.randrange(len(message)) :]
        try:
            query = Query(bytes(message))
        except NotAQuestion:
            continue
        if ZONE.covers(query.name):
            answer = ZONE.answer(query.name, query.qtype)
            written(query, answer, DOMAIN, 30, 1, query.udp_limit)
