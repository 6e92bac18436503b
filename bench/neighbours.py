"""What a quiet client notices of three greedy ones, on one API server.

Usage: python -m bench.neighbours [--pods 150000] [--seconds 20]

While one client lists all pods whole, again and again, a second patches objects of 1 MB, and a third creates custom
resources whose rules cost nearly all that they may. A fourth reads single pods, and a fifth renews a lease, each
twenty times a second. Printed are p50, p99 and the most of these two, alone at first and then among the others, and
how often each of the others got through. The processor is shared with this process and with all else on the machine,
so compare the lines of one run. The three run in a process of their own.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import uvloop

from bench.api import NAMESPACE, admin_tls, connector, memory, server_in
from bench.growth import multiply, place, write_patterns
from tiphys.client.errors import ApiError, TooManyRequests
from tiphys.client.resources import CONFIG_MAPS, LEASES, ResourcePath
from tiphys.client.rest import Client
from tiphys.cluster.settings import Settings

Step = Callable[[int], Awaitable[object]]

PORT = 17643
PACE = 0.05
"""Seconds between two requests of the quiet clients."""
BIG = "x" * 1_000_000
THINGS = ResourcePath("bench.tiphys", "v1", "things")
_RULE = "self.items.all(a, self.items.all(b, a.size() + b.size() >= 0))"
_ITEMS = {"type": "array", "maxItems": 60, "items": {"type": "string", "maxLength": 20}}
DEFINITION = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "things.bench.tiphys"},
    "spec": {
        "group": "bench.tiphys",
        "names": {"plural": "things", "kind": "Thing"},
        "scope": "Namespaced",
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {
                            "spec": {
                                "type": "object",
                                "properties": {"items": _ITEMS},
                                "x-kubernetes-validations": [{"rule": _RULE}],
                            }
                        },
                    }
                },
            }
        ],
    },
}


async def paced(step: Step, seconds: float) -> tuple[list[float], int]:
    """The times of a step that is begun at a steady pace, in milliseconds, and how many failed. One that is late
    counts from when it was due."""
    times: list[float] = []
    failed = 0
    begin = time.perf_counter()
    for number in range(int(seconds / PACE)):
        due = begin + number * PACE
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        try:
            await step(number)
        except (ApiError, ConnectionError, TimeoutError):
            failed += 1
        times.append((time.perf_counter() - due) * 1000)
        if time.perf_counter() - begin > 3 * seconds:
            break
    return times, failed


async def greedy(name: str, step: Step) -> None:
    """Steps without a pause, until the time is over; prints how many got through."""
    number = done = 0
    try:
        while True:
            number += 1
            try:
                await step(number)
                done += 1
            except TooManyRequests:
                await asyncio.sleep(1)
    finally:
        print(f"meanwhile, {name}: {done}", flush=True)


async def be_greedy(folder: Path) -> None:
    """The greedy clients, in a process of their own, so that the quiet ones do not wait for it."""
    tls = admin_tls(Settings(data_dir=folder, node_ip="127.0.0.1", port=PORT))
    lister, patcher, creator = (connector(f"https://127.0.0.1:{PORT}", tls, "")() for _ in range(3))

    async def list_all(_: int) -> None:
        response = await lister.request("GET", "/api/v1/pods", params={"resourceVersion": "0"})
        async for _piece in response.chunks():
            pass

    async def patch(number: int) -> None:
        await patcher.patch(CONFIG_MAPS, "big", {"data": {"a": BIG[:-9] + f"{number:09}"}}, NAMESPACE)

    async def create(number: int) -> None:
        thing = {"apiVersion": "bench.tiphys/v1", "kind": "Thing", "metadata": {"name": f"t{number}"}}
        await creator.create(
            THINGS, {**thing, "spec": {"items": [f"item-{n}" for n in range(60)]}}, namespace=NAMESPACE
        )

    steps = {"whole lists": list_all, "patches of 1 MB": patch, "custom resources": create}
    work = asyncio.gather(*(greedy(name, step) for name, step in steps.items()))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, work.cancel)
    with suppress(asyncio.CancelledError):
        await work


async def prepare(client: Client) -> None:
    await client.create(ResourcePath("apiextensions.k8s.io", "v1", "customresourcedefinitions"), DEFINITION)
    lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "quiet"}, "spec": {}}
    await client.create(LEASES, lease, namespace=NAMESPACE)
    big = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "big"}, "data": {"a": BIG}}
    await client.create(CONFIG_MAPS, big, namespace=NAMESPACE)
    while True:
        try:
            await client.list(THINGS, NAMESPACE)
            await client.request("GET", "/api/v1/pods", params={"limit": "1", "labelSelector": "no=body"})
        except ApiError:
            await asyncio.sleep(1)
        else:
            return


def show(name: str, times: list[float], failed: int) -> None:
    cuts = statistics.quantiles(times, n=100)
    text = (
        f"p50 {cuts[49]:7.1f} ms   p99 {cuts[98]:7.1f} ms   most {max(times):7.1f} ms   {failed} of {len(times)} failed"
    )
    print(f"{name:<30} {text}", flush=True)


async def measure(pods: int, seconds: float) -> None:
    with tempfile.TemporaryDirectory(prefix="tiphys-neighbours-") as name:
        folder = Path(name)
        with server_in(folder, port=PORT) as (url, tls, _):
            client = connector(url, tls, "")()
            await write_patterns(client)
            await client.close()
        await multiply(Settings(data_dir=folder).store, pods)
        with server_in(folder, port=PORT) as (url, tls, pid):
            await among(connector(url, tls, ""), folder, pods, seconds)
            print(f"memory of the server: {memory(pid):.0f} MiB")


async def among(connect: Callable[[], Client], folder: Path, pods: int, seconds: float) -> None:
    """The quiet clients alone, and then beside the greedy ones."""
    reader, renewer = connect(), connect()
    await prepare(reader)

    async def read(number: int) -> None:
        pod, space, _ = place(number * 977 % pods)
        response = await reader.request("GET", f"/api/v1/namespaces/{space.decode()}/pods/{pod.decode()}")
        await response.read()

    async def renew(number: int) -> None:
        await renewer.patch(LEASES, "quiet", {"spec": {"leaseTransitions": number}}, NAMESPACE)

    async def quiet(when: str) -> None:
        both = await asyncio.gather(paced(read, seconds), paced(renew, seconds))
        for what, (times, failed) in zip(("reads", "renewals of a lease"), both, strict=True):
            show(f"{what}, {when}", times, failed)

    await quiet("alone")
    others = await asyncio.create_subprocess_exec(sys.executable, "-m", "bench.neighbours", "--greedy", str(folder))
    try:
        await asyncio.sleep(2)
        await quiet("among others")
    finally:
        others.terminate()
        await others.wait()
    await reader.close()
    await renewer.close()


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--pods", type=int, default=150_000)
    options.add_argument("--seconds", type=float, default=20.0, help="how long the quiet clients ask, twice")
    options.add_argument("--greedy", type=Path, help=argparse.SUPPRESS)
    arguments = options.parse_args()
    work = be_greedy(arguments.greedy) if arguments.greedy else measure(arguments.pods, arguments.seconds)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(work)


if __name__ == "__main__":
    main()
