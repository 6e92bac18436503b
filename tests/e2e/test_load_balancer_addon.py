"""The add-on `load-balancer` on machines of `init` and `join`: an address of a pool, which moves when its node dies.

A control plane, which announces nothing as kubeadm labels it, and two workers; a client on their wire that is no node.
The tests of this file run in order, on one cluster. ``pytest -m slow -s`` prints what docs/loadbalancers.md has.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests import lastingcluster as lasting
from tests.e2e.test_nodes import Flow
from tests.kubeadmnode import Machines, Node, machines
from tests.machine import wait_for
from tests.webs import web_on_every_node

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(1200)]

POOL = "198.18.7.240-198.18.7.241"
CLIENT = "198.18.7.200"
WORKERS = ("w1", "w2")
SERVICE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "outside"},
    "spec": {"type": "LoadBalancer", "selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]},
}


@dataclass
class Wire:
    machines: Machines
    client: str

    @property
    def first(self) -> Node:
        return self.machines.nodes["cp1"]

    def holders(self, address: str) -> list[str]:
        """The machines that are on the wire and have an address there."""
        return [
            name
            for name, node in self.machines.nodes.items()
            if f" {address}/" in node.run("ip", "address", "show", "dev", "eth0", "up").stdout
        ]

    def answers(self, address: str, count: int) -> set[str]:
        """Which nodes' pods answer the client at an address; fails unless each of ``count`` requests is answered."""
        command = ("curl", "-s", "--max-time", "3", f"http://{address}/")
        said = [
            subprocess.run(
                ["nsenter", f"--net=/run/netns/{self.client}", *command], capture_output=True, text=True, check=False
            ).stdout.strip()
            for _ in range(count)
        ]
        return set(said) if all(said) else set()

    def address(self) -> str:
        def given() -> str:
            shown = json.loads(self.first.kubectl("get", "service", "outside", "-o", "json"))
            return str((shown["status"].get("loadBalancer", {}).get("ingress") or [{}])[0].get("ip", ""))

        return str(wait_for(given, 120, "an address"))

    def power_cut(self, name: str) -> None:
        """The machine leaves the wire, and nothing runs on it any more."""
        node = self.machines.nodes[name]
        node.run("ip", "link", "set", "eth0", "down")
        node.kill_everything()


@pytest.fixture(scope="module")
def wire() -> Iterator[Wire]:
    with machines("elba") as made:
        first = made.add("cp1")
        first.import_image()
        lasting.init(first)
        authority = lasting.pin(first)
        for name in WORKERS:
            worker = made.add(name)
            worker.import_image()
            lasting.join(worker, authority, control_plane=False)
        client = f"{made.wire}-client"
        steps = (
            ["ip", "netns", "add", client],
            ["ip", "-n", made.wire, "link", "add", "client", "type", "veth", "peer", "eth0", "netns", client],
            ["ip", "-n", made.wire, "link", "set", "client", "master", "wire", "up"],
            ["ip", "-n", client, "address", "add", f"{CLIENT}/24", "dev", "eth0"],
            ["ip", "-n", client, "link", "set", "eth0", "up"],
        )
        try:
            for step in steps:
                subprocess.run(step, check=True)
            yield Wire(made, client)
        finally:
            subprocess.run(["ip", "netns", "delete", client], check=False)


def test_the_addon_runs_on_every_machine(wire: Wire) -> None:
    wire.first.tiphys(
        "addon", "apply", "load-balancer", f"--load-balancer-pool={POOL}", f"--kubeconfig={lasting.ADMIN}"
    )
    wire.first.kubectl(
        *("rollout", "status", "-n", "kube-system", "daemonset/load-balancer", "--timeout=240s"), timeout=260
    )
    wire.first.run("kubectl", f"--kubeconfig={lasting.ADMIN}", "apply", "-f", "-", stdin=web_on_every_node())
    wire.first.kubectl("rollout", "status", "daemonset/web", "--timeout=240s", timeout=260)


def test_a_service_gets_an_address_of_the_pool_that_answers_from_outside(wire: Wire) -> None:
    wire.first.run("kubectl", f"--kubeconfig={lasting.ADMIN}", "apply", "-f", "-", stdin=json.dumps(SERVICE))
    address = wire.address()
    assert address == "198.18.7.240"
    wait_for(lambda: wire.answers(address, 20) == set(WORKERS), 120, "both workers' pods to answer")
    holders = wait_for(lambda: len(now := wire.holders(address)) == 1 and now, 60, "one machine that has the address")
    assert holders[0] in WORKERS, "a control plane of kubeadm's takes no part"
    shown = json.loads(wire.first.kubectl("get", "service", "outside", "-o", "json"))
    assert shown["status"]["loadBalancer"]["ingress"] == [{"ip": address, "ipMode": "VIP"}]


def test_the_address_moves_when_its_machine_dies(wire: Wire, capsys: pytest.CaptureFixture[str]) -> None:
    address = wire.address()
    (holder,) = wire.holders(address)
    (other,) = {*WORKERS} - {holder}
    with Flow(wire.client, address) as flow:
        wait_for(lambda: flow.answered_since(0) >= 50, 60, "requests")
        cut = time.monotonic()
        wire.power_cut(holder)
        moved = wait_for(lambda: flow.answered_since(cut + 1) and time.monotonic(), 120, "an answer after its death")
        wait_for(lambda: wire.holders(address) == [other], 60, "the other machine to have it")
        # The dead machine's pod is an endpoint until the node is no longer taken for ready.
        wait_for(lambda: wire.answers(address, 20) == {other}, 180, "every request to be answered")
        settled = time.monotonic()
    with capsys.disabled():
        print(f"\nanswered again {moved - cut:.1f} s after its machine died, every request after {settled - cut:.0f} s")


def test_what_the_service_gives_back_nobody_has(wire: Wire) -> None:
    address = wire.address()
    wire.first.kubectl("delete", "service", "outside", "--timeout=60s", timeout=90)
    wait_for(lambda: wire.holders(address) == [], 60, "the address to be gone")
