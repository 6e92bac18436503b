"""Relaying without a packet filter: both protocols, choice of endpoint, and what happens when endpoints change."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Any

import pytest

from tests.proxy.objects import endpoint, service, slice_of
from tiphys.proxy.state import Place
from tiphys.proxy.tracker import Tracker
from tiphys.proxy.userspace.backend import UserspaceBackend
from tiphys.proxy.userspace.relay import UdpRelay
from tiphys.runtime.clock import SystemClock
from tiphys.runtime.system.hosttools import CommandError


class Echo(asyncio.DatagramProtocol):
    def __init__(self, name: str) -> None:
        self.name = name

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.transport.sendto(self.name.encode() + b" " + data, addr)


class Client(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.answers: asyncio.Queue[bytes] = asyncio.Queue()

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.answers.put_nowait(data)


def answering(name: bytes) -> Any:
    def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(name)
        writer.close()

    return accepted


async def nothing(arguments: Sequence[str], text: str) -> str:
    return ""


def backend(run: Any = nothing) -> UserspaceBackend:
    return UserspaceBackend(family="ip", place=Place("node-1"), clock=SystemClock(), rng=random.Random(1), run=run)


def test_a_port_that_cannot_be_carried_is_refused_by_name_once() -> None:
    async def scene() -> None:
        refused: list[tuple[object, str]] = []
        proxy = UserspaceBackend(
            family="ip",
            place=Place("node-1"),
            clock=SystemClock(),
            rng=random.Random(1),
            run=nothing,
            refused=lambda key, why: refused.append((key, why)),
        )
        tracker = Tracker("ip", "node-1")
        tracker.service_changed(service(cluster_ip="127.0.99.9", protocol="SCTP"))
        for _ in range(2):
            tracker.touch_all()
            await proxy.sync(tracker.take_changes())
        ((_, why),) = refused
        assert why.startswith("port 80/SCTP is not carried: mode userspace relays TCP and UDP")
        await proxy.cleanup()

    asyncio.run(scene())


def test_udp_answers_come_back_and_a_gone_endpoint_is_left() -> None:
    asyncio.run(_udp())


async def _udp() -> None:
    loop = asyncio.get_running_loop()
    ports, servers = [], []
    for name in ("one", "two"):
        transport, _ = await loop.create_datagram_endpoint(lambda name=name: Echo(name), local_addr=("127.0.0.1", 0))
        servers.append(transport)
        ports.append(transport.get_extra_info("sockname")[1])
    tracker, proxy = Tracker("ip", "node-1"), backend()
    tracker.service_changed(service(cluster_ip="127.0.99.2", protocol="UDP"))
    tracker.slice_changed(slice_of(endpoint("127.0.0.1"), port=ports[0], protocol="UDP"))
    await proxy.sync(tracker.take_changes())
    transport, client = await loop.create_datagram_endpoint(Client, remote_addr=("127.0.99.2", 80))
    async with asyncio.timeout(60):
        for text in (b"a", b"b"):
            transport.sendto(text)
            assert await client.answers.get() == b"one " + text
        tracker.slice_changed(slice_of(endpoint("127.0.0.1"), port=ports[1], protocol="UDP"))
        await proxy.sync(tracker.take_changes())
        transport.sendto(b"c")
        assert await client.answers.get() == b"two c"
    transport.close()
    await proxy.cleanup()
    for server in servers:
        server.close()


@pytest.mark.parametrize(("everywhere", "asked"), [("0.0.0.0", "127.0.99.42"), ("::", "::1")])
def test_an_answer_comes_from_the_address_that_was_asked(everywhere: str, asked: str) -> None:
    """A client that is connected takes no other; left to itself the kernel would answer with the route's address."""
    asyncio.run(_answered(everywhere, asked))


async def _answered(everywhere: str, asked: str) -> None:
    loop = asyncio.get_running_loop()
    server, _ = await loop.create_datagram_endpoint(lambda: Echo("one"), local_addr=("127.0.0.1", 0))
    relay = UdpRelay(lambda client: ("127.0.0.1", server.get_extra_info("sockname")[1]), SystemClock())
    await relay.listen(everywhere, 31987)
    transport, client = await loop.create_datagram_endpoint(Client, remote_addr=(asked, 31987))
    async with asyncio.timeout(60):
        transport.sendto(b"a")
        assert await client.answers.get() == b"one a"
    transport.close()
    server.close()
    await relay.close()


def test_affinity_and_refusal() -> None:
    asyncio.run(_tcp())


async def _tcp() -> None:
    servers = [
        await asyncio.start_server(answering(name), f"127.0.99.{i}", 38080) for i, name in ((11, b"x"), (12, b"y"))
    ]
    tracker, proxy = Tracker("ip", "node-1"), backend()
    tracker.service_changed(service(cluster_ip="127.0.99.3", sessionAffinity="ClientIP"))
    tracker.slice_changed(slice_of(endpoint("127.0.99.11"), endpoint("127.0.99.12"), port=38080))
    await proxy.sync(tracker.take_changes())

    async def ask() -> bytes:
        reader, writer = await asyncio.open_connection("127.0.99.3", 80)
        answer = await reader.read()
        writer.close()
        return answer

    (first,) = {await ask() for _ in range(8)}
    left = "127.0.99.12" if first == b"x" else "127.0.99.11"
    tracker.slice_changed(slice_of(endpoint(left), port=38080))
    await proxy.sync(tracker.take_changes())
    assert {await ask() for _ in range(3)} == {b"y" if first == b"x" else b"x"}
    tracker.slice_changed(slice_of())
    await proxy.sync(tracker.take_changes())
    with pytest.raises(ConnectionRefusedError):
        await ask()
    tracker.slice_changed(slice_of(endpoint(left), port=38080))
    await proxy.sync(tracker.take_changes())
    assert await ask() in (b"x", b"y")
    await proxy.cleanup()
    for server in servers:
        server.close()
        await server.wait_closed()


def test_without_the_right_to_add_addresses_only_node_ports_are_served() -> None:
    asyncio.run(_node_ports_only())


async def _node_ports_only() -> None:
    async def refused(arguments: Sequence[str], text: str) -> str:
        raise CommandError("not permitted")

    tracker, proxy = Tracker("ip", "node-1"), backend(refused)
    async with await asyncio.start_server(lambda _, writer: writer.close(), "127.0.99.21", 38081):
        tracker.service_changed(service(cluster_ip="192.0.2.77", type="NodePort", node_port=31986))
        tracker.slice_changed(slice_of(endpoint("127.0.99.21"), port=38081))
        await proxy.sync(tracker.take_changes())
        reader, writer = await asyncio.open_connection("127.0.0.1", 31986)
        assert await reader.read() == b""
        writer.close()
        await proxy.cleanup()


def test_a_connection_outlives_the_last_ready_endpoint() -> None:
    asyncio.run(_outlives())


async def _outlives() -> None:
    async def echoing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(100):
            writer.write(data)
        writer.close()

    tracker, proxy = Tracker("ip", "node-1"), backend()
    async with await asyncio.start_server(echoing, "127.0.99.31", 38082), asyncio.timeout(60):
        tracker.service_changed(service(cluster_ip="127.0.99.4"))
        tracker.slice_changed(slice_of(endpoint("127.0.99.31"), port=38082))
        await proxy.sync(tracker.take_changes())
        reader, writer = await asyncio.open_connection("127.0.99.4", 80)
        writer.write(b"before")
        assert await reader.read(100) == b"before"
        tracker.slice_changed(slice_of())
        await proxy.sync(tracker.take_changes())
        writer.write(b"after")
        assert await reader.read(100) == b"after"
        writer.close()
        await proxy.cleanup()


def test_node_ports_are_open_on_the_addresses_that_are_named() -> None:
    asyncio.run(_named_addresses())


async def _named_addresses() -> None:
    async def hosts() -> Sequence[str]:
        return ["127.0.99.71"]

    tracker = Tracker("ip", "node-1")
    proxy = UserspaceBackend(
        family="ip",
        place=Place("node-1"),
        clock=SystemClock(),
        rng=random.Random(1),
        run=nothing,
        node_port_hosts=hosts,
    )
    async with await asyncio.start_server(answering(b"here"), "127.0.99.72", 38084):
        tracker.service_changed(service(cluster_ip="127.0.99.70", type="NodePort", node_port=31985))
        tracker.slice_changed(slice_of(endpoint("127.0.99.72"), port=38084))
        await proxy.sync(tracker.take_changes())
        reader, writer = await asyncio.open_connection("127.0.99.71", 31985)
        assert await reader.read() == b"here"
        writer.close()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", 31985)
        await proxy.cleanup()


def test_who_waits_for_an_address_gets_it_when_it_is_free() -> None:
    asyncio.run(_taken_up())


async def _taken_up() -> None:
    names = ("first", "second", "third")
    servers = [
        await asyncio.start_server(answering(name.encode()), f"127.0.99.{51 + number}", 38083)
        for number, name in enumerate(names)
    ]
    tracker, proxy = Tracker("ip", "node-1"), backend()
    services = {
        name: service(name, f"127.0.99.{61 + number}", externalIPs=["127.0.99.60"]) for number, name in enumerate(names)
    }

    async def ask() -> bytes:
        reader, writer = await asyncio.open_connection("127.0.99.60", 80)
        answer = await reader.read()
        writer.close()
        return answer

    for number, name in enumerate(names):
        tracker.service_changed(services[name])
        tracker.slice_changed(slice_of(endpoint(f"127.0.99.{51 + number}"), name=name, port=38083))
        await proxy.sync(tracker.take_changes())
    assert await ask() == b"first"
    tracker.service_deleted(services["second"])
    await proxy.sync(tracker.take_changes())
    assert await ask() == b"first"
    tracker.slice_changed(slice_of(endpoint("127.0.99.52"), name="third", port=38083))  # while it waits
    await proxy.sync(tracker.take_changes())
    tracker.service_changed(service("first", "127.0.99.61"))
    await proxy.sync(tracker.take_changes())
    assert await ask() == b"second"
    tracker.service_deleted(services["third"])
    await proxy.sync(tracker.take_changes())
    with pytest.raises(ConnectionRefusedError):
        await ask()
    await proxy.cleanup()
    for server in servers:
        server.close()
        await server.wait_closed()
