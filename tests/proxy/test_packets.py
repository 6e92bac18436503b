"""Real packets through real rules, in network namespaces: what a client reaches, and as whom it is seen."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import re
import shutil
import socket
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from tests.proxy.lab import CLIENT, NODE, NODE_V6, OUTSIDE_ROUTER, PODS, PODS_V6, Lab, ask_udp, lab
from tests.proxy.objects import endpoint, service, slice_of
from tiphys.proxy import conntrack
from tiphys.proxy.iptables.backend import IptablesBackend
from tiphys.proxy.modes import Mode, clean_up_others, pod_match
from tiphys.proxy.nft import NftBackend
from tiphys.proxy.rules import Options
from tiphys.proxy.state import Family, Place
from tiphys.proxy.tracker import Tracker
from tiphys.proxy.userspace.backend import UserspaceBackend
from tiphys.runtime.clock import SystemClock
from tiphys.runtime.system.hosttools import CommandError

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("nft"), reason="needs root and nft"),
]

BACKENDS: dict[Mode, type[NftBackend | IptablesBackend]] = {"nftables": NftBackend, "iptables": IptablesBackend}
IP = "10.96.0.20"
BOTH = (endpoint(PODS[0]), endpoint(PODS[1]))


@pytest.fixture(scope="module")
def net() -> Iterator[Lab]:
    with lab() as built:
        for i, pod in enumerate(built.pods):
            built.serve_tcp(pod, 8080, f"pod{i}")
            built.serve_udp(pod, 8080, f"pod{i}")
        yield built


def options(mode: Mode, family: Family) -> Options:
    pods, services = ("10.244.0.0/16", "10.96.0.0/16") if family == "ip" else ("fd00:10:244::/56", "fd00:10:96::/112")
    from_pod, not_from_pod = pod_match(mode, family, ("ClusterCIDR", ""), (pods,))
    return Options(
        family,
        place=Place("node-1"),
        node_ip=OUTSIDE_ROUTER,
        from_pod=from_pod,
        not_from_pod=not_from_pod,
        localhost_node_ports=family == "ip",
        service_ranges=(services,),
    )


class Node:
    """The proxy's backend on the lab's node, with a tracker in front."""

    def __init__(self, net: Lab, mode: Mode, family: Family = "ip") -> None:
        self.net, self.mode = net, mode
        self.clock = LaterClock()
        self.tracker = Tracker(family, "node-1")
        self.backend = BACKENDS[mode](options(mode, family), self.clock, net.run)

    def sync(self) -> None:
        asyncio.run(self.backend.sync(self.tracker.take_changes()))

    def has(self, svc: dict[str, Any], *slices: dict[str, Any]) -> None:
        self.tracker.service_changed(svc)
        for slice_ in slices:
            self.tracker.slice_changed(slice_)
        self.sync()

    def table(self) -> str:
        if self.mode == "nftables":
            return asyncio.run(self.net.run(("nft", "list", "table", "ip", "tiphys")))
        return re.sub(r"^#.*|\[.*\]", "", asyncio.run(self.net.run(("iptables-save",))), flags=re.MULTILINE)


class LaterClock(SystemClock):
    """The machine's clock, and how far it was put on."""

    later = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.later


def left_behind(net: Lab) -> str:
    listings = (("nft", "list", "ruleset"), ("iptables-save",), ("ip6tables-save",))
    return "".join(asyncio.run(net.run(listing)) for listing in listings)


def _node(net: Lab, mode: Mode, family: Family = "ip") -> Iterator[Node]:
    made = Node(net, mode, family)
    made.sync()
    yield made
    asyncio.run(made.backend.cleanup())
    assert not re.search("tiphys|KUBE", left_behind(net))


@pytest.fixture(params=list(BACKENDS))
def node(net: Lab, request: pytest.FixtureRequest) -> Iterator[Node]:
    """A node in each mode whose rules are the kernel's."""
    yield from _node(net, request.param)


@pytest.fixture
def nft_node(net: Lab) -> Iterator[Node]:
    yield from _node(net, "nftables")


@pytest.fixture
def iptables_node(net: Lab) -> Iterator[Node]:
    yield from _node(net, "iptables")


def test_cluster_ip_reaches_every_endpoint_from_a_pod_and_from_the_host(net: Lab, node: Node) -> None:
    node.has(service(), slice_of(*BOTH))
    for place in (net.pods[0], net.node):
        assert {net.ask(place, IP, 80)[0] for _ in range(30)} == {"pod0", "pod1"}


def test_a_pod_reaches_itself_through_its_service(net: Lab, node: Node) -> None:
    node.has(service(), slice_of(endpoint(PODS[0])))
    assert net.ask(net.pods[0], IP, 80) == ("pod0", NODE)


def test_pods_keep_their_address_and_outside_clients_are_masqueraded(net: Lab, node: Node) -> None:
    node.has(service(), slice_of(endpoint(PODS[0])))
    assert net.ask(net.pods[1], IP, 80) == ("pod0", PODS[1])
    assert net.ask(net.client, IP, 80) == ("pod0", NODE)


def test_node_port_from_outside_from_the_host_and_on_localhost(net: Lab, node: Node) -> None:
    node.has(service(type="NodePort"), slice_of(endpoint(PODS[1])))
    assert net.ask(net.client, OUTSIDE_ROUTER, 30080) == ("pod1", NODE)
    assert net.ask(net.node, OUTSIDE_ROUTER, 30080)[0] == "pod1"
    assert net.ask(net.node, "127.0.0.1", 30080)[0] == "pod1"


def test_node_ports_answer_on_the_addresses_that_are_named(net: Lab, node: Node) -> None:
    of_the_wire = replace(options(node.mode, "ip"), node_port_ranges=(f"{OUTSIDE_ROUTER}/32",))
    node.backend = BACKENDS[node.mode](of_the_wire, node.clock, net.run)
    node.has(service(type="NodePort"), slice_of(endpoint(PODS[1])))
    assert net.ask(net.client, OUTSIDE_ROUTER, 30080) == ("pod1", NODE)
    for other in (NODE, "127.0.0.1"):
        with pytest.raises(ConnectionRefusedError):
            net.ask(net.node, other, 30080)


def test_external_policy_local_keeps_the_clients_address(net: Lab, node: Node) -> None:
    svc = service(type="NodePort", externalTrafficPolicy="Local")
    node.has(svc, slice_of(endpoint(PODS[1]), endpoint("10.244.9.9", node="elsewhere")))
    for _ in range(8):
        assert net.ask(net.client, OUTSIDE_ROUTER, 30080) == ("pod1", CLIENT)


def test_policy_local_without_local_endpoints_drops_outside_and_serves_the_node(net: Lab, node: Node) -> None:
    svc = service(type="NodePort", externalTrafficPolicy="Local")
    node.has(svc, slice_of(endpoint(PODS[1], node="elsewhere")))
    with pytest.raises(TimeoutError):
        net.ask(net.client, OUTSIDE_ROUTER, 30080, timeout=0.4)
    assert net.ask(net.node, OUTSIDE_ROUTER, 30080)[0] == "pod1"
    assert net.ask(net.pods[0], OUTSIDE_ROUTER, 30080) == ("pod1", PODS[0])


def test_without_endpoints_the_connection_is_refused(net: Lab, node: Node) -> None:
    node.has(service(type="NodePort"), slice_of())
    for place, address, port in (
        (net.pods[0], IP, 80),
        (net.node, IP, 80),
        (net.client, OUTSIDE_ROUTER, 30080),
        (net.node, "127.0.0.1", 30080),
    ):
        with pytest.raises(ConnectionRefusedError):
            net.ask(place, address, port)


def test_unknown_ports_are_refused_and_unallocated_addresses_dropped(net: Lab, nft_node: Node) -> None:
    nft_node.has(service(), slice_of(*BOTH))
    with pytest.raises(ConnectionRefusedError):
        net.ask(net.pods[0], IP, 81)
    with pytest.raises(TimeoutError):
        net.ask(net.pods[0], "10.96.0.99", 80, timeout=0.4)


def test_client_ip_affinity_sticks_until_the_endpoint_goes(net: Lab, node: Node) -> None:
    svc = service(sessionAffinity="ClientIP", sessionAffinityConfig={"clientIP": {"timeoutSeconds": 60}})
    node.has(svc, slice_of(*BOTH))
    (first,) = {net.ask(net.pods[0], IP, 80)[0] for _ in range(12)}
    node.backend.configure(place=Place("node-1", "west"))  # a full resync keeps who is with whom
    node.sync()
    assert {net.ask(net.pods[0], IP, 80)[0] for _ in range(6)} == {first}
    left = int(first == "pod0")
    node.has(svc, slice_of(endpoint(PODS[left])))
    assert net.ask(net.pods[0], IP, 80)[0] == f"pod{left}"


def test_load_balancer_address_with_source_ranges(net: Lab, node: Node) -> None:
    def balanced(*ranges: str) -> dict[str, Any]:
        status = {"loadBalancer": {"ingress": [{"ip": "203.0.113.5"}]}}
        return service(type="LoadBalancer", loadBalancerSourceRanges=list(ranges), status=status)

    node.has(balanced("192.168.50.0/24"), slice_of(endpoint(PODS[0])))
    assert net.ask(net.client, "203.0.113.5", 80) == ("pod0", NODE)
    node.has(balanced("198.51.100.0/24"))
    with pytest.raises(TimeoutError):
        net.ask(net.client, "203.0.113.5", 80, timeout=0.4)
    assert net.ask(net.client, OUTSIDE_ROUTER, 30080)[0] == "pod0"  # NodePorts are not subject to it


def test_external_ip(net: Lab, node: Node) -> None:
    node.has(service(externalIPs=["203.0.113.9"]), slice_of(endpoint(PODS[0])))
    assert net.ask(net.client, "203.0.113.9", 80) == ("pod0", NODE)


def test_udp_and_stale_flows(net: Lab, node: Node) -> None:
    svc = service(protocol="UDP")
    node.has(svc, slice_of(endpoint(PODS[0]), protocol="UDP"))
    sock = net.udp_socket(net.node)
    with sock:
        assert ask_udp(sock, IP, 80) == "pod0"
        node.has(svc, slice_of(endpoint(PODS[1]), protocol="UDP"))
        assert ask_udp(sock, IP, 80) == "pod0"  # the kernel remembers
        states = [node.tracker.state(key) for key in node.tracker.services()]
        assert asyncio.run(conntrack.clean("ip", states, net.run)) == 1
        assert ask_udp(sock, IP, 80) == "pod1"
        assert asyncio.run(conntrack.clean("ip", states, net.run)) == 0


def test_a_connection_that_a_dead_endpoint_did_not_answer_is_forgotten(net: Lab, node: Node) -> None:
    dead = "10.244.0.99"
    # Its node is still thought to be there: nothing says that it cannot be reached.
    asyncio.run(net.run(("ip", "neigh", "replace", dead, "lladdr", "02:00:00:00:00:99", "dev", "br0")))
    node.has(service(), slice_of(endpoint(dead)))

    def connect() -> str:
        """From one port, as a client does that has used all others."""
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((PODS[0], 40404))
            sock.settimeout(1)
            try:
                sock.connect((IP, 80))
                return sock.recv(100).decode()
            except OSError:
                return ""

    assert net.inside(net.pods[0], connect) == ""
    node.has(service(), slice_of(endpoint(dead, ready=False, serving=False), endpoint(PODS[1])))
    assert net.inside(net.pods[0], connect) == "", "the kernel remembers"
    states = [node.tracker.state(key) for key in node.tracker.services()]
    assert all(map(conntrack.unserving, states))
    assert asyncio.run(conntrack.clean("ip", states, net.run, "tcp")) == 1
    assert net.inside(net.pods[0], connect).startswith("pod1")
    assert asyncio.run(conntrack.clean("ip", states, net.run, "tcp")) == 0


def test_what_a_service_leaves_behind_is_removed(net: Lab, node: Node) -> None:
    empty = node.table()
    svc = service(type="NodePort", sessionAffinity="ClientIP")
    node.has(svc, slice_of(*BOTH))
    assert "default/web" in node.table()
    node.tracker.service_deleted(svc)
    node.sync()
    with pytest.raises(OSError, match=r"timed out|No route"):
        net.ask(net.pods[0], IP, 80, timeout=0.3)
    node.clock.later += 1  # chains are deleted when they have been unused for a second
    node.sync()
    assert node.table() == empty
    assert not node.backend.has_stale


def test_a_table_that_somebody_changed_is_put_right(net: Lab, nft_node: Node) -> None:
    node = nft_node
    node.has(service(), slice_of(*BOTH))
    asyncio.run(net.run(("nft", "-f", "-"), "delete table ip tiphys\nadd table ip tiphys\n"))
    node.tracker.slice_changed(slice_of(endpoint(PODS[0])))
    changes = node.tracker.take_changes()
    with pytest.raises(CommandError, match="No such file"):
        asyncio.run(node.backend.sync(changes))
    asyncio.run(node.backend.sync(changes))
    assert net.ask(net.node, IP, 80)[0] == "pod0"


def test_tables_that_somebody_emptied_are_filled_again(net: Lab, iptables_node: Node) -> None:
    iptables_node.has(service(), slice_of(*BOTH))
    for table in ("filter", "nat"):
        asyncio.run(net.run(("iptables", "-t", table, "-F")))
        asyncio.run(net.run(("iptables", "-t", table, "-X")))
    assert not iptables_node.backend.full_sync_due
    iptables_node.clock.later += 30
    assert iptables_node.backend.full_sync_due
    iptables_node.sync()
    assert net.ask(net.node, IP, 80)[0] in ("pod0", "pod1")


def test_services_that_come_and_go_leave_the_rules_as_a_full_sync_writes_them(net: Lab, iptables_node: Node) -> None:
    node = iptables_node
    many = [
        service(f"s{number}", f"10.96.1.{number}", type="NodePort", node_port=31000 + number) for number in range(9)
    ]
    for svc in many:
        node.has(svc, slice_of(*BOTH, name=svc["metadata"]["name"]))
    for svc in many[::2]:
        node.tracker.service_deleted(svc)
        node.sync()
    node.has(many[0], slice_of(name="s0"))
    by_steps = node.table()
    rules = {
        table: asyncio.run(net.run(("iptables-save", "-t", table))).count("\n-A KUBE-") for table in ("nat", "filter")
    }
    assert node.backend.last.rules == rules, "counted as they come and go"
    assert not node.backend.last.full
    assert 0 < sum(node.backend.last.written.values()) < sum(rules.values()) / 2
    node.clock.later += 3600
    assert node.backend.full_sync_due
    node.sync()
    assert node.table() == by_steps
    assert (node.backend.last.full, node.backend.last.rules, node.backend.last.written) == (True, rules, rules)


def test_what_cannot_be_tidied_up_is_said_and_all_is_written_again(net: Lab, nft_node: Node) -> None:
    node, svc = nft_node, service()
    assert node.backend.last.full
    node.has(svc, slice_of(*BOTH))
    node.tracker.service_deleted(svc)
    node.sync()
    assert not node.backend.last.full
    gone = next(iter(node.backend._stale))
    asyncio.run(net.run(("nft", "delete", "chain", "ip", "tiphys", gone)))
    node.clock.later += 1
    node.sync()
    assert not node.backend.last.tidied
    node.sync()
    assert (node.backend.last.full, node.backend.last.tidied) == (True, True)


def test_a_rule_that_somebody_took_away_brings_all_again(net: Lab, iptables_node: Node) -> None:
    node = iptables_node
    node.has(service(), slice_of(*BOTH))
    node.has(service("other", "10.96.0.21"), slice_of(*BOTH, name="other"))
    asyncio.run(net.run(("iptables", "-t", "nat", "-F", "KUBE-SERVICES")))
    node.tracker.service_deleted(service())
    changes = node.tracker.take_changes()
    with pytest.raises(CommandError, match="Bad rule"):
        asyncio.run(node.backend.sync(changes))
    asyncio.run(node.backend.sync({}))
    assert net.ask(net.node, "10.96.0.21", 80)[0] in ("pod0", "pod1")
    assert "default/web" not in node.table()


@pytest.mark.parametrize(("old", "new"), [("iptables", "nftables"), ("nftables", "iptables")])
def test_a_proxy_of_another_mode_leaves_nothing_of_the_old(net: Lab, old: Mode, new: Mode) -> None:
    before = Node(net, old)
    before.has(service(type="NodePort", sessionAffinity="ClientIP"), slice_of(*BOTH))
    asyncio.run(clean_up_others(new, ("ip",), net.run))
    assert not re.search("tiphys|KUBE", left_behind(net))
    with contextlib.contextmanager(_node)(net, new) as after:
        after.has(service(), slice_of(*BOTH))
        assert net.ask(net.node, IP, 80)[0] in ("pod0", "pod1")


def test_a_service_between_draining_endpoints_and_none(net: Lab, node: Node) -> None:
    draining = endpoint(PODS[0], ready=False, serving=True, terminating=True)
    node.has(service(), slice_of(draining, endpoint(PODS[1])))
    assert {net.ask(net.node, IP, 80)[0] for _ in range(8)} == {"pod1"}
    node.has(service(), slice_of(draining))
    assert net.ask(net.node, IP, 80)[0] == "pod0"
    node.has(service(), slice_of(endpoint(PODS[0], ready=False, serving=False, terminating=True)))
    with pytest.raises(ConnectionRefusedError):
        net.ask(net.node, IP, 80)


def test_a_balancer_in_proxy_mode_is_not_short_circuited(net: Lab, node: Node) -> None:
    status = {"loadBalancer": {"ingress": [{"ip": CLIENT, "ipMode": "Proxy"}]}}
    node.has(service(type="LoadBalancer", status=status), slice_of(endpoint(PODS[0])))
    with pytest.raises(ConnectionRefusedError):
        net.ask(net.pods[1], CLIENT, 80)
    status["loadBalancer"]["ingress"][0]["ipMode"] = "VIP"
    node.has(service(type="LoadBalancer", status=status))
    assert net.ask(net.pods[1], CLIENT, 80)[0] == "pod0"


def test_internal_policy_local(net: Lab, node: Node) -> None:
    node.has(service(internalTrafficPolicy="Local"), slice_of(endpoint(PODS[0]), endpoint(PODS[1], node="elsewhere")))
    assert {net.ask(net.pods[1], IP, 80) for _ in range(6)} == {("pod0", PODS[1])}
    node.has(service(internalTrafficPolicy="Local"), slice_of(endpoint(PODS[1], node="elsewhere")))
    with pytest.raises(TimeoutError):
        net.ask(net.pods[0], IP, 80, timeout=0.3)


@pytest.mark.parametrize("mode", list(BACKENDS))
def test_ipv6(net: Lab, mode: Mode) -> None:
    address, both = "fd00:10:96::20", (endpoint(PODS_V6[0]), endpoint(PODS_V6[1]))
    with contextlib.contextmanager(_node)(net, mode, "ip6") as node:
        node.has(service(cluster_ip=address, type="NodePort"), slice_of(*both))
        for place in (net.pods[0], net.node):
            assert {net.ask(place, address, 80)[0] for _ in range(20)} == {"pod0", "pod1"}
        assert net.ask(net.pods[1], NODE_V6, 30080)[0] in ("pod0", "pod1")
        node.has(service(cluster_ip=address, sessionAffinity="ClientIP"), slice_of(endpoint(PODS_V6[0])))
        assert net.ask(net.pods[0], address, 80) == ("pod0", NODE_V6)
        assert net.ask(net.pods[1], address, 80) == ("pod0", PODS_V6[1])
        node.has(service(cluster_ip=address), {**slice_of(), "addressType": "IPv6"})
        with pytest.raises(ConnectionRefusedError):
            net.ask(net.pods[0], address, 80)


def test_a_new_proxy_takes_over_the_table_of_the_old(net: Lab, node: Node) -> None:
    node.has(service("old", "10.96.0.21"), slice_of(*BOTH, name="old"))
    other = Node(net, node.mode)
    other.has(service(), slice_of(*BOTH))
    assert net.ask(net.node, IP, 80)[0] in ("pod0", "pod1")
    assert "10.96.0.21" not in other.table()


def test_userspace_relays_where_there_is_no_packet_filter(net: Lab) -> None:
    asyncio.run(_userspace(net))


async def _userspace(net: Lab) -> None:
    """In this process' own namespace, with loopback addresses as endpoints."""
    server = await asyncio.start_server(lambda _, w: (w.write(b"hello"), w.close()), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    commands: list[tuple[str, ...]] = []

    async def run(arguments: Any, text: str) -> str:
        commands.append(tuple(arguments))
        return ""

    backend = UserspaceBackend(family="ip", place=Place("node-1"), clock=SystemClock(), rng=random.Random(1), run=run)
    tracker = Tracker("ip", "node-1")
    tracker.service_changed(service(cluster_ip="127.0.99.1", type="NodePort", node_port=31987))
    tracker.slice_changed(slice_of(endpoint("127.0.0.1"), port=port))
    await backend.sync(tracker.take_changes())
    for address in (("127.0.99.1", 80), ("127.0.0.1", 31987)):
        reader, writer = await asyncio.open_connection(*address)
        assert await reader.read() == b"hello"
        writer.close()
    await backend.cleanup()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.99.1", 80)
    host_range = "127.0.99.1/32"
    assert commands == [
        ("ip", "addr", "replace", host_range, "dev", "lo", "label", "lo:tiphys"),
        ("ip", "addr", "del", host_range, "dev", "lo"),
    ]
    server.close()
    await server.wait_closed()
