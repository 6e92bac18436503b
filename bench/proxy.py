"""What programming Services costs, beside upstream's kube-proxy in one run; and what a connection by ClusterIP costs.

    python -m bench.proxy [--services 1000 10000] [--beside /path/to/kube-proxy] [--changes 10] [--rounds 1]

Needs root. All of it is in a network namespace of its own: an API server with the Services (three endpoints each, two
of them on this node), then one proxy after the other in each mode, as often as there are rounds. *From nothing* is the
time from the start of the process until its first sync is done, with the CPU time of the process and its children;
*sync* is what the proxy itself reports (`kubeproxy_sync_proxy_rules_duration_seconds`). A *change* replaces one
endpoint; its CPU time has that of two looks at the metrics in it. The figures are medians, and the last line of each
mode says how many times as much upstream's takes.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.proxy.lab import PODS, Lab, lab
from tests.proxy.objects import endpoint, service, slice_of
from tests.proxy.test_packets import BACKENDS, Node
from tiphys.api.object import Object
from tiphys.client.kubeconfig import connected
from tiphys.client.resources import ENDPOINT_SLICES, NODES, SERVICES
from tiphys.client.rest import Client
from tiphys.proxy.modes import Mode
from tiphys.runtime.system import hosttools

CLONE_NEWNET = 0x40000000
NODE_IP = "198.18.0.10"
API, HEALTH, METRICS = 16443, 16256, 16249
LONGEST = 300
"""Seconds for one sync."""
SETTLED = 0.4
"""Seconds after which a change of an idle proxy is done."""
MODES: tuple[Mode, ...] = ("nftables", "iptables")
TIPHYS = "import sys; from tiphys.cli.main import main; sys.exit(main(sys.argv[1:]))"
_KUBECONFIG = f"""
apiVersion: v1
kind: Config
clusters: [{{name: c, cluster: {{server: "https://127.0.0.1:{API}", insecure-skip-tls-verify: true}}}}]
users: [{{name: u, user: {{token: "token"}}}}]
contexts: [{{name: c, context: {{cluster: c, user: u}}}}]
current-context: c
"""
_CONFIG = """
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: {mode}
clusterCIDR: 10.244.0.0/16
hostnameOverride: bench
clientConnection: {{kubeconfig: {kubeconfig}}}
healthzBindAddress: 127.0.0.1:{health}
metricsBindAddress: 127.0.0.1:{metrics}
conntrack: {{maxPerCore: 0, min: 0}}
{mode}: {{minSyncPeriod: 100ms, syncPeriod: 30s}}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--services", type=int, nargs="+", default=[1000, 10_000])
    parser.add_argument("--beside", type=Path, help="upstream's kube-proxy")
    parser.add_argument("--modes", nargs="+", default=list(MODES), choices=MODES)
    parser.add_argument("--changes", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--connections", type=int, default=2000)
    flags = parser.parse_args()
    with lab() as net:
        connections(net, flags.connections)
    own_network()
    for count in flags.services:
        with tempfile.TemporaryDirectory(prefix="bench-proxy-") as folder, api_server(Path(folder)):
            asyncio.run(compare(Path(folder), count, flags))


# -- programming ----------------------------------------------------------------------------------------------------


def own_network() -> None:
    """Move this process into a new network namespace with an address and a default route."""
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "unshare")
    for command in (
        "link set lo up",
        "link add eth0 type veth peer name eth0-peer",
        "link set eth0-peer up",
        f"addr add {NODE_IP}/24 dev eth0",
        "link set eth0 up",
        "route add default dev eth0",
    ):
        subprocess.run(["ip", *command.split()], check=True)


@contextlib.contextmanager
def api_server(folder: Path) -> Iterator[None]:
    key = ec.generate_private_key(ec.SECP256R1())
    (folder / "sa.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()))
    (folder / "tokens.csv").write_text('token,admin,admin,"system:masters"\n')
    (folder / "kubeconfig").write_text(_KUBECONFIG)
    command = [
        *(sys.executable, "-c", TIPHYS, "kube-apiserver", "--data-dir=data", "--bind-address=127.0.0.1"),
        *(f"--secure-port={API}", f"--advertise-address={NODE_IP}", "--cert-dir=certificates"),
        *("--token-auth-file=tokens.csv", "--authorization-mode=RBAC", "--service-account-signing-key-file=sa.key"),
        *("--service-account-key-file=sa.key", "--service-account-issuer=https://bench"),
        "--service-cluster-ip-range=10.96.0.0/12",
    ]
    with (folder / "apiserver.log").open("wb") as log, subprocess.Popen(command, cwd=folder, stderr=log) as process:
        try:
            yield
        finally:
            process.terminate()


async def compare(folder: Path, count: int, flags: argparse.Namespace) -> None:
    programs = {"tiphys": [sys.executable, "-c", TIPHYS, "kube-proxy"]}
    if flags.beside is not None:
        programs["upstream"] = [str(flags.beside)]
    async with connected(folder / "kubeconfig", "bench") as client:
        await until_ready(client)
        await fill(client, count)
        for mode in flags.modes:
            figures: dict[str, list[Figures]] = {name: [] for name in programs}
            for _ in range(flags.rounds):
                for name, program in programs.items():
                    with contextlib.suppress(NotDone):
                        figures[name].append(await measure(folder, client, program, mode, flags.changes))
                    await hosttools.run(("nft", "flush", "ruleset"))
            rows = {name: medians(found) for name, found in figures.items() if found}
            for name in programs:
                row = rows.get(name, f"not done within {LONGEST} s")
                print(f"{count:6} services, {mode:8} {name:8} {row}", flush=True)
            if len(rows) == 2:
                print(f"{count:6} services, {mode:8} {compared(*rows.values())}", flush=True)


class NotDone(Exception):
    """A proxy that did not finish its first sync in time."""


async def until_ready(client: Client) -> None:
    async with asyncio.timeout(60):
        while True:
            with contextlib.suppress(Exception):
                await client.list(NODES)
                return
            await asyncio.sleep(0.1)


async def fill(client: Client, count: int) -> None:
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "bench"}}
    address = {"status": {"addresses": [{"type": "InternalIP", "address": NODE_IP}]}}
    await client.create(NODES, node)
    await client.patch(NODES, "bench", address, subresource="status")
    gate = asyncio.Semaphore(16)

    async def one(number: int) -> None:
        async with gate:
            await client.create(SERVICES, described(number))
            await client.create(ENDPOINT_SLICES, endpoints(number))

    async with asyncio.TaskGroup() as group:
        for number in range(count):
            group.create_task(one(number))


def described(number: int) -> Object:
    ports = [{"name": "http", "port": 80, "targetPort": 8080}]
    meta = {"name": f"s{number}", "namespace": "default"}
    return {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": {"ports": ports}}


def endpoints(number: int, last: int = 3) -> Object:
    addresses = [f"10.244.{number // 60 % 250}.{number % 60 * 4 + n}" for n in (1, 2, last)]
    made = slice_of(
        *(endpoint(a, node="bench" if n % 2 else "other") for n, a in enumerate(addresses)), name=f"s{number}"
    )
    return {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", **made}


def other_endpoints(present: Object) -> Object:
    """The slice with another third endpoint: each proxy finds the slices as the one before left them."""
    number = int(present["metadata"]["name"][1:-2])
    first, other = endpoints(number), endpoints(number, last=0)
    return {**present, "endpoints": (other if present["endpoints"] == first["endpoints"] else first)["endpoints"]}


@dataclass(frozen=True)
class Figures:
    """Seconds. What belongs to a change is None if not one was done in time."""

    start: float
    cpu: float
    first: float
    change: float | None
    change_cpu: float | None

    def __str__(self) -> str:
        return (
            f"from nothing {self.start:6.2f} s (CPU {self.cpu:5.2f} s, sync {self.first:5.2f} s); one change: "
            f"sync {shown(self.change)}, CPU {shown(self.change_cpu)}"
        )


def shown(seconds: float | None) -> str:
    return "not in time" if seconds is None else f"{1e3 * seconds:.1f} ms"


def medians(rounds: list[Figures]) -> Figures:
    def of(name: str) -> float | None:
        values = [value for figures in rounds if (value := getattr(figures, name)) is not None]
        return statistics.median(values) if values else None

    return Figures(*(of(field.name) for field in fields(Figures)))  # type: ignore[arg-type]


def compared(ours: Figures, others: Figures) -> str:
    """How many times as much the other one takes."""
    pairs = {field.name: (getattr(ours, field.name), getattr(others, field.name)) for field in fields(Figures)}
    ratios = {name: f"{b / a:.1f}" if a and b is not None else "?" for name, (a, b) in pairs.items()}
    return (
        f"upstream's takes {ratios['start']} × as long from nothing, {ratios['cpu']} × the CPU, its first sync "
        f"{ratios['first']} ×; one change: sync {ratios['change']} ×, CPU {ratios['change_cpu']} ×"
    )


async def measure(folder: Path, client: Client, program: list[str], mode: Mode, changes: int) -> Figures:
    config = folder / f"{mode}.yaml"
    config.write_text(_CONFIG.format(mode=mode, kubeconfig=folder / "kubeconfig", health=HEALTH, metrics=METRICS))
    started = time.monotonic()
    process = started_in_background([*program, f"--config={config}"], folder)
    try:
        try:
            before = await until_synced(process, folder, Sync(0, 0.0), 0.05)
        except TimeoutError as error:
            raise NotDone from error
        start, cpu = time.monotonic() - started, cpu_seconds(process.pid)
        first, synced, used = before.seconds, [], []
        with contextlib.suppress(TimeoutError):
            for change in range(changes):
                await asyncio.sleep(SETTLED)
                before = sync_of() or before
                current = await client.get(ENDPOINT_SLICES, f"s{change}-a", "default")
                cpu_before = cpu_seconds(process.pid)
                await client.update(ENDPOINT_SLICES, other_endpoints(current))
                # A look at the metrics costs either proxy more than a change may: one, after the change is surely done.
                await asyncio.sleep(SETTLED)
                after = await until_synced(process, folder, before, SETTLED)
                used.append(cpu_seconds(process.pid) - cpu_before)
                synced.append((after.seconds - before.seconds) / (after.count - before.count))
        done = [statistics.median(values) if values else None for values in (synced, used)]
        return Figures(start, cpu, first, *done)
    finally:
        process.terminate()
        process.wait()


def started_in_background(command: list[str], folder: Path) -> subprocess.Popen[bytes]:
    with (folder / "proxy.log").open("wb") as log:
        return subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)


@dataclass(frozen=True)
class Sync:
    count: int
    seconds: float


def sync_of() -> Sync | None:
    """What the proxy reports of its syncs of IPv4; None before it answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{METRICS}/metrics", timeout=5) as answer:
            text = answer.read().decode()
    except OSError:
        return None
    found: dict[str, float] = {}
    for line in text.splitlines():
        match = re.match(r"kubeproxy_sync_proxy_rules_duration_seconds_(count|sum)(\{.*\})? (\S+)", line)
        if match and "IPv6" not in (match[2] or ""):
            found[match[1]] = float(match[3])
    return Sync(int(found["count"]), found["sum"]) if found.get("count") else None


async def until_synced(process: subprocess.Popen[bytes], folder: Path, before: Sync, pause: float) -> Sync:
    async with asyncio.timeout(LONGEST):
        while True:
            if process.poll() is not None:
                raise RuntimeError((folder / "proxy.log").read_text()[-2000:])
            seen = await asyncio.to_thread(sync_of)
            if seen is not None and seen.count > before.count:
                return seen
            await asyncio.sleep(pause)


def cpu_seconds(pid: int) -> float:
    """Of a process, to the nanosecond (the clock of clock_getcpuclockid(3)), and its children that have ended."""
    waited = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[13:15]
    return time.clock_gettime((~pid << 3) | 2) + sum(map(int, waited)) / os.sysconf("SC_CLK_TCK")


# -- connections ----------------------------------------------------------------------------------------------------


def connections(net: Lab, count: int) -> None:
    """TCP connections from pod to pod, one after the other: directly and by a ClusterIP among 1,000, in turns."""
    net.serve_tcp(net.pods[1], 8080, "pod1")
    for mode in BACKENDS:
        node = Node(net, mode)
        for number in range(1000):
            node.tracker.service_changed(service(f"s{number}", f"10.96.{number // 250}.{number % 250 + 1}"))
            node.tracker.slice_changed(slice_of(endpoint(PODS[1]), name=f"s{number}"))
        node.sync()
        directly: list[float] = []
        by_address: list[float] = []
        for _ in range(count // 100):
            directly += times(net, PODS[1], 8080, 100)
            by_address += times(net, "10.96.3.250", 80, 100)
        ratio = statistics.median(by_address) / statistics.median(directly)
        print(
            f"{mode}: to the pod directly {rate(directly)}; by ClusterIP {rate(by_address)}: {ratio:.2f} × the time",
            flush=True,
        )
        asyncio.run(node.backend.cleanup())


def times(net: Lab, address: str, port: int, count: int) -> list[float]:
    def connect() -> list[float]:
        taken = []
        for _ in range(count):
            started = time.perf_counter()
            with socket.create_connection((address, port), timeout=3) as sock:
                sock.recv(100)
            taken.append(time.perf_counter() - started)
        return taken

    return net.inside(net.pods[0], connect)


def rate(taken: list[float]) -> str:
    """Connections per second at the median, which other work on the machine hardly moves."""
    ordered = sorted(taken)
    p50, p90 = ordered[len(ordered) // 2], ordered[len(ordered) * 9 // 10]
    return f"{1 / p50:.0f}/s, p50 {1e6 * p50:.0f} µs, p90 {1e6 * p90:.0f} µs"


if __name__ == "__main__":
    main()
