"""The DNS server as a component: UDP and TCP, answers from the cluster, and from elsewhere what is not the cluster's.

Everything is bounded: questions in flight, connections, what is kept. Answers are kept as bytes, by the question's
bytes; those about the cluster until anything in it changes.

Source: https://github.com/kubernetes/dns/blob/master/docs/specification.md
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections import OrderedDict
from typing import Any, cast

from dnslib import RCODE, RR, DNSRecord

from tiphys.client.rest import Client
from tiphys.controlkit.serving import zpages
from tiphys.dns.askers import Askers
from tiphys.dns.config import DNSConfig
from tiphys.dns.forward import Forwarder
from tiphys.dns.messages import LARGEST_TCP, bad_version, pack, records_from, render, reply_to
from tiphys.dns.plain import written
from tiphys.dns.publish import Publisher
from tiphys.dns.question import PLAIN_UDP, NotAQuestion, Query, addresses_in, least_ttl
from tiphys.dns.records import Answer, ClusterZone, Name, labels_of
from tiphys.dns.source import InformerSource
from tiphys.runtime.clock import Clock
from tiphys.runtime.component import Ready, whenever
from tiphys.runtime.tasks import MENDS_ITSELF_SECONDS, Runner
from tiphys.wire.health import HealthHandler, listening

log = logging.getLogger(__name__)

KEPT = 2048
MOST_KEPT_FOR = 30.0
IN_FLIGHT = 512
CONNECTIONS = 256
IDLE = 10.0
MOST_ASKED = PLAIN_UDP
MOST_KEPT_BYTES = 4096
"""Of a question and of an answer: larger ones are made again, so that what is kept stays below 10 MB."""
CHAIN = 8
"""Names that an alias may lead through."""
_ELSEWHERE = -1
"""In place of the number of changes: the answer is not about the cluster."""


class DNSServer:
    """``run`` serves until it is cancelled."""

    def __init__(self, config: DNSConfig, client: Client, clock: Clock, rng: random.Random | None = None) -> None:
        self._config, self._clock = config, clock
        self._changes = 0
        self._source = InformerSource(client, clock, self._changed)
        self._zone = ClusterZone(config.cluster_domain, self._source, config.service_ip)
        own = ((config.address, config.port), (config.service_ip, 53))
        rng = rng or random.SystemRandom()
        zones = (("", config.upstreams), *config.stub_zones)
        self._forwarders = [
            (
                labels_of(zone),
                Forwarder(
                    servers=servers,
                    resolver_file=config.resolver_file,
                    exclude=own,
                    timeout=config.forward_timeout,
                    rng=rng,
                ),
            )
            for zone, servers in sorted(zones, key=lambda stub: -len(labels_of(stub[0])))
        ]
        """By zone, the narrowest first; the last one is for every name."""
        self._publisher = Publisher(
            config=config,
            client=client,
            clock=clock,
            services=self._source.services,
            slices=self._source.slice_informer,
        )
        self._askers = Askers(config.recursion_for, clock)
        self._kept: OrderedDict[tuple[bytes, bool, bool], tuple[float, int, bytes]] = OrderedDict()
        """By question, whether it came by TCP, and whether it may be passed on: others see no answer from elsewhere."""
        self._in_flight: set[asyncio.Task[None]] = set()
        self._connections = 0
        self._serving = False
        self.runner = Runner(clock, "dns ")
        self.port = config.port
        """Where it listens; differs from the configured one if that is 0."""

    def _changed(self) -> None:
        self._changes += 1

    async def run(self, ready: Ready = whenever) -> None:
        """``ready`` is called once names are known and it listens."""
        runner = self.runner
        # /health and /ready are CoreDNS's
        checks = {
            **dict.fromkeys(("/healthz", "/livez", "/health"), lambda: runner.troubles(MENDS_ITSELF_SECONDS)),
            **dict.fromkeys(("/readyz", "/ready"), self._not_ready),
        }
        pages = zpages.pages("dns", self._clock, self._config.flags, ("/healthz", "/livez", "/readyz"))
        handler = HealthHandler(checks, pages=pages)
        async with contextlib.AsyncExitStack() as stack:
            for address in (self._config.health_address, *self._config.health_addresses):
                await stack.enter_async_context(listening(address, handler))
            await stack.enter_async_context(runner)
            for informer in self._source.informers:
                runner.supervise(informer.run, f"informer {informer.resource.plural}")
            for informer in self._source.informers:
                await informer.wait_synced()
            transport, server = await self._listen()
            self._serving = True
            ready()
            try:
                if self._config.publish:
                    runner.supervise(self._publisher.run, "publisher")
                await asyncio.Event().wait()
            finally:
                self._serving = False
                transport.close()
                server.close()
                for task in self._in_flight:
                    task.cancel()
                await asyncio.gather(*self._in_flight, return_exceptions=True)

    def _not_ready(self) -> list[str]:
        return ([] if self._serving else ["listening"]) + list(self.runner.troubles())

    async def _listen(self) -> tuple[asyncio.DatagramTransport, asyncio.Server]:
        loop = asyncio.get_running_loop()
        host = self._config.address
        server = await asyncio.start_server(self._serve_tcp, host, self._config.port, reuse_address=True)
        self.port = server.sockets[0].getsockname()[1]
        try:
            transport, _ = await loop.create_datagram_endpoint(lambda: _Udp(self), local_addr=(host, self.port))
        except OSError:
            server.close()
            raise
        log.info("serving DNS for %s on %s:%d", self._config.cluster_domain, host, self.port)
        return transport, server

    # -- transports ---------------------------------------------------------------------------------------------------

    def received(self, data: bytes, client: Any, transport: asyncio.DatagramTransport) -> None:
        """A datagram: answered at once if that can be done without asking others."""
        try:
            recursive = self._askers.may(client[0])
            answer = self._look_up(data, tcp=False, recursive=recursive)
            if answer is None:
                query = Query(data)
                answer = self._at_once(query, tcp=False, recursive=recursive)
        except NotAQuestion as error:
            log.debug("from %s: %s", client[0], error)
            return
        except Exception:  # an exception that reached the loop would close the socket
            log.exception("looking up an answer failed")
            return
        if answer is not None:
            transport.sendto(answer, client)
            return
        if len(self._in_flight) >= IN_FLIGHT:
            return
        task = asyncio.get_running_loop().create_task(self._answer_udp(query, client, transport, recursive=recursive))
        self._in_flight.add(task)
        task.add_done_callback(self._in_flight.discard)

    async def _answer_udp(
        self, query: Query, client: Any, transport: asyncio.DatagramTransport, *, recursive: bool
    ) -> None:
        try:
            answer = await self._asking_others(query, tcp=False, recursive=recursive)
        except Exception:
            log.exception("answering a question failed")
            return
        if not transport.is_closing():
            transport.sendto(answer, client)

    async def _serve_tcp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._connections >= CONNECTIONS:
            writer.close()
            return
        self._connections += 1
        recursive = self._askers.may(writer.get_extra_info("peername")[0])
        try:
            while True:
                async with asyncio.timeout(IDLE):
                    length = int.from_bytes(await reader.readexactly(2), "big")
                    data = await reader.readexactly(length)
                answer = await self.resolve(data, tcp=True, recursive=recursive)
                if answer is None:
                    return
                writer.write(len(answer).to_bytes(2, "big") + answer)
                await writer.drain()
        except (TimeoutError, OSError, asyncio.IncompleteReadError) as end:
            log.debug("connection ends: %s", end)
        finally:
            self._connections -= 1
            writer.close()

    # -- answers ------------------------------------------------------------------------------------------------------

    async def resolve(self, data: bytes, *, tcp: bool, recursive: bool) -> bytes | None:
        """The answer's bytes; None for what deserves none. ``recursive``: whether others may be asked for it."""
        if (answer := self._look_up(data, tcp=tcp, recursive=recursive)) is not None:
            return answer
        try:
            query = Query(data)
        except NotAQuestion as error:
            log.debug("not a question: %s", error)
            return None
        if (answer := self._at_once(query, tcp=tcp, recursive=recursive)) is not None:
            return answer
        return await self._asking_others(query, tcp=tcp, recursive=recursive)

    def _at_once(self, query: Query, *, tcp: bool, recursive: bool) -> bytes | None:
        """The answer's bytes; None if others have to be asked, or another name looked up."""
        limit = _limit(query, tcp=tcp)
        if (refusal := _refused(query)) is not None:
            return pack(refusal, limit)
        answer = self._from_cluster(query)
        if answer is None:
            return None if recursive else pack(reply_to(query, "REFUSED"), limit)
        if _leads_on(query, answer):
            return None
        zone, ttl, serial = _zone_of(query, self._config.cluster_domain), self._config.ttl, self._serial()
        packed = written(query, answer, zone, ttl, serial, limit)
        if packed is None:
            packed = pack(render(query, answer, zone, ttl, serial), limit)
        self._keep(query.data, packed, ttl, self._changes, tcp=tcp, recursive=recursive)
        return packed

    async def _asking_others(self, query: Query, *, tcp: bool, recursive: bool) -> bytes:
        """The answer to a question for which ``_at_once`` has none."""
        changes = self._changes
        answer = self._from_cluster(query)
        if answer is None:
            return await self._from_elsewhere(query, tcp=tcp)
        zone = _zone_of(query, self._config.cluster_domain)
        reply = render(query, answer, zone, self._config.ttl, self._serial())
        await self._follow_alias(query, answer, reply, tcp=tcp, recursive=recursive)
        packed = pack(reply, _limit(query, tcp=tcp))
        self._keep(query.data, packed, least_ttl(packed), changes, tcp=tcp, recursive=recursive)
        return packed

    def _from_cluster(self, query: Query) -> Answer | None:
        if self._zone.covers(query.name):
            return self._zone.answer(query.name, query.qtype)
        if query.name[-1:] == ("arpa",):
            answer = self._zone.reverse(query.name)
            if answer is not None and query.qtype not in ("PTR", "ANY"):
                return Answer(exists=True)
            return answer
        return None

    async def _follow_alias(
        self, query: Query, answer: Answer, reply: DNSRecord, *, tcp: bool, recursive: bool
    ) -> None:
        """Add what an ExternalName's target resolves to, as clients expect of a resolver."""
        if not _leads_on(query, answer):
            return
        target, seen = answer.records[0].data, {query.name}
        for _ in range(CHAIN):
            labels = labels_of(target)
            if labels in seen:
                return
            seen.add(labels)
            if not self._zone.covers(labels):
                if recursive:
                    reply.add_answer(*await self._resolved_elsewhere(target, query.qtype, tcp=tcp))
                return
            resolved = self._zone.answer(labels, query.qtype)
            reply.add_answer(*render(query, resolved, self._config.cluster_domain, self._config.ttl, 0).rr)
            aliases = [r for r in resolved.records if r.type == "CNAME"]
            if not aliases:
                return
            target = aliases[0].data

    async def _resolved_elsewhere(self, name: str, qtype: str, *, tcp: bool) -> list[RR]:
        question = bytes(DNSRecord.question(name, qtype).pack())
        answer = await self._forwarder(labels_of(name)).ask(question, tcp=tcp)
        return [] if answer is None else records_from(addresses_in(answer))

    def _forwarder(self, name: Name) -> Forwarder:
        """Who asks others for a name: that of the narrowest zone that it is in."""
        return next(asked for zone, asked in self._forwarders if name[len(name) - len(zone) :] == zone)

    async def _from_elsewhere(self, query: Query, *, tcp: bool) -> bytes:
        answer = await self._forwarder(query.name).ask(query.data, tcp=tcp)
        if answer is None:
            return pack(reply_to(query, "SERVFAIL"), _limit(query, tcp=tcp))
        is_cut, rcode = answer[2] & 0x02, answer[3] & 0x0F
        if rcode in (RCODE.NOERROR, RCODE.NXDOMAIN) and not is_cut:
            self._keep(query.data, answer, least_ttl(answer), _ELSEWHERE, tcp=tcp, recursive=True)
        return answer

    # -- what is kept -------------------------------------------------------------------------------------------------

    def _look_up(self, data: bytes, *, tcp: bool, recursive: bool) -> bytes | None:
        key = (data[2:], tcp, recursive)
        kept = self._kept.get(key)
        if kept is None:
            return None
        until, changes, answer = kept
        if until < self._clock.monotonic() or changes not in (self._changes, _ELSEWHERE):
            del self._kept[key]
            return None
        return data[:2] + answer[2:]

    def _keep(self, data: bytes, answer: bytes, ttl: float, changes: int, *, tcp: bool, recursive: bool) -> None:
        """``changes`` are those that had happened when the answer was looked up; a later one makes it old."""
        if ttl <= 0 or len(data) > MOST_ASKED or len(answer) > MOST_KEPT_BYTES:
            return
        until = self._clock.monotonic() + min(ttl, MOST_KEPT_FOR)
        self._kept[data[2:], tcp, recursive] = (until, changes, answer)
        if len(self._kept) > KEPT:
            self._kept.popitem(last=False)

    def _serial(self) -> int:
        return int(self._clock.now()) & 0xFFFFFFFF


def _refused(query: Query) -> DNSRecord | None:
    if not query.is_plain:
        return reply_to(query, "NOTIMP")
    if not query.knows_edns:
        return bad_version(query)
    return None if query.is_internet else reply_to(query, "REFUSED")


def _leads_on(query: Query, answer: Answer) -> bool:
    """Whether the answer is an alias, and the question wants what that stands for."""
    records = answer.records
    return len(records) == 1 and records[0].type == "CNAME" and query.qtype in ("A", "AAAA", "ANY")


def _limit(query: Query, *, tcp: bool) -> int:
    return LARGEST_TCP if tcp else query.udp_limit


def _zone_of(query: Query, domain: str) -> str:
    """The zone whose SOA a negative answer carries: the cluster's, or that of reverse names."""
    return ".".join(query.name[-2:]) if query.name[-1:] == ("arpa",) else domain


class _Udp(asyncio.DatagramProtocol):
    def __init__(self, server: DNSServer) -> None:
        self._server = server
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: Any) -> None:
        assert self._transport is not None
        self._server.received(data, addr, self._transport)
