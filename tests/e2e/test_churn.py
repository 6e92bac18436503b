"""600 pods through a node's /24 of addresses: each answers the node and another pod in the moment that it is Ready."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.machine import Machine, wait_for
from tests.machine import machine as new_machine
from tests.proxy.lab import inside
from tiphys.client.kubeconfig import connected
from tiphys.client.resources import PODS
from tiphys.client.rest import Client

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(3600)]

WAVES, OF = 12, 50
PATIENCE = 4
"""Seconds for an answer. A neighbour entry of the address's last owner keeps a pod silent for 8 to 10; a busy machine
may run a client late."""
ASKER = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "asker", "namespace": "default"},
    "spec": {
        "terminationGracePeriodSeconds": 0,
        "containers": [{"name": "c", "image": "tiphys.local/demo:1", "command": ["sleep", "100000"]}],
    },
}
_CONNECT = f"nc -w {PATIENCE} $ip 8080 </dev/null >/dev/null 2>&1"
ASK = f"while read name ip; do {_CONNECT} && echo $name ok || echo $name silent; done"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Machine]:
    with new_machine("tiphys-churn") as made:
        made.tiphys("up", timeout=180)
        yield made


def pod(name: str) -> dict[str, object]:
    container = {
        "name": "c",
        "image": "tiphys.local/demo:1",
        "command": ["httpd", "-f", "-p", "8080"],
        "readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1},
    }
    meta = {"name": name, "namespace": "default", "labels": {"app": "churn"}}
    spec = {"terminationGracePeriodSeconds": 1, "containers": [container]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec}


@dataclass
class Seen:
    addresses: list[str] = field(default_factory=list)
    silent: list[str] = field(default_factory=list)


def answers(machine: Machine, address: str) -> bool:
    def connect() -> bool:
        try:
            socket.create_connection((address, 8080), timeout=PATIENCE).close()
        except OSError:
            return False
        return True

    return inside(machine.namespace, connect)


class OtherPod:
    """A shell in a pod that connects to what it is given, and says who did not answer."""

    def __init__(self, machine: Machine) -> None:
        command = machine.argv("kubectl", "exec", "-i", "asker", "--", "sh", "-c", ASK)
        self._shell = subprocess.Popen(
            command, env=machine.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.said: dict[str, str] = {}
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def ask(self, name: str, address: str) -> None:
        assert self._shell.stdin is not None
        self._shell.stdin.write(f"{name} {address}\n")
        self._shell.stdin.flush()

    def _read(self) -> None:
        assert self._shell.stdout is not None
        for line in self._shell.stdout:
            name, word = line.split()
            self.said[name] = word

    def close(self) -> None:
        assert self._shell.stdin is not None
        self._shell.stdin.close()
        self._shell.wait(30)
        self._reader.join(30)
        assert self._shell.stdout is not None
        self._shell.stdout.close()


def is_ready(status: dict[str, object]) -> bool:
    conditions: list[dict[str, str]] = status.get("conditions") or []  # type: ignore[assignment]
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def test_600_pods_answer_in_the_moment_that_they_are_ready(
    cluster: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.apply(json.dumps(ASKER))
    wait_for(lambda: is_ready(cluster.get("pod", "asker")["status"]), 60, "the pod that asks")
    other, seen = OtherPod(cluster), Seen()
    started = time.monotonic()

    async def main() -> None:
        async with connected(Path(cluster.environment["KUBECONFIG"]), "churn") as client:
            for wave in range(WAVES):
                await churn(client, [f"p{wave}-{number}" for number in range(OF)])

    async def churn(client: Client, names: list[str]) -> None:
        for name in names:
            await client.create(PODS, pod(name))
        waiting = set(names)
        while waiting:
            for name in sorted(waiting):
                status = (await client.get(PODS, name, "default"))["status"]
                if is_ready(status):
                    waiting.discard(name)
                    address = status["podIP"]
                    other.ask(name, address)
                    seen.addresses.append(address)
                    if not await asyncio.to_thread(answers, cluster, address):
                        seen.silent.append(f"{name} {address} to the node")
        await asyncio.to_thread(wait_for, lambda: other.said.keys() >= set(names), 60, "the other pod's words")
        for name in names:
            await client.delete(PODS, name, "default")
        while [p for p in (await client.list(PODS, "default"))["items"] if p["metadata"]["name"] in names]:
            await asyncio.sleep(0.2)

    inside(cluster.namespace, lambda: asyncio.run(main()))
    other.close()
    seen.silent += [f"{name} to another pod" for name, word in other.said.items() if word != "ok"]
    pods, addresses, took = len(seen.addresses), len(set(seen.addresses)), time.monotonic() - started
    with capsys.disabled():
        print(f"\n{pods} pods by {addresses} addresses in {took:.0f} s: {len(seen.silent)} did not answer at once")
    assert len(seen.addresses) == WAVES * OF
    assert len(set(seen.addresses)) < WAVES * OF, "the addresses were used around"
    assert seen.silent == []
