"""The DNS server by its protocol: over UDP and TCP, for the cluster's names and for others."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from dnslib import EDNS0, QTYPE, RCODE, RR, A, DNSRecord

from tiphys.api.object import Object
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
        return await asyncio.to_thread(self._send, name, qtype, tcp=False)

    async def tcp(self, name: str, qtype: str = "A") -> DNSRecord:
        return await asyncio.to_thread(self._send, name, qtype, tcp=True)

    def _send(self, name: str, qtype: str, *, tcp: bool) -> DNSRecord:
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
        async with asyncio.timeout(60):
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
        async with asyncio.timeout(60):
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


async def ask(world: World, name: str, qtype: str = "A", *, size: int | None = None, tcp: bool = False) -> DNSRecord:
    question = DNSRecord.question(name, qtype)
    if size is not None:
        question.add_ar(EDNS0(udp_len=size))
    answer = await world.server.resolve(bytes(question.pack()), tcp=tcp, recursive=True)
    assert answer is not None
    assert len(answer) <= (65535 if tcp else max(512, size or 0))
    parsed = DNSRecord.parse(answer)
    assert (parsed.header.id, str(parsed.q.qname)) == (question.header.id, f"{name}.")
    return parsed


@pytest.mark.parametrize(
    ("size", "whole", "least"),
    [(None, False, 29), (0, False, 28), (1232, False, 70), (4096, True, 100), (65535, True, 100)],
)
def test_large_answers_have_what_fits_and_all_of_it_by_tcp(size: int | None, whole: bool, least: int) -> None:
    """512 bytes without EDNS, with it what the client says: the question, the OPT record, and as many as fit."""

    async def test(world: World) -> None:
        await world.service("many", clusterIP="None", clusterIPs=["None"])
        await world.endpoints("many", *(f"10.244.0.{i}" for i in range(1, 101)))
        name = "many.default.svc.cluster.local"
        await world.eventually(name)
        answer = await ask(world, name, size=size)
        assert answer.header.tc == (not whole)
        assert least <= len(answer.rr) <= (100 if whole else 99)
        assert [rr.rtype for rr in answer.ar] == ([] if size is None else [QTYPE.OPT])
        by_tcp = await world.tcp(name)
        assert (by_tcp.header.tc, len(by_tcp.rr)) == (0, 100)

    run(test)


def test_answers_beyond_16_kib_can_be_read() -> None:
    """A pointer to a name has 14 bits: names further on are written out."""

    async def test(world: World) -> None:
        await world.service("many", clusterIP="None", clusterIPs=["None"])
        await world.endpoints("many", *(f"10.244.{i // 250}.{i % 250 + 1}" for i in range(500)))
        name = "_http._tcp.many.default.svc.cluster.local"
        await world.eventually(name, "SRV")
        answer = await ask(world, name, "SRV", tcp=True)
        targets = {str(rr.rdata).split()[-1] for rr in answer.rr}
        assert (answer.header.tc, len(targets)) == (0, 500)
        named = [str(rr.rname) for rr in answer.ar]
        assert len(named) > 300
        assert set(named) <= targets

    run(test)


def test_names_keep_their_case() -> None:
    async def test(world: World) -> None:
        await world.service("web")
        await world.eventually("web.default.svc.cluster.local")
        for name in ("wEb.deFault.SVC.cluster.local", "web.default.svc.CLUSTER.local"):
            assert [str(rr.rname) for rr in (await ask(world, name)).rr] == [f"{name}."]
        await ask(
            world, "eXample.ORG"
        )  # the question is repeated as it was asked, whatever the other server made of it

    run(test)


def test_the_zone_has_its_soa_and_its_server() -> None:
    async def test(world: World) -> None:
        soa = await ask(world, "cluster.local", "SOA")
        assert [(str(rr.rname), rr.rtype) for rr in soa.rr] == [("cluster.local.", QTYPE.SOA)]
        assert soa.auth == []
        server = await ask(world, "cluster.local", "NS")
        assert data(server) == ["ns.dns.cluster.local."]
        assert [str(rr.rdata) for rr in server.ar] == ["10.96.0.10"]

    run(test)


def test_aliases_that_lead_in_a_circle_are_cut() -> None:
    async def test(world: World) -> None:
        names = [f"{name}.default.svc.cluster.local" for name in ("one", "two", "three")]
        for name, target in zip(("one", "two", "three"), names[1:] + names[:1], strict=True):
            await world.service(name, type="ExternalName", externalName=target)
        await world.eventually(names[2])
        answer = await ask(world, names[0])
        assert [str(rr.rname) for rr in answer.rr] == [f"{name}." for name in names]
        await world.service("self", type="ExternalName", externalName="self.default.svc.cluster.local")
        assert len((await world.eventually("self.default.svc.cluster.local")).rr) == 1

    run(test)


def test_an_unknown_version_of_edns_is_refused() -> None:
    async def test(world: World) -> None:
        question = DNSRecord.question("cluster.local", "SOA")
        question.add_ar(EDNS0(udp_len=1232, version=1))
        refused = DNSRecord.parse(await world.server.resolve(bytes(question.pack()), tcp=False, recursive=True))
        assert (refused.header.rcode, refused.rr, refused.ar[0].edns_rcode) == (0, [], 1)

    run(test)


def test_an_answer_from_before_a_change_is_not_kept_after_it() -> None:
    """While an alias is followed elsewhere the service gets another: what is then answered is not kept as new."""

    async def test(world: World) -> None:
        await world.service("away", type="ExternalName", externalName="example.org")
        name = "away.default.svc.cluster.local"
        await world.eventually(name)
        ask_elsewhere = world.server._resolved_elsewhere

        async def meanwhile(*args: Any, **how: Any) -> list[RR]:
            world.server._changed()
            return await ask_elsewhere(*args, **how)

        world.server._resolved_elsewhere = meanwhile  # type: ignore[method-assign]
        world.server._changed()
        question = bytes(DNSRecord.question(name, "A").pack())
        await world.server.resolve(question, tcp=False, recursive=True)
        assert world.server._look_up(question, tcp=False, recursive=True) is None

    run(test)


def test_health_names_what_is_not_well() -> None:
    async def test(world: World) -> None:
        async def get(path: str) -> tuple[int, str]:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            head, _, body = (await reader.read()).decode().partition("\r\n\r\n")
            writer.close()
            return int(head.split()[1]), body

        assert await get("/healthz") == (200, "ok")
        assert await get("/readyz") == (200, "ok")
        assert "Paths: /healthz /livez /readyz\n" in (await get("/statusz"))[1]
        assert (await get("/flagz"))[0] == 200

        async def fails() -> None:
            raise RuntimeError("a fault")

        world.server.runner.supervise(fails, "faulty")
        await asyncio.sleep(0)
        status, text = await get("/readyz")
        assert (status, "[-]faulty failed" in text) == (500, True)
        assert (await get("/healthz"))[0] == 200  # it may mend itself yet

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    run(test, health_address=f"127.0.0.1:{port}")


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


def test_a_zones_own_servers_are_asked_for_what_is_in_it() -> None:
    async def main() -> None:
        corp, lab = Elsewhere(), Elsewhere()
        await corp.start()
        await lab.start()
        zones = (("corp.example", (f"127.0.0.1:{corp.port}",)), ("lab.corp.example", (f"127.0.0.1:{lab.port}",)))

        async def test(world: World) -> None:
            for name in ("example.org", "www.CORP.example", "a.lab.corp.example", "notcorp.example", "corp.example"):
                await world.udp(name)
            await world.tcp("b.lab.corp.example")
            assert world.elsewhere.asked == ["example.org.", "notcorp.example."]
            assert [name.lower() for name in corp.asked] == ["www.corp.example.", "corp.example."]
            assert lab.asked == ["a.lab.corp.example."]

        await _run(test, {"stub_zones": zones})
        corp.stop()
        lab.stop()

    asyncio.run(main())


def test_it_publishes_itself_and_repairs_what_is_lost() -> None:
    async def test(world: World) -> None:
        client = world.client
        source = InformerSource(client, SystemClock(), lambda: None)
        config = DNSConfig("node-1", "192.0.2.7", service_ip="10.96.0.10")
        publisher = Publisher(
            config=config, client=client, clock=SystemClock(), services=source.services, slices=source.slice_informer
        )
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
    async with asyncio.timeout(60):
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
            config=DNSConfig("node-1", "192.0.2.7"),
            client=client,
            clock=SystemClock(),
            services=source.services,
            slices=source.slice_informer,
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


def test_broken_questions_are_answered_or_not_but_raise_nothing() -> None:
    """Good ones of every sort with bytes changed or cut off, as they come by UDP and by TCP."""

    async def test(world: World) -> None:
        rng = random.Random(11)
        await world.service("web")
        await world.service("away", type="ExternalName", externalName="example.org")
        await world.eventually("away.default.svc.cluster.local")
        names = (
            "web.default.svc.cluster.local",
            "away.default.svc.cluster.local",
            "7.0.96.10.in-addr.arpa",
            "a.example",
        )
        good = []
        for name in names:
            for size in (None, 1232):
                question = DNSRecord.question(name, "A")
                if size is not None:
                    question.add_ar(EDNS0(udp_len=size))
                good.append(bytes(question.pack()))
        for _ in range(5000):
            message = bytearray(rng.choice(good))
            for _ in range(rng.randrange(1, 4)):
                message[rng.randrange(len(message))] = rng.randrange(256)
            if rng.random() < 0.2:
                del message[rng.randrange(len(message)) :]
            answer = await world.server.resolve(bytes(message), tcp=rng.random() < 0.5, recursive=False)
            assert answer is None or (answer[:2] == message[:2] and answer[2] & 0x80)

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
    forwarder = Forwarder(
        servers=(), resolver_file=str(path), exclude=[("10.0.0.10", 53)], timeout=1.0, rng=random.Random(1)
    )
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
    async with asyncio.timeout(60):
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
