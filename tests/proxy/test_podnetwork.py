"""Routes to the pods of other nodes: what is wanted, the way there from what is there, and packets in a tunnel."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from tests.proxy.lab import inside
from tiphys.proxy.podnetwork import overlay
from tiphys.proxy.podnetwork.follower import apply_routes, apply_tunnel, cleanup, listed
from tiphys.proxy.podnetwork.overlay import DEVICE, Tunnel, hardware, tunnel
from tiphys.proxy.podnetwork.routes import Hop, Wires, commands, matters, pod_ranges, wanted, wires_of
from tiphys.runtime.system import hosttools


def node(name: str, address: str, *ranges: str) -> dict[str, Any]:
    return {
        "metadata": {"name": name},
        "spec": {"podCIDRs": list(ranges)},
        "status": {"addresses": [{"type": "Hostname", "address": name}, {"type": "InternalIP", "address": address}]},
    }


ONE = node("one", "192.0.2.2", "10.244.0.0/24")
TWO = node("two", "10.243.0.2", "10.244.1.0/24")
THREE = node("three", "10.243.0.3", "10.244.2.0/24")
ON_ONE = Wires({"10.243.0.1/24": 1500, "192.0.2.2/24": 1500})
ON_TWO = Wires({"10.243.0.2/24": 1500})


def test_each_other_node_on_the_wire_gets_a_route_to_its_pods() -> None:
    assert wanted([ONE, TWO, THREE], "one", ON_ONE) == {
        "10.244.1.0/24": Hop("10.243.0.2", "192.0.2.2"),
        "10.244.2.0/24": Hop("10.243.0.3", "192.0.2.2"),
    }


def test_an_address_that_is_on_no_interface_is_no_source() -> None:
    routes = wanted([ONE, TWO], "one", Wires({"10.243.0.1/24": 1500}))
    assert routes == {"10.244.1.0/24": Hop("10.243.0.2")}


def test_a_node_behind_a_router_gets_no_route_by_a_wire() -> None:
    assert wanted([ONE, TWO, THREE], "two", ON_TWO) == {"10.244.2.0/24": Hop("10.243.0.3", "10.243.0.2")}


def test_a_node_without_range_or_address_gets_none() -> None:
    bare = {"metadata": {"name": "bare"}}
    assert pod_ranges(bare) == ()
    assert wanted([bare, node("two", "10.243.0.2"), {**TWO, "status": {}}], "one", ON_ONE) == {}
    assert tunnel([bare, {**ONE, "status": {}}], "two", ON_TWO) is None


def test_only_what_differs_is_changed() -> None:
    present = {
        "10.244.1.0/24": Hop("10.243.0.2", "192.0.2.2"),
        "10.244.7.0/24": Hop("10.243.0.7"),
        "10.244.2.0/24": Hop("10.243.0.9"),
    }
    batch = commands(present, wanted([ONE, TWO, THREE], "one", ON_ONE))
    assert batch == [
        "route delete 10.244.7.0/24 proto 85",
        "route replace 10.244.2.0/24 via 10.243.0.3 proto 85 src 192.0.2.2",
    ]
    same = {"10.244.1.0/24": Hop("10.243.0.2")}
    assert commands(same, same) == []


def test_only_what_routes_are_made_from_is_a_reason_to_look_at_them() -> None:
    healthy = {**ONE, "status": {**ONE["status"], "conditions": [{"type": "Ready", "status": "True"}]}}
    assert matters(ONE) == matters(healthy)
    for changed in (
        node("one", "192.0.2.3", "10.244.0.0/24"),
        node("one", "192.0.2.2", "10.244.9.0/24"),
        node("one", "192.0.2.2", "10.244.0.0/24", "fd00:10:244::/64"),
        {**ONE, "status": {"addresses": [*ONE["status"]["addresses"], {"type": "InternalIP", "address": "fd00::2"}]}},
        node("one", "192.0.2.2"),
    ):
        assert matters(ONE) != matters(changed)


def test_the_wires_are_read_of_what_ip_lists() -> None:
    address = {"local": "192.0.2.2", "prefixlen": 24}
    interfaces = [
        {"ifname": "lo", "flags": ["LOOPBACK"], "mtu": 65536, "addr_info": [{"local": "127.0.0.1", "prefixlen": 8}]},
        {"ifname": "eth0", "flags": ["UP"], "mtu": 9000, "addr_info": [address]},
        {"ifname": DEVICE, "flags": ["UP"], "mtu": 8950, "addr_info": [{"local": "10.244.0.0", "prefixlen": 32}]},
    ]
    assert wires_of(interfaces, but=DEVICE) == Wires({"192.0.2.2/24": 9000})


def test_a_node_behind_a_router_is_reached_by_a_tunnel_unless_the_default_route_leads_there() -> None:
    assert tunnel([ONE, TWO, THREE], "two", ON_TWO, direct=["192.0.2.2"]) is None
    made = tunnel([ONE, TWO, THREE], "two", ON_TWO)
    assert made == Tunnel(
        local="10.243.0.2",
        mtu=1450,
        addresses=("10.244.1.0",),
        ends={hardware("192.0.2.2"): "192.0.2.2"},
        neighbours={"10.244.0.0": hardware("192.0.2.2")},
        routes={"10.244.0.0/24": Hop("10.244.0.0", device=DEVICE)},
    )
    assert commands({}, made.routes) == ["route replace 10.244.0.0/24 via 10.244.0.0 dev tiphys-vxlan onlink proto 85"]


def test_what_a_tunnel_no_longer_needs_is_removed() -> None:
    made = tunnel([ONE, TWO], "two", ON_TWO)
    assert made is not None
    mac = hardware("192.0.2.2")
    lines, fdb = overlay.settle(made, {mac: "192.0.2.9", "02:00:00:00:00:01": "192.0.2.5"}, ["10.244.9.0"])
    assert f"neigh delete 10.244.9.0 dev {DEVICE}" in lines
    assert fdb == [
        f"fdb delete {mac} dev {DEVICE} dst 192.0.2.9",
        f"fdb delete 02:00:00:00:00:01 dev {DEVICE} dst 192.0.2.5",
        f"fdb replace {mac} dev {DEVICE} dst 192.0.2.2 self permanent",
    ]


# -- packets --------------------------------------------------------------------------------------------------------


class Routed:
    """Two nodes with a pod each, in different networks, and a router that knows nothing of pods."""

    def __init__(self) -> None:
        self._prefix = f"tvx{os.getpid()}"
        self.router = f"{self._prefix}-router"
        self.nodes = [f"{self._prefix}-node{n}" for n in range(2)]
        self.pods = [f"{self._prefix}-pod{n}" for n in range(2)]
        self.objects = [
            node(f"node{n}", f"198.18.{n + 1}.2", f"10.244.{n}.0/24", f"fd00:10:244:{n}::/64") for n in (0, 1)
        ]

    def build(self) -> None:
        for name in (self.router, *self.nodes, *self.pods):
            ip("netns", "add", name)
            ip("-n", name, "link", "set", "lo", "up")
            forward(name)
        for n, (host, pod) in enumerate(zip(self.nodes, self.pods, strict=True)):
            ip("-n", host, "link", "add", "eth0", "type", "veth", "peer", "name", f"to{n}", "netns", self.router)
            ip("-n", host, "addr", "add", f"198.18.{n + 1}.2/24", "dev", "eth0")
            ip("-n", self.router, "addr", "add", f"198.18.{n + 1}.1/24", "dev", f"to{n}")
            ip("-n", host, "link", "set", "eth0", "up")
            ip("-n", self.router, "link", "set", f"to{n}", "up")
            ip("-n", host, "route", "add", "default", "via", f"198.18.{n + 1}.1")
            ip("-n", host, "link", "add", "pods", "type", "veth", "peer", "name", "eth0", "netns", pod)
            for gateway, address in (
                (f"10.244.{n}.1/24", f"10.244.{n}.2/24"),
                (f"fd00:10:244:{n}::1/64", f"fd00:10:244:{n}::2/64"),
            ):
                dad = ["nodad"] if ":" in gateway else []
                ip("-n", host, "addr", "add", gateway, "dev", "pods", *dad)
                ip("-n", pod, "addr", "add", address, "dev", "eth0", *dad)
            ip("-n", host, "link", "set", "pods", "up")
            ip("-n", pod, "link", "set", "eth0", "up", "mtu", "1450")
            ip("-n", pod, "route", "add", "default", "via", f"10.244.{n}.1")
            ip("-n", pod, "route", "add", "default", "via", f"fd00:10:244:{n}::1")

    def run(self, n: int) -> hosttools.Run:
        async def run(arguments: Sequence[str], text: str = "") -> str:
            return await hosttools.run(("ip", "netns", "exec", self.nodes[n], *arguments), text)

        return run

    async def sync(self, n: int) -> Tunnel | None:
        run = self.run(n)
        wires = wires_of(await listed(run, "address", "show", "up"), but=DEVICE)
        made = tunnel(self.objects, f"node{n}", wires)
        await apply_tunnel(made, run)
        await apply_routes(wanted(self.objects, f"node{n}", wires), made, run)
        return made

    def destroy(self) -> None:
        for name in (self.router, *self.nodes, *self.pods):
            subprocess.run(("ip", "netns", "del", name), check=False, stderr=subprocess.DEVNULL)


def ip(*arguments: str) -> None:
    subprocess.run(("ip", *arguments), check=True)


def forward(namespace: str) -> None:
    settings = "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"
    for setting in settings:
        subprocess.run(("ip", "netns", "exec", namespace, "sysctl", "-qw", setting), check=True)


@contextmanager
def routed() -> Iterator[Routed]:
    made = Routed()
    try:
        made.build()
        yield made
    finally:
        made.destroy()


def sent(source: str, target: str, address: str, *, size: int = 100_000) -> tuple[int, str]:
    """How many bytes of ``size`` arrive at a server in ``target``, and as whose."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    seen: list[str] = []

    def listen() -> socket.socket:
        server = socket.socket(family)
        server.bind((address, 0))
        server.listen(1)
        server.settimeout(3)
        return server

    def send(port: int) -> int:
        with socket.socket(family) as client:
            client.settimeout(3)
            client.connect((address, port))
            client.sendall(bytes(size))
            client.shutdown(socket.SHUT_WR)
            return int.from_bytes(client.recv(8), "big")

    def answer(server: socket.socket) -> None:
        connection, peer = server.accept()
        seen.append(peer[0])
        with connection:
            received = 0
            while chunk := connection.recv(65536):
                received += len(chunk)
            connection.sendall(received.to_bytes(8, "big"))

    with inside(target, listen) as server:
        thread = threading.Thread(target=answer, args=(server,))
        thread.start()
        arrived = inside(source, lambda: send(server.getsockname()[1]))
        thread.join()
    return arrived, seen[0]


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("bridge"), reason="needs root and iproute2")
def test_pods_on_nodes_with_a_router_between_reach_each_other() -> None:
    with routed() as net:
        tunnels = [asyncio.run(net.sync(n)) for n in range(2)]
        assert [made.mtu for made in tunnels if made is not None] == [1450, 1450]
        assert sent(net.pods[0], net.pods[1], "10.244.1.2") == (100_000, "10.244.0.2")
        assert sent(net.pods[1], net.pods[0], "fd00:10:244::2") == (100_000, "fd00:10:244:1::2")
        assert sent(net.nodes[0], net.pods[1], "10.244.1.2") == (100_000, "10.244.0.0")
        asyncio.run(net.sync(0))  # again: nothing breaks
        assert sent(net.pods[0], net.pods[1], "10.244.1.2")[0] == 100_000
        del net.objects[1]
        assert asyncio.run(net.sync(0)) is None
        assert DEVICE not in asyncio.run(net.run(0)(("ip", "link", "show"), ""))
        asyncio.run(cleanup(net.run(1)))
        assert DEVICE not in asyncio.run(net.run(1)(("ip", "link", "show"), ""))
        assert "10.244.0.0" not in asyncio.run(net.run(1)(("ip", "route", "show"), ""))
