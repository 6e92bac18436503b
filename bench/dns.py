"""How many questions the cluster's DNS server answers on one core, and how long each waits, asked by dnsperf.

Usage: python -m bench.dns [--services 1000] [--seconds 5]     (needs Debian's dnsperf)

Each row asks over UDP as fast as answers come (100 questions outstanding), then at 5,000 a second for the latencies.
*Per core* is what the server answers in a second of its own CPU time, whatever else the machine does. Wanted: 20,000 a
second, and 99 of 100 within 2 ms. The last row says what of that is the machine's.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from tests.proxy.objects import endpoint, service, slice_of
from tiphys.apiserver.config import Config
from tiphys.apiserver.server import APIServer
from tiphys.client.resources import ENDPOINT_SLICES, SERVICES
from tiphys.client.rest import Client
from tiphys.dns.config import DNSConfig
from tiphys.dns.server import DNSServer
from tiphys.runtime.clock import SystemClock
from tiphys.store.memory import MemoryBackend
from tiphys.wire.inprocess import InProcessTransport

ZONE = "default.svc.cluster.local"
PACED = 5000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--services", type=int, default=1000)
    parser.add_argument("--seconds", type=int, default=5)
    flags = parser.parse_args()
    asyncio.run(measured(flags.services, flags.seconds))


async def measured(services: int, seconds: int) -> None:
    clock = SystemClock()
    backend = MemoryBackend(clock)
    api = APIServer(Config(), backend, clock)
    await api.start()
    client = Client(InProcessTransport(api.handler, ("admin", ("system:masters",))))
    server = DNSServer(DNSConfig("node-1", "127.0.0.1", 0, upstreams=(), publish=False), client, clock)
    for number in range(services):
        await client.create(SERVICES, described(number))
        made = slice_of(endpoint("10.244.0.1"), endpoint("10.244.0.2"), name=f"s{number}")
        await client.create(ENDPOINT_SLICES, {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", **made})
    task = asyncio.create_task(server.run())
    async with asyncio.timeout(60):
        while server.port == 0:
            await asyncio.sleep(0.01)
    for name, questions in rows(services).items():
        print(f"{name:42} {await asked(server.port, questions, seconds)}", flush=True)
    echo, _ = await asyncio.get_running_loop().create_datagram_endpoint(Echo, local_addr=("127.0.0.1", 0))
    port = echo.get_extra_info("sockname")[1]
    print(f"{'(questions sent back as they are)':42} {await asked(port, rows(services)['SRV'], seconds)}")
    echo.close()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await api.stop()
    await backend.close()


class Echo(asyncio.DatagramProtocol):
    """What this machine, its loop and dnsperf take of each figure: it reads nothing and sets the bit of answers."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._transport.sendto(data[:2] + b"\x80" + data[3:], addr)


def described(number: int) -> dict[str, object]:
    made = service(f"s{number}", f"10.96.{number // 250 + 1}.{number % 250 + 1}")
    made["spec"]["clusterIPs"] = [made["spec"]["clusterIP"]]
    return {"apiVersion": "v1", "kind": "Service", **made}


def rows(services: int) -> dict[str, list[str]]:
    some = range(min(100, services))
    return {
        "a hundred services": [f"s{number}.{ZONE} A" for number in some],
        f"{services} services": [f"s{number}.{ZONE} A" for number in range(services)],
        "SRV": [f"_http._tcp.s{number}.{ZONE} SRV" for number in some],
        "names that are not there (search paths)": [f"example.org.{ZONE} A", f"api.example.org.{ZONE} AAAA"],
        "100,000 different names, none remembered": [f"n{number}.{ZONE} A" for number in range(100_000)],
    }


async def asked(port: int, questions: list[str], seconds: int) -> str:
    with tempfile.TemporaryDirectory() as folder:
        asked_for = Path(folder) / "questions"
        asked_for.write_text("\n".join(questions) + "\n")
        command = ("dnsperf", "-s", "127.0.0.1", "-p", str(port), "-d", str(asked_for), "-l", str(seconds))
        before = time.process_time()
        fast = await output(command, Path(folder) / "fast")
        used = time.process_time() - before
        paced = await output((*command, "-Q", str(PACED), "-v"), Path(folder) / "paced")
    answered, lost = counted(fast, "completed"), counted(fast, "lost")
    waits = sorted(float(found) for found in re.findall(r"^> \S+ \S+ \S+ ([\d.]+)$", paced, re.MULTILINE))
    p50, p99 = (1e3 * waits[int(len(waits) * part)] for part in (0.5, 0.99))
    return (
        f"{answered / used:7.0f}/s per core ({answered / seconds:.0f}/s, {lost} lost); "
        f"at {PACED}/s p50 {p50:.2f} ms, p99 {p99:.2f} ms"
    )


async def output(command: Sequence[str], path: Path) -> str:
    """What a program prints, by a file: it must not wait for the server, which would have to read it from a pipe."""
    with await asyncio.to_thread(path.open, "w") as file:
        process = await asyncio.create_subprocess_exec(*command, stdout=file, stderr=file)
        await process.wait()
    return await asyncio.to_thread(path.read_text)


def counted(text: str, what: str) -> int:
    match = re.search(rf"Queries {what}:\s+(\d+)", text)
    return int(match[1]) if match else 0


if __name__ == "__main__":
    if not Path("/usr/bin/dnsperf").exists():
        raise SystemExit("no dnsperf: apt-get install dnsperf")
    main()
