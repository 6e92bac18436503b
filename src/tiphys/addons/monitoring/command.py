"""``tiphys prometheus-targets``: serves Prometheus in the same pod what there is to scrape, by its HTTP discovery."""

from __future__ import annotations

import argparse
import asyncio
import random
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import orjson

from tiphys.addons.monitoring import targets
from tiphys.client.informer import Informer, without_managed_fields
from tiphys.client.kubeconfig import SERVICE_ACCOUNT, connected
from tiphys.client.resources import ENDPOINT_SLICES, NODES, PODS
from tiphys.runtime.clock import SystemClock
from tiphys.runtime.component import launch
from tiphys.runtime.flags import FlagParser
from tiphys.runtime.tasks import Runner
from tiphys.wire.health import plain
from tiphys.wire.http import Request, Response
from tiphys.wire.reserving import reserve
from tiphys.wire.server import serve

Jobs = dict[str, Callable[[], list[targets.Target]]]


def main(argv: Sequence[str]) -> int:
    return launch(_parser(), argv, _run)


def _parser() -> FlagParser:
    parser = FlagParser("prometheus-targets", "Serves what Prometheus is to scrape, by HTTP discovery.")
    add = parser.add_argument
    add("--kubeconfig", type=Path, default=SERVICE_ACCOUNT, help="how to reach the API server (default: as this pod)")
    add("--port", type=int, default=9091, help="port on loopback")
    parser.add_verbosity()
    return parser


def _run(flags: argparse.Namespace) -> Coroutine[Any, Any, None]:
    return run(flags.kubeconfig, flags.port)


async def run(kubeconfig: Path, port: int) -> None:
    """Serve ``/JOB`` on loopback until cancelled. Raises ``OSError`` if the port is taken."""
    clock = SystemClock()
    with reserve("127.0.0.1", port) as sock:
        async with connected(kubeconfig, "prometheus-targets") as client, Runner(clock, "targets ") as runner:
            rng = random.Random()
            nodes, slices, pods = (
                Informer(client, resource, clock, namespace=namespace, transform=without_managed_fields, rng=rng)
                for resource, namespace in ((NODES, ""), (ENDPOINT_SLICES, "default"), (PODS, ""))
            )
            for informer, name in ((nodes, "nodes"), (slices, "endpoint slices"), (pods, "pods")):
                runner.supervise(informer.run, name)
                await informer.wait_synced()

            def control_planes() -> list[targets.Target]:
                """The relays beside API servers: there the controllers and the scheduler run as well."""
                beside = targets.addresses_of(targets.apiservers(slices.store.list()))
                return targets.relays(pods.store.list(), beside)

            jobs: Jobs = {
                "/apiserver": lambda: targets.apiservers(slices.store.list()),
                "/control-plane": control_planes,
                "/kube-proxy": lambda: targets.relays(pods.store.list()),
                "/kubelet": lambda: targets.kubelets(nodes.store.list()),
                "/node-exporter": lambda: targets.node_exporters(pods.store.list()),
                "/pods": lambda: targets.annotated(pods.store.list()),
            }
            server = await serve(_handler(jobs), "", 0, sock=sock)
            try:
                await asyncio.Event().wait()
            finally:
                await server.close(grace=0.5)


def _handler(jobs: Jobs) -> Callable[[Request], Coroutine[Any, Any, Response]]:
    async def answer(request: Request) -> Response:
        job = jobs.get(request.path)
        if job is None:
            return plain(404, f"no job is called so; there are {', '.join(jobs)}\n")
        return Response(200, {"Content-Type": "application/json"}, orjson.dumps(job()))

    return answer
