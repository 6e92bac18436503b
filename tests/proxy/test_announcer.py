"""Addresses of load balancers on a wire: which node has which, and real announcements between namespaces."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from tests.proxy.lab import inside
from tiphys.api.endpointslices import nodes_with_endpoints
from tiphys.api.meta.addresspools import parse_pool
from tiphys.api.object import Object
from tiphys.proxy.loadbalancer.addresses import VALID_SECONDS, HeldAddresses
from tiphys.proxy.loadbalancer.choice import (
    AnnouncingNode,
    WantedAddress,
    interface_of,
    owners,
    wanted_of,
)
from tiphys.runtime.clock import SystemClock
from tiphys.runtime.system.hosttools import CommandError, run
from tiphys.wire.link.frames import Claim, claim_of, frames
from tiphys.wire.link.sockets import ClaimListener, say_who_has

POOL = parse_pool("192.0.2.0/24")
NODES = [AnnouncingNode(f"n{number}", ("192.0.2.0/24",)) for number in range(5)]
CAN = os.geteuid() == 0 and shutil.which("ip") is not None


def test_each_address_has_one_owner_and_one_that_goes_moves_only_its_own() -> None:
    wanted = [WantedAddress(f"192.0.2.{number}") for number in range(200)]
    before = owners(wanted, NODES)
    assert set(before.values()) == {node.name for node in NODES}, "all have their share"
    after = owners(wanted, NODES[1:])
    assert all(after[address] == name for address, name in before.items() if name != "n0")
    assert owners(wanted, list(reversed(NODES))) == before


def test_an_owner_has_a_wire_there_and_a_pod_if_that_is_wanted() -> None:
    far = AnnouncingNode("far", ("198.51.100.0/24",))
    assert owners([WantedAddress("192.0.2.1")], [far, NODES[0]]) == {"192.0.2.1": "n0"}
    assert owners([WantedAddress("192.0.2.1")], [far]) == {"192.0.2.1": "far"}, "it may be reached by a router"
    assert owners([WantedAddress("192.0.2.1", frozenset({"n3"}))], NODES) == {"192.0.2.1": "n3"}
    assert owners([WantedAddress("192.0.2.1", frozenset())], NODES) == {}
    assert owners([WantedAddress("192.0.2.1")], []) == {}


def service(**spec: Any) -> Object:
    ingress = [{"ip": "192.0.2.7", "ipMode": "VIP"}, {"ip": "192.0.2.8", "ipMode": "Proxy"}, {"ip": "203.0.113.1"}]
    status = {"loadBalancer": {"ingress": [*ingress, {"hostname": "lb.example"}]}}
    return {"metadata": {"name": "web"}, "spec": {"type": "LoadBalancer", **spec}, "status": status}


def slice_of(*endpoints: tuple[str, Mapping[str, bool]]) -> Object:
    return {"endpoints": [{"nodeName": node, "conditions": conditions} for node, conditions in endpoints]}


def test_which_addresses_of_a_service_are_to_be_announced() -> None:
    assert wanted_of(service(), [], POOL) == [WantedAddress("192.0.2.7")]
    assert wanted_of(service(loadBalancerClass="other"), [], POOL) == []
    assert wanted_of(service(type="ClusterIP"), [], POOL) == []
    local = service(externalTrafficPolicy="Local")
    assert wanted_of(local, [], POOL) == [WantedAddress("192.0.2.7", frozenset())]
    assert wanted_of(local, [slice_of(("n1", {}))], POOL) == [WantedAddress("192.0.2.7", frozenset({"n1"}))]


def test_nodes_whose_endpoints_end_count_only_while_no_other_is_ready() -> None:
    ending = ("n1", {"ready": False, "serving": True, "terminating": True})
    assert nodes_with_endpoints([slice_of(ending)]) == {"n1"}
    assert nodes_with_endpoints([slice_of(ending), slice_of(("n2", {"ready": True}))]) == {"n2"}
    assert nodes_with_endpoints([slice_of(("n1", {"ready": False, "serving": False}))]) == frozenset()


def test_the_interface_is_the_one_in_whose_network_an_address_is() -> None:
    interfaces = {"eth0": ["198.51.100.5/24"], "br0": ["192.0.2.1/24", "2001:db8::1/64"]}
    assert interface_of("192.0.2.9", interfaces, "198.51.100.5") == "br0"
    assert interface_of("2001:db8::9", interfaces, "198.51.100.5") == "br0"
    assert interface_of("203.0.113.1", interfaces, "198.51.100.5") == "eth0"
    assert interface_of("203.0.113.1", interfaces, "198.51.100.6") == ""


@pytest.mark.parametrize("address", ["192.0.2.9", "2001:db8::9"])
def test_an_announcement_is_read_as_a_claim(address: str) -> None:
    hardware = bytes.fromhex("02420a090002")
    assert {claim_of(frame) for frame in frames(hardware, address)} == {Claim(address, hardware)}


@pytest.mark.parametrize("frame", [b"", bytes(60), frames(bytes(6), "192.0.2.9")[0][:30], b"\xff" * 60])
def test_what_is_no_claim_is_none(frame: bytes) -> None:
    assert claim_of(frame) is None


# On a wire.


class Wire:
    """A bridge between hosts; ``a`` and ``b`` are nodes, ``c`` a client."""

    def __init__(self) -> None:
        self.switch = f"anw{os.getpid()}"
        self.hosts = {name: f"{self.switch}-{name}" for name in "abc"}

    def build(self) -> None:
        _ip("netns", "add", self.switch)
        _ip("-n", self.switch, "link", "add", "br0", "type", "bridge")
        _ip("-n", self.switch, "link", "set", "br0", "up")
        for number, (name, space) in enumerate(self.hosts.items(), 1):
            _ip("netns", "add", space)
            _ip("-n", self.switch, "link", "add", f"p{name}", "type", "veth", "peer", "name", "eth0", "netns", space)
            _ip("-n", self.switch, "link", "set", f"p{name}", "master", "br0", "up")
            _ip("-n", space, "address", "add", f"192.0.2.{number}/24", "dev", "eth0")
            _ip("-n", space, "address", "add", f"2001:db8::{number}/64", "dev", "eth0", "nodad")
            _ip("-n", space, "link", "set", "eth0", "up")

    def destroy(self) -> None:
        for space in (self.switch, *self.hosts.values()):
            subprocess.run(["ip", "netns", "delete", space], check=False, stderr=subprocess.DEVNULL)

    def hardware(self, host: str) -> str:
        return str(_json("-n", self.hosts[host], "link", "show", "eth0")[0]["address"])

    def neighbour(self, address: str) -> str:
        """Whom the client sends to for an address; empty if nobody answers for it within two seconds."""
        inside(self.hosts["c"], lambda: _send_something(address))
        deadline = time.monotonic() + 2
        while time.monotonic() < deadline:
            for entry in _json("-n", self.hosts["c"], "neigh", "show", address):
                if "lladdr" in entry:
                    return str(entry["lladdr"])
            time.sleep(0.02)
        return ""

    def has(self, host: str, address: str) -> bool:
        listed = _json("-n", self.hosts[host], "address", "show", "dev", "eth0")
        return any(entry["local"] == address for entry in listed[0]["addr_info"])


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def _send_something(address: str) -> None:
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"?", (address, 9))


def _json(*words: str) -> list[Any]:
    out = subprocess.run(["ip", "-json", *words], check=True, capture_output=True, text=True).stdout
    return list(json.loads(out or "[]"))


@pytest.fixture
def wire() -> Iterator[Wire]:
    if not CAN:
        pytest.skip("needs root and iproute2")
    made = Wire()
    try:
        made.build()
        yield made
    finally:
        made.destroy()


def on(wire: Wire, host: str, work: Callable[[], Any]) -> Any:
    """Run an event loop in a host's network."""
    return inside(wire.hosts[host], lambda: asyncio.run(work()))


TAKE = """
import asyncio, os, sys
from tiphys.runtime.system.hosttools import run
from tiphys.proxy.loadbalancer.addresses import HeldAddresses
from tiphys.runtime.clock import SystemClock

async def take():
    await HeldAddresses(run, SystemClock(), lambda _: True).hold({sys.argv[1]: "eth0"})
    os.kill(os.getpid(), 9)

asyncio.run(take())
"""


def _take_and_be_killed(host: str, address: str) -> None:
    killed = subprocess.run(["nsenter", f"--net=/run/netns/{host}", sys.executable, "-c", TAKE, address], check=False)
    assert killed.returncode == -9


@pytest.mark.root
@pytest.mark.parametrize("address", ["192.0.2.100", "2001:db8::100"])
def test_an_address_that_moves_is_known_to_neighbours_at_once_and_goes_by_itself(wire: Wire, address: str) -> None:
    _take_and_be_killed(wire.hosts["a"], address)
    assert wire.neighbour(address) == wire.hardware("a")
    killed = time.monotonic()
    _take_and_be_killed(wire.hosts["b"], address)
    neighbours = _json("-n", wire.hosts["c"], "neigh", "show", address)
    assert [entry["lladdr"] for entry in neighbours] == [wire.hardware("b")], "without being asked"
    while wire.has("a", address):
        assert time.monotonic() - killed < VALID_SECONDS + 5, "the kernel removes what is not renewed"
        time.sleep(0.2)


@pytest.mark.root
def test_a_claim_of_another_is_answered_by_the_rightful_and_heeded_by_the_other(wire: Wire) -> None:
    async def scene(*, rightful: bool) -> tuple[bool, int]:
        lost: list[str] = []
        held = HeldAddresses(run, SystemClock(), lambda _: rightful, lambda: lost.append("lost"))
        await held.hold({"192.0.2.100": "eth0"})
        await asyncio.sleep(0)
        inside(wire.hosts["b"], lambda: say_who_has("eth0", ["192.0.2.100"]))
        for _ in range(50):
            await asyncio.sleep(0.02)
            if lost:
                await held.hold(dict(held.addresses))
                break
        there = wire.has("a", "192.0.2.100")
        await held.close()
        return there, len(lost)

    assert on(wire, "a", lambda: scene(rightful=True)) == (True, 0)
    assert on(wire, "a", lambda: scene(rightful=False)) == (False, 1)
    assert not wire.has("a", "192.0.2.100")


@pytest.mark.root
def test_the_kernel_lets_only_claims_through(wire: Wire) -> None:
    async def scene() -> list[Claim]:
        heard: list[Claim] = []
        listener = ClaimListener("eth0", heard.append)
        try:
            wire.neighbour("192.0.2.1")  # packets that are no claims, and ARP that names its sender
            inside(wire.hosts["b"], lambda: say_who_has("eth0", ["192.0.2.50", "2001:db8::50"]))
            say_who_has("eth0", ["192.0.2.77"])  # its own are not heard
            for _ in range(100):
                await asyncio.sleep(0.02)
                if any(":" in claim.address for claim in heard):
                    break
        finally:
            listener.close()
        return heard

    heard = on(wire, "a", scene)
    hardware = bytes.fromhex(wire.hardware("b").replace(":", ""))
    assert {Claim("192.0.2.50", hardware), Claim("2001:db8::50", hardware)} <= set(heard)
    assert not [claim for claim in heard if claim.address == "192.0.2.77"]


@pytest.mark.root
def test_one_address_that_cannot_be_taken_keeps_no_other_from_it(wire: Wire) -> None:
    async def scene() -> bool:
        held = HeldAddresses(run, SystemClock(), lambda _: True)
        with contextlib.suppress(CommandError):
            await held.hold({"192.0.2.100": "gone0", "192.0.2.101": "eth0"})
        there = wire.has("a", "192.0.2.101")
        await held.close()
        return there

    assert on(wire, "a", scene)
