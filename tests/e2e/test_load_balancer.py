"""Services of type LoadBalancer without a cloud: addresses of a pool on the wire of three nodes, and a client there.

The tests of this file run in order, on one cluster.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.test_nodes import Flow
from tests.machine import Machine, wait_for
from tests.machine import machine as new_machine
from tests.webs import NAMES_ITS_NODE, web_on_every_node

pytestmark = pytest.mark.e2e

BRIDGE = "elb0"
POOL = "10.243.0.240-10.243.0.242"
CLIENT = "10.243.0.200"
WEB = web_on_every_node(
    r'mkdir -p /tmp/cgi-bin; printf "#!/bin/sh\necho\necho \$NODE \$REMOTE_ADDR\n" > /tmp/cgi-bin/who; '
    f"chmod +x /tmp/cgi-bin/who; {NAMES_ITS_NODE}"
)


def service(name: str, **spec: Any) -> str:
    wanted = {"type": "LoadBalancer", "selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}], **spec}
    return json.dumps({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": wanted})


class Wire:
    """The cluster, and a client on the nodes' wire that is no node."""

    def __init__(self, nodes: Machine) -> None:
        self.nodes = nodes
        self.client = f"elbc-{os.getpid()}"

    def curl(self, url: str, *words: str) -> str:
        done = subprocess.run(
            ["nsenter", f"--net=/run/netns/{self.client}", "curl", "-s", "--max-time", "2", *words, url],
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stdout.strip()

    def address(self, name: str) -> str:
        def given() -> str:
            shown = self.nodes.get("service", name)["status"].get("loadBalancer", {}).get("ingress") or [{}]
            return str(shown[0].get("ip", ""))

        return str(wait_for(given, 20, f"an address of {name}"))

    def holders(self, address: str) -> list[str]:
        """The nodes that have an address on an interface."""
        spaces = {"first": self.nodes.namespace, "node-2": f"{BRIDGE}-node-2", "node-3": f"{BRIDGE}-node-3"}
        return [
            name
            for name, space in spaces.items()
            if f" {address}/" in subprocess.run(["ip", "-n", space, "address"], capture_output=True, text=True).stdout
        ]


@pytest.fixture(scope="module")
def wire() -> Iterator[Wire]:
    with new_machine("tiphys-lb") as nodes:
        nodes.tiphys("up", "--nodes", "3", "--bridge", BRIDGE, "--load-balancer-pool", POOL, timeout=180)
        made = Wire(nodes)
        steps = (
            ["ip", "netns", "add", made.client],
            ["ip", "-n", nodes.namespace, "link", "add", "elbc", "type", "veth", "peer", "eth0", "netns", made.client],
            ["ip", "-n", nodes.namespace, "link", "set", "elbc", "master", f"{BRIDGE}n", "up"],
            ["ip", "-n", made.client, "address", "add", f"{CLIENT}/24", "dev", "eth0"],
            ["ip", "-n", made.client, "link", "set", "eth0", "up"],
        )
        try:
            for step in steps:
                subprocess.run(step, check=True)
            nodes.apply(WEB)
            nodes.kubectl("rollout", "status", "daemonset/web", "--timeout=90s")
            yield made
        finally:
            subprocess.run(["ip", "netns", "delete", made.client], check=False)


def test_a_service_gets_an_address_that_answers_on_the_wire(wire: Wire) -> None:
    wire.nodes.apply(service("plain"))
    address = wire.address("plain")
    assert address == "10.243.0.240"
    wait_for(lambda: wire.curl(f"http://{address}/"), 15, "an answer")
    wait_for(lambda: len(wire.holders(address)) == 1, 20, "one holder, though the nodes have only just become ready")
    shown = wire.nodes.get("service", "plain")
    assert shown["status"]["loadBalancer"]["ingress"] == [{"ip": address, "ipMode": "VIP"}]
    assert shown["metadata"]["finalizers"] == ["service.kubernetes.io/load-balancer-cleanup"]
    assert {wire.curl(f"http://{address}/") for _ in range(20)} <= {"node-2", "node-3", *_names(wire)}


def _names(wire: Wire) -> list[str]:
    return [node["metadata"]["name"] for node in wire.nodes.get("nodes")["items"]]


def test_an_address_may_be_chosen_and_without_one_a_service_waits(wire: Wire) -> None:
    wire.nodes.apply(service("chosen", loadBalancerIP="10.243.0.242", allocateLoadBalancerNodePorts=False))
    assert wire.address("chosen") == "10.243.0.242"
    assert "nodePort" not in wire.nodes.get("service", "chosen")["spec"]["ports"][0]
    wait_for(lambda: wire.curl("http://10.243.0.242/"), 15, "an answer")
    wire.nodes.apply(service("second"))
    assert wire.address("second") == "10.243.0.241"
    wire.nodes.apply(service("third"))

    def events() -> str:
        return wire.nodes.kubectl("get", "events", "--field-selector", "involvedObject.name=third")

    wait_for(lambda: "the pool has no free address of IPv4 left" in events(), 20, "the reason")
    wire.nodes.apply(service("elsewhere", loadBalancerClass="example.com/other"))
    wire.nodes.kubectl("delete", "service", "second")
    assert wire.address("third") == "10.243.0.241", "what one gives up another gets"
    assert not wire.nodes.get("service", "elsewhere")["status"].get("loadBalancer"), "a class is somebody else's"


def test_a_type_that_changes_gives_the_address_back(wire: Wire) -> None:
    wire.nodes.kubectl("patch", "service", "third", "-p", '{"spec": {"type": "ClusterIP"}}')
    wait_for(lambda: not wire.nodes.get("service", "third")["status"].get("loadBalancer"), 15, "an empty status")
    assert not wire.nodes.get("service", "third")["metadata"].get("finalizers")
    wait_for(lambda: wire.holders("10.243.0.241") == [], 15, "the address to be gone")
    wire.nodes.kubectl("delete", "service", "third", "elsewhere")


def test_source_ranges_say_who_may_come(wire: Wire) -> None:
    wire.nodes.kubectl("patch", "service", "chosen", "-p", '{"spec": {"loadBalancerSourceRanges": ["192.0.2.0/24"]}}')
    wait_for(lambda: wire.curl("http://10.243.0.242/") == "", 15, "the client to be shut out")
    ranges = json.dumps({"spec": {"loadBalancerSourceRanges": ["192.0.2.0/24", f"{CLIENT}/32"]}})
    wire.nodes.kubectl("patch", "service", "chosen", "-p", ranges)
    wait_for(lambda: wire.curl("http://10.243.0.242/"), 15, "the client to be let in")
    wire.nodes.kubectl("delete", "service", "chosen")


def test_local_traffic_goes_to_a_node_with_a_pod_and_keeps_its_sender(wire: Wire) -> None:
    nodes = wire.nodes
    nodes.kubectl("label", "pods", "-l", "app=web", "where=here")
    others = [pod for pod in nodes.get("pods", "-l", "app=web")["items"] if pod["spec"]["nodeName"] != "node-3"]
    nodes.kubectl("label", "pods", *(pod["metadata"]["name"] for pod in others), "where-")
    nodes.apply(service("local", externalTrafficPolicy="Local", selector={"app": "web", "where": "here"}))
    address = wire.address("local")
    wait_for(lambda: wire.holders(address) == ["node-3"], 15, "the node with the pod")
    assert wait_for(lambda: wire.curl(f"http://{address}/cgi-bin/who"), 15, "an answer") == f"node-3 [::ffff:{CLIENT}]"
    check = nodes.get("service", "local")["spec"]["healthCheckNodePort"]
    hosts = {
        node["metadata"]["name"]: node["status"]["addresses"][0]["address"] for node in nodes.get("nodes")["items"]
    }
    assert json.loads(wire.curl(f"http://{hosts['node-3']}:{check}/"))["localEndpoints"] == 1
    assert wire.curl(f"http://{hosts['node-2']}:{check}/", "-o", "/dev/null", "-w", "%{http_code}") == "503"
    there = next(pod for pod in others if pod["spec"]["nodeName"] == "node-2")["metadata"]["name"]
    nodes.kubectl("label", "pod", there, "where=here")
    nodes.kubectl("label", "pods", "-l", "app=web", "where-", "--field-selector", "spec.nodeName=node-3")
    wait_for(lambda: wire.holders(address) == ["node-2"], 15, "the address to follow its pods")
    assert wait_for(lambda: wire.curl(f"http://{address}/cgi-bin/who"), 15, "an answer") == f"node-2 [::ffff:{CLIENT}]"
    nodes.kubectl("delete", "service", "local")


def test_an_address_moves_when_its_node_is_cut_off(wire: Wire, capsys: pytest.CaptureFixture[str]) -> None:
    nodes = wire.nodes
    address = wire.address("plain")
    # One that a further node announces: the first cannot be cut off.
    if wire.holders(address) == ["first"]:
        first = next(name for name in _names(wire) if name not in ("node-2", "node-3"))
        nodes.kubectl("label", "node", first, "node.kubernetes.io/exclude-from-external-load-balancers=")
        wait_for(lambda: wire.holders(address) in (["node-2"], ["node-3"]), 15, "another node to announce it")
    holder = _holder(wire, address)
    (other,) = {"node-2", "node-3"} - {holder}
    # The other node's pods answer, so that only the address is what is missing.
    nodes.kubectl("patch", "service", "plain", "-p", '{"spec": {"internalTrafficPolicy": "Cluster"}}')
    with Flow(wire.client, address) as flow:
        wait_for(lambda: len(flow.seen) >= 50, 30, "requests")
        nodes.tiphys("node", "partition", holder)
        cut = time.monotonic()
        with contextlib.ExitStack() as stack:
            stack.callback(nodes.tiphys, "node", "heal", holder)
            moved = wait_for(lambda: flow.answered_since(cut + 1) and time.monotonic(), 30, "an answer after the cut")
            assert other in wire.holders(address) or "first" in wire.holders(address)
        with capsys.disabled():
            print(f"\naddress moved {moved - cut:.1f} s after its node was cut off")
        assert moved - cut < 15
        _holder(wire, address)
        wait_for(lambda: flow.answered_since(time.monotonic() - 0.5), 60, "answers after healing")
        holder = _holder(wire, address)
        stopped = time.monotonic()
        nodes.tiphys("node", "stop", holder)
        gap = longest_silence(flow, stopped)
        with capsys.disabled():
            print(f"longest silence around a node that is stopped: {gap:.1f} s")
        assert gap < 5
    nodes.tiphys("node", "start", holder)


def _holder(wire: Wire, address: str) -> str:
    """The one node that has the address; while it moves, none or two may have it."""
    (found,) = wait_for(lambda: len(now := wire.holders(address)) == 1 and now, 60, "one node to have the address")
    return str(found)


def longest_silence(flow: Flow, since: float) -> float:
    """The longest time between two requests that were answered, seconds."""
    moments = [since, *(moment for moment, name in flow.seen if moment > since and name), time.monotonic()]
    return max(after - before for before, after in itertools.pairwise(moments))


def test_addresses_go_when_the_cluster_ends(wire: Wire) -> None:
    wire.nodes.tiphys("down", timeout=120)
    assert wire.holders("10.243.0.240") == []
