"""How fast pods are scheduled onto 1,000 nodes: the decision alone, and with an API server and its store beside it.

    python -m bench.scheduling [--nodes 1000] [--pods 3000] [--alone]

Prints pods per second for plain pods, pods spread over zones, and pods that keep apart, and the ratio to the budget.
API server (SQLite, durable), scheduler and load generator are processes of their own, as in a cluster.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import replace
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.scheduler.world import World, anti_affinity, node, pod, spread
from tiphys.client.resources import NODES, PODS, SERVICE_ACCOUNTS
from tiphys.client.rest import Client
from tiphys.runtime.clock import SystemClock
from tiphys.wire.client import SocketTransport
from tiphys.wire.http import Peer, Request, Response

KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "spread": {"topologySpreadConstraints": [spread("a", skew=5)]},
    "apart": {"affinity": anti_affinity("a")},
}
BUDGET = {"plain": 700, "spread": 500, "apart": 400}
WRITERS = 16
PORT = 39443


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--pods", type=int, default=3000)
    parser.add_argument("--alone", action="store_true", help="measure the decision alone")
    arguments = parser.parse_args()
    for kind in KINDS:
        # Pods that keep apart need a node each.
        pods = min(arguments.pods, arguments.nodes * 9 // 10) if kind == "apart" else arguments.pods
        rate = decide(kind, arguments.nodes, pods) if arguments.alone else schedule(kind, arguments.nodes, pods)
        print(f"{kind:8} {rate:6.0f} pods/s   {rate / BUDGET[kind]:.2f} of the budget ({BUDGET[kind]})")


def _nodes(number: int) -> list[dict[str, Any]]:
    return [node(f"n{i}", cpu="32", memory="64Gi", zone=f"z{i % 10}") for i in range(number)]


def _pods(kind: str, number: int) -> list[dict[str, Any]]:
    made = []
    for i in range(number):
        more = {"labels": {"app": "a"}, "automountServiceAccountToken": False, **KINDS[kind]}
        made.append(pod(f"p{i}", cpu="100m", memory="100Mi", **more))
    return made


def decide(kind: str, nodes: int, pods: int) -> float:
    """Filter, score and choose, without an API server."""
    world = World(_nodes(nodes))
    first, *rest = _pods(kind, pods)
    world.place(first)
    started = time.perf_counter()
    for described in rest:
        world.place(described)
    return len(rest) / (time.perf_counter() - started)


def schedule(kind: str, nodes: int, pods: int) -> float:
    """From the first creation to the last binding."""
    import uvloop

    context = multiprocessing.get_context("fork")
    ready = context.Event()
    folder = Path(tempfile.mkdtemp(prefix="tiphys-bench-"))
    server = context.Process(target=_serve, args=(ready, folder))
    server.start()
    processes = [server]
    try:
        ready.wait(30)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            client = Client(SocketTransport("127.0.0.1", PORT), user_agent="load")
            runner.run(_prepare(client, nodes))
            scheduler = context.Process(target=_run_scheduler)
            scheduler.start()
            processes.append(scheduler)
            time.sleep(2)
            return runner.run(_measure(client, kind, pods))
    finally:
        for process in reversed(processes):
            process.terminate()
            process.join()
        shutil.rmtree(folder, ignore_errors=True)


def _serve(ready: Event, folder: Path) -> None:
    import uvloop

    from tiphys.apiserver.config import Config
    from tiphys.apiserver.server import APIServer
    from tiphys.store.sqlite import SQLiteBackend
    from tiphys.wire.server import serve

    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    users = {"kube-scheduler": ("system:kube-scheduler", ("system:authenticated",))}
    everyone = ("admin", ("system:masters", "system:authenticated"))

    async def run() -> None:
        clock = SystemClock()
        backend = await SQLiteBackend.open(folder, clock)
        server = APIServer(Config(), backend, clock)
        await server.start()

        async def trusting(request: Request) -> Response:
            identity = users.get(request.headers.get("user-agent", ""), everyone)
            peer = Peer(address="127.0.0.1", secure=True, identity=identity)
            return await server.handler(replace(request, peer=peer))

        await serve(trusting, "127.0.0.1", PORT)
        ready.set()
        await asyncio.Event().wait()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())


def _run_scheduler() -> None:
    import uvloop

    from tiphys.scheduler.config import SchedulerConfig
    from tiphys.scheduler.scheduler import Scheduler

    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))

    async def run() -> None:
        client = Client(SocketTransport("127.0.0.1", PORT), user_agent="kube-scheduler")
        await Scheduler(config=SchedulerConfig(), client=client, clock=SystemClock(), rng=random.Random(1)).run()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())


async def _prepare(client: Client, nodes: int) -> None:
    async def create(described: list[dict[str, Any]]) -> None:
        for wanted in described:
            made = await client.create(NODES, wanted)
            made["spec"].pop("taints", None)
            made = await client.update(NODES, made)
            await client.update_status(NODES, made | {"status": wanted["status"]})

    described = _nodes(nodes)
    await asyncio.gather(*(create(described[k::WRITERS]) for k in range(WRITERS)))
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}
    await client.create(SERVICE_ACCOUNTS, account, namespace="default")


async def _measure(client: Client, kind: str, pods: int) -> float:
    described = _pods(kind, pods)
    for one in described:
        del one["metadata"]["uid"]
    version = (await client.list(PODS, "default"))["metadata"]["resourceVersion"]
    all_bound = asyncio.create_task(_count_bound(client, version, pods))
    await asyncio.sleep(0.2)
    started = time.perf_counter()

    async def create(part: list[dict[str, Any]]) -> None:
        for wanted in part:
            await client.create(PODS, wanted)

    await asyncio.gather(*(create(described[k::WRITERS]) for k in range(WRITERS)))
    await all_bound
    return pods / (time.perf_counter() - started)


async def _count_bound(client: Client, version: str, pods: int) -> None:
    bound = 0
    async for event in client.watch(PODS, "default", resource_version=version, field_selector="spec.nodeName!="):
        bound += event.type == "ADDED"
        if bound == pods:
            return


if __name__ == "__main__":
    main()
