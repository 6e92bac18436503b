"""The DNS server by its protocol: over UDP and TCP, for the cluster's names and for others."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from dnslib import QTYPE, RCODE, RR, A, DNSRecord

from tiphys.apiserver.config import Config
from tiphys.apiserver.server import APIServer
from tiphys.client.resources import ENDPOINT_SLICES, NAMESPACES, SERVICES
from tiphys.client.rest import Client
from tiphys.dns.askers import Askers
from tiphys.dns.config import DNSConfig
from tiphys.dns.forward import Forwarder, matches, parse_servers, server_address
from tiphys.dns.publish import Publisher, service
from tiphys.dns.server import DNSServer
from tiphys.dns.source import InformerSource
from tiphys.runtime.clock import SystemClock
from tiphys.store.memory import MemoryBackend
from tiphys.wire.inprocess import InProcessTransport

Object = dict[str, Any]


class Elsewhere(asyncio.DatagramProtocol):
    """A name server on the internet that knows one name."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.port = 0

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=("127.0.0.1", 0))
        self.port = self._transport.get_extra_info("sockname")[1]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._back = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        query = DNSRecord.parse(data)
        self.asked.append(str(query.q.qname))
        reply = query.reply()
        if str(query.q.qname) == "example.org.":
            reply.add_answer(RR("example.org", QTYPE.A, ttl=60, rdata=A("93.184.216.34")))
        else:
            reply.header.rcode = RCODE.NXDOMAIN
        self._back.sendto(reply.pack(), addr)  # type: ignore[attr-defined]

    def stop(self) -> None:
        self._transport.close()


class World:
    def __init__(self, client: Client, server: DNSServer, elsewhere: Elsewhere) -> None:
        self.client, self.server, self.elsewhere = client, server, elsewhere

    async def udp(self, name: str, qtype: str = "A") -> DNSRecord:
        return await asyncio.to_thread(self._send, name, qtype, False)

    async def tcp(self, name: str, qtype: str = "A") -> DNSRecord:
        return await asyncio.to_thread(self._send, name, qtype, True)

    def _send(self, name: str, qtype: str, tcp: bool) -> DNSRecord:
        question = DNSRecord.question(name, qtype)
        answer = DNSRecord.parse(question.send("127.0.0.1", self.server.port, tcp=tcp, timeout=3))
        assert answer.header.id == question.header.id
        return answer

    async def service(self, name: str, **spec: Any) -> Object:
        ports = [{"name": "http", "port": 80, "protocol": "TCP"}]
        described = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"ports": ports, **spec},
        }
        return await self.client.create(SERVICES, described)

    async def endpoints(self, service: str, *addresses: str) -> None:
        described = {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": service,
                "namespace": "default",
                "labels": {"kubernetes.io/service-name": service},
            },
            "addressType": "IPv4",
            "endpoints": [{"addresses": [address]} for address in addresses],
            "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        }
        await self.client.create(ENDPOINT_SLICES, described)

    async def eventually(self, name: str, qtype: str = "A", rcode: int = RCODE.NOERROR) -> DNSRecord:
        async with asyncio.timeout(10):
            while (answer := await self.udp(name, qtype)).header.rcode != rcode:
                await asyncio.sleep(0.02)
            return answer


def run(test: Callable[[World], Coroutine[Any, Any, None]], **options: Any) -> None:
    asyncio.run(_run(test, options))


async def _run(test: Callable[[World], Awaitable[None]], options: Any) -> None:
    clock = SystemClock()
    backend = MemoryBackend(clock)
    api = APIServer(Config(), backend, clock)
    await api.start()
    client = Client(InProcessTransport(api.handler, ("admin", ("system:masters",))))
    elsewhere = Elsewhere()
    await elsewhere.start()
    options = {"upstreams": (f"127.0.0.1:{elsewhere.port}",), "publish": False, **options}
    server = DNSServer(DNSConfig("node-1", "127.0.0.1", 0, **options), client, clock)
    task = asyncio.create_task(server.run())
    try:
        async with asyncio.timeout(10):
            while server.port == 0:
                await asyncio.sleep(0.01)
        await test(World(client, server, elsewhere))
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        elsewhere.stop()
        await api.stop()
        await backend.close()


def data(answer: DNSRecord) -> list[str]:
    return [str(rr.rdata) for rr in answer.rr]


def test_services_by_udp_and_tcp() -> None:
    async def test(world: World) -> None:
        ip = (await world.service("web"))["spec"]["clusterIP"]
        answer = await world.eventually("web.default.svc.cluster.local")
        assert data(answer) == [ip]
        assert (answer.header.aa, answer.header.ra, answer.rr[0].ttl) == (1, 1, 30)
        assert data(await world.tcp("WEB.default.SVC.cluster.local")) == [ip]
        ports = await world.udp("_http._tcp.web.default.svc.cluster.local", "SRV")
        assert data(ports) == ["0 100 80 web.default.svc.cluster.local."]
        assert [str(rr.rdata) for rr in ports.ar] == [ip]
        reverse = ".".join(reversed(ip.split("."))) + ".in-addr.arpa"
        assert data(await world.udp(reverse, "PTR")) == ["web.default.svc.cluster.local."]
        await world.client.delete(SERVICES, "web", "default")
        await world.eventually("web.default.svc.cluster.local", rcode=RCODE.NXDOMAIN)

    run(test)


def test_no_such_name_and_no_such_record_both_carry_the_zone() -> None:
    async def test(world: World) -> None:
        await world.service("web")
        await world.eventually("web.default.svc.cluster.local")
        missing = await world.udp("nope.default.svc.cluster.local")
        assert missing.header.rcode == RCODE.NXDOMAIN
        empty = await world.udp("web.default.svc.cluster.local", "AAAA")
        assert (empty.header.rcode, empty.rr) == (RCODE.NOERROR, [])
        for answer in (missing, empty):
            (soa,) = answer.auth
            assert (str(soa.rname), QTYPE[soa.rtype]) == ("cluster.local.", "SOA")
        assert world.elsewhere.asked == []

    run(test)


def test_large_answers_are_cut_for_udp_and_whole_by_tcp() -> None:
    async def test(world: World) -> None:
        await world.service("many", clusterIP="None", clusterIPs=["None"])
        await world.endpoints("many", *(f"10.244.0.{i}" for i in range(1, 101)))
        cut = await world.eventually("many.default.svc.cluster.local")
        assert (cut.header.tc, len(cut.rr)) == (1, 0)
        whole = await world.tcp("many.default.svc.cluster.local")
        assert (whole.header.tc, len(whole.rr)) == (0, 100)

    run(test)


def test_other_names_are_asked_elsewhere_once_while_they_last() -> None:
    async def test(world: World) -> None:
        for _ in range(3):
            assert data(await world.udp("example.org")) == ["93.184.216.34"]
        assert world.elsewhere.asked == ["example.org."]
        assert (await world.udp("nope.example.org")).header.rcode == RCODE.NXDOMAIN

    run(test)


def test_external_names_are_followed() -> None:
    async def test(world: World) -> None:
        await world.service("away", type="ExternalName", externalName="example.org")
        answer = await world.eventually("away.default.svc.cluster.local")
        assert data(answer) == ["example.org.", "93.184.216.34"]

    run(test)


def test_nobody_to_ask(tmp_path: Path) -> None:
    empty = tmp_path / "resolv.conf"
    empty.write_text("search example.org\n")

    async def test(world: World) -> None:
        assert (await world.udp("example.org")).header.rcode == RCODE.SERVFAIL

    run(test, upstreams=(), resolver_file=str(empty))


def test_it_publishes_itself_and_repairs_what_is_lost() -> None:
    async def test(world: World) -> None:
        client = world.client
        source = InformerSource(client, SystemClock(), lambda: None)
        config = DNSConfig("node-1", "192.0.2.7", service_ip="10.96.0.10")
        publisher = Publisher(config, client, SystemClock(), source.services, source.slice_informer)
        tasks = [asyncio.create_task(i.run()) for i in source.informers] + [asyncio.create_task(publisher.run())]
        try:
            found, slice_ = await _published(client)
            assert found["spec"]["clusterIP"] == "10.96.0.10"
            ports = [(p["name"], p["port"], p["protocol"]) for p in found["spec"]["ports"]]
            assert ports == [("dns", 53, "UDP"), ("dns-tcp", 53, "TCP")]
            assert slice_["metadata"]["name"] == "kube-dns-node-1"
            assert slice_["endpoints"][0]["addresses"] == ["192.0.2.7"]
            for resource, name in ((ENDPOINT_SLICES, "kube-dns-node-1"), (SERVICES, "kube-dns")):
                await client.delete(resource, name, "kube-system")
                await _published(client)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    run(test)


async def _published(client: Client) -> tuple[Object, Object]:
    async with asyncio.timeout(10):
        while True:
            services = (await client.list(SERVICES, "kube-system"))["items"]
            slices = (await client.list(ENDPOINT_SLICES, "kube-system"))["items"]
            if services and slices:
                return services[0], slices[0]
            await asyncio.sleep(0.02)


def test_another_dns_is_left_alone() -> None:
    async def test(world: World) -> None:
        client = world.client
        described = service(DNSConfig("node-1", "192.0.2.7"))
        described["spec"]["selector"] = {"k8s-app": "kube-dns"}
        await client.create(SERVICES, described)
        source = InformerSource(client, SystemClock(), lambda: None)
        publisher = Publisher(
            DNSConfig("node-1", "192.0.2.7"), client, SystemClock(), source.services, source.slice_informer
        )
        task = asyncio.create_task(source.services.run())
        await source.services.wait_synced()
        assert not await publisher._ensure_service()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    run(test)


def test_names_of_namespaces() -> None:
    async def test(world: World) -> None:
        assert (await world.udp("later.svc.cluster.local")).header.rcode == RCODE.NXDOMAIN
        await world.client.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "later"}})
        await world.eventually("later.svc.cluster.local")
        assert data(await world.udp("10-1-2-3.later.pod.cluster.local")) == ["10.1.2.3"]

    run(test)


def test_garbage_is_ignored_and_does_no_harm() -> None:
    async def test(world: World) -> None:
        for garbage in (b"", b"x", b"\0" * 12, b"\xff" * 100, DNSRecord.question("a").reply().pack()):
            assert await world.server.resolve(bytes(garbage), tcp=False, recursive=True) is None
        chaos = DNSRecord.question("version.bind", "TXT")
        chaos.q.qclass = 3
        refused = await world.server.resolve(bytes(chaos.pack()), tcp=False, recursive=True)
        assert refused is not None
        assert DNSRecord.parse(refused).header.rcode == RCODE.REFUSED

    run(test)


def test_resolver_files() -> None:
    text = "# comment\nnameserver 1.1.1.1 ; first\nsearch x\nnameserver fd00::1\noptions ndots:5\n"
    assert parse_servers(text) == ["1.1.1.1", "fd00::1"]
    assert server_address("1.1.1.1:5353") == ("1.1.1.1", 5353)
    assert server_address("[fd00::1]:5353") == ("fd00::1", 5353)
    assert server_address("fd00::1") == ("fd00::1", 53)


def test_it_never_asks_itself(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    path.write_text("nameserver 10.0.0.10\nnameserver 9.9.9.9\n")
    forwarder = Forwarder((), str(path), [("10.0.0.10", 53)], 1.0, random.Random(1))
    assert forwarder.servers() == [("9.9.9.9", 53)]


def test_answers_must_match_the_question() -> None:
    question = DNSRecord.question("example.org")
    answer = question.reply()
    assert matches(question.pack(), answer.pack())
    other = DNSRecord.question("example.com").reply()
    other.header.id = question.header.id
    assert not matches(question.pack(), other.pack())
    answer.header.id ^= 1
    assert not matches(question.pack(), answer.pack())
    assert not matches(question.pack(), question.pack())


class Captured:
    """The sending side of a datagram socket, for clients at addresses that this machine has no way to."""

    def __init__(self) -> None:
        self.sent: asyncio.Queue[tuple[bytes, Any]] = asyncio.Queue()

    def sendto(self, data: bytes, client: Any) -> None:
        self.sent.put_nowait((data, client))

    def is_closing(self) -> bool:
        return False


async def ask_from(world: World, address: str, name: str) -> DNSRecord:
    transport = Captured()
    question = DNSRecord.question(name, "A")
    world.server.received(bytes(question.pack()), (address, 5353), transport)  # type: ignore[arg-type]
    async with asyncio.timeout(5):
        data, client = await transport.sent.get()
    assert client == (address, 5353)
    return DNSRecord.parse(data)


def test_only_pods_and_the_node_itself_are_asked_for_elsewhere() -> None:
    async def test(world: World) -> None:
        await world.service("outside", type="ExternalName", externalName="example.org")
        await world.eventually("outside.default.svc.cluster.local")
        for address, allowed in (
            ("10.244.3.7", True),
            ("127.0.0.1", True),
            ("192.0.2.7", False),
            ("10.245.0.1", False),
        ):
            answer = await ask_from(world, address, "example.org")
            assert answer.header.rcode == (RCODE.NOERROR if allowed else RCODE.REFUSED), address
            assert bool(answer.rr) is allowed, address
            # The cluster's own names are for everybody; what an alias leads to elsewhere is not.
            alias = await ask_from(world, address, "outside.default.svc.cluster.local")
            assert [rr.rtype for rr in alias.rr] == ([QTYPE.CNAME, QTYPE.A] if allowed else [QTYPE.CNAME]), address

    run(test, recursion_for=("10.244.0.0/16",))


def test_an_administrator_may_open_it() -> None:
    async def test(world: World) -> None:
        assert (await ask_from(world, "192.0.2.7", "example.org")).header.rcode == RCODE.NOERROR
        assert (await ask_from(world, "2001:db8::7", "example.org")).header.rcode == RCODE.REFUSED

    run(test, recursion_for=("0.0.0.0/0",))


def test_networks_are_checked_when_it_starts() -> None:
    with pytest.raises(ValueError, match="has host bits set"):
        Askers(("10.244.0.1/16",), SystemClock())
