"""A new pod answers at once, although its address was another pod's a moment ago: real bridge plugin, real packets."""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tiphys.kubelet.runtime.announce import announce, network_namespace
from tiphys.wire.link.frames import frames

PLUGIN = Path("/usr/lib/cni/bridge")
CHURNED = 30
"""Pods that go through a range of thirteen addresses: each address is given out twice."""
CAN = os.geteuid() == 0 and PLUGIN.exists() and shutil.which("ip") is not None


class Bridged:
    """A node with a bridge in a network namespace, whose pods are made by the bridge plugin."""

    def __init__(self, folder: Path) -> None:
        self.prefix = f"tann{os.getpid()}"
        self.node = f"{self.prefix}-node"
        self.config = json.dumps(
            {
                "cniVersion": "0.4.0",
                "name": self.prefix,
                "type": "bridge",
                "bridge": "br0",
                "isGateway": True,
                "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.9.0.0/28"}]], "dataDir": str(folder)},
            }
        )

    def add(self, name: str) -> tuple[str, str]:
        """A new pod: its namespace and its address."""
        made = f"{self.prefix}-{name}"
        subprocess.run(["ip", "netns", "add", made], check=True)
        return made, json.loads(self._plugin("ADD", made))["ips"][0]["address"].partition("/")[0]

    def remove(self, made: str) -> None:
        self._plugin("DEL", made)
        subprocess.run(["ip", "netns", "delete", made], check=True)

    def _plugin(self, command: str, made: str) -> str:
        named = {"CNI_COMMAND": command, "CNI_CONTAINERID": made, "CNI_NETNS": f"/run/netns/{made}"}
        return subprocess.run(
            ["nsenter", f"--net=/run/netns/{self.node}", PLUGIN],
            input=self.config,
            env={**os.environ, **named, "CNI_IFNAME": "eth0", "CNI_PATH": str(PLUGIN.parent)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout


@contextmanager
def bridged(folder: Path) -> Iterator[Bridged]:
    made = Bridged(folder)
    subprocess.run(["ip", "netns", "add", made.node], check=True)
    try:
        yield made
    finally:
        listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout.splitlines()
        for name in (line.split()[0] for line in listed if line.startswith(f"{made.prefix}-")):
            subprocess.run(["ip", "netns", "delete", name], check=False)


def answers(source: str, address: str) -> bool:
    """Whether a first packet from ``source`` is answered: a closed port refuses, a stale neighbour says nothing."""
    outcomes: list[bool] = []

    def connect() -> None:
        with open(f"/run/netns/{source}") as handle:
            assert ctypes.CDLL(None).setns(handle.fileno(), 0x40000000) == 0
        with socket.socket() as sock:
            sock.settimeout(0.5)  # below the second after which the kernel sends a first packet again
            try:
                sock.connect((address, 9))
            except ConnectionRefusedError:
                outcomes.append(True)
            except TimeoutError:
                outcomes.append(False)

    thread = threading.Thread(target=connect)
    thread.start()
    thread.join()
    return outcomes == [True]


@pytest.mark.root
@pytest.mark.skipif(not CAN, reason="needs root and the CNI plugins")
def test_new_pods_answer_the_node_and_another_pod_in_the_moment_that_they_are_there(tmp_path: Path) -> None:
    with bridged(tmp_path) as net:
        other, _ = net.add("other")
        silent, seen = [], []
        for number in range(CHURNED):
            made, address = net.add(f"p{number}")
            asyncio.run(announce(f"/run/netns/{made}", [address]))
            seen.append(address)
            silent += [(number, source, address) for source in (net.node, other) if not answers(source, address)]
            net.remove(made)
        assert len(seen) > 2 * len(set(seen)), "the addresses were not used around"
        assert silent == []


def test_a_namespace_that_is_gone_is_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    asyncio.run(announce("/run/netns/there-is-no-such", ["10.9.0.2"]))
    assert "cannot announce 10.9.0.2" in caplog.text


def test_the_namespace_is_found_in_the_runtimes_verbose_status() -> None:
    namespaces = [{"type": "pid"}, {"type": "network", "path": "/run/netns/cni-1"}]
    info = json.dumps({"runtimeSpec": {"linux": {"namespaces": namespaces}}})
    assert network_namespace({"info": info}) == "/run/netns/cni-1"
    for none in ({}, {"info": "{"}, {"info": "{}"}, {"info": '{"runtimeSpec": {"linux": {"namespaces": []}}}'}):
        assert network_namespace(none) == ""


def test_an_announcement_names_the_sender_as_both_ends() -> None:
    hardware = bytes.fromhex("02420a090002")
    request, reply = frames(hardware, "10.9.0.2")
    assert request.hex() == "ffffffffffff02420a0900020806000108000604000102420a0900020a0900020000000000000a090002"
    assert reply.hex() == "ffffffffffff02420a0900020806000108000604000202420a0900020a090002ffffffffffff0a090002"


def test_an_advertisement_of_ipv6_is_a_packet_that_the_kernel_takes(tmp_path: Path) -> None:
    if not CAN:
        pytest.skip("needs root and the CNI plugins")
    hardware = bytes.fromhex("02420a090002")
    (frame,) = frames(hardware, "fd00:9::2")
    assert frame[:14].hex() == "33330000000102420a09000286dd"
    assert len(frame) == 14 + 40 + 32
    with bridged(tmp_path) as net:
        pod = f"{net.prefix}-six"
        subprocess.run(["ip", "netns", "add", pod], check=True)
        for command in (
            ["-n", net.node, "link", "add", "v6", "type", "veth", "peer", "name", "eth0", "netns", pod],
            ["-n", net.node, "addr", "add", "fd00:9::1/64", "dev", "v6", "nodad"],
            ["-n", net.node, "link", "set", "v6", "up"],
            ["-n", pod, "addr", "add", "fd00:9::2/64", "dev", "eth0", "nodad"],
            ["-n", pod, "link", "set", "eth0", "up"],
            ["-n", net.node, "neigh", "add", "fd00:9::2", "lladdr", "02:00:00:00:00:01", "nud", "stale", "dev", "v6"],
        ):
            subprocess.run(["ip", *command], check=True)
        known = ["ip", "-json", "-n", net.node, "neigh", "show", "fd00:9::2", "dev", "v6"]
        links = json.loads(
            subprocess.run(["ip", "-json", "-n", pod, "link", "show", "eth0"], capture_output=True).stdout
        )
        asyncio.run(announce(f"/run/netns/{pod}", ["fd00:9::2"]))
        for _ in range(50):  # the frame is taken up by the kernel's own thread
            (entry,) = json.loads(subprocess.run(known, capture_output=True, check=True).stdout)
            if entry["lladdr"] == links[0]["address"]:
                break
            time.sleep(0.01)
        assert entry["lladdr"] == links[0]["address"]
