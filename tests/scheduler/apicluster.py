"""An API server on an in-memory store and on virtual time, with a scheduler beside it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from typing import Any

from tiphys.api.object import Object
from tiphys.apiserver.config import Config
from tiphys.apiserver.server import APIServer
from tiphys.client import errors
from tiphys.client.resources import CORE_EVENTS, NODES, PODS, SERVICE_ACCOUNTS
from tiphys.client.rest import Client
from tiphys.runtime.clock import VirtualClock, VirtualTimeLoop
from tiphys.runtime.tasks import Runner
from tiphys.scheduler.config import SchedulerConfig
from tiphys.scheduler.scheduler import Scheduler
from tiphys.store.memory import MemoryBackend
from tiphys.wire.inprocess import InProcessTransport

ADMIN = ("admin", ("system:masters", "system:authenticated"))
SCHEDULER = ("system:kube-scheduler", ("system:authenticated",))


class ApiCluster:
    def __init__(self, loop: VirtualTimeLoop, config: SchedulerConfig | None = None, plugins: Any = None) -> None:
        self.clock = VirtualClock(loop)
        self.config = config or SchedulerConfig()
        self._plugins = plugins
        self._stack = AsyncExitStack()
        self.client: Client
        self.scheduler: Scheduler

    async def __aenter__(self) -> ApiCluster:
        backend = MemoryBackend(self.clock)
        self._stack.push_async_callback(backend.close)
        server = APIServer(Config(), backend, self.clock)
        await server.start()
        self._stack.push_async_callback(server.stop)
        runner = await self._stack.enter_async_context(Runner(self.clock))
        self.client = Client(InProcessTransport(server.handler, ADMIN), user_agent="test")
        theirs = Client(InProcessTransport(server.handler, SCHEDULER), user_agent="kube-scheduler")
        self.scheduler = Scheduler(
            config=self.config, client=theirs, clock=self.clock, rng=random.Random(1), plugins=self._plugins
        )
        runner.spawn(self.scheduler.run(), "scheduler")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def node(self, described: Object) -> None:
        made = await self.client.create(NODES, described)
        made["status"] = described["status"]
        taints = made["spec"].get("taints") or []
        if any(taint["key"] == "node.kubernetes.io/not-ready" for taint in taints):
            made["spec"]["taints"] = [t for t in taints if t["key"] != "node.kubernetes.io/not-ready"]
            made = await self.client.update(NODES, made) | {"status": described["status"]}
        await self.client.update_status(NODES, made)

    async def pod(self, described: Object) -> None:
        described["metadata"].pop("uid", None)
        described["spec"].setdefault("automountServiceAccountToken", False)
        while True:
            try:
                await self.client.create(PODS, described)
            except errors.Forbidden:  # the namespace's service account is not there, as no controller makes it
                account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}
                await self.client.create(SERVICE_ACCOUNTS, account, namespace="default")
                continue
            return

    async def get(self, name: str) -> Object:
        return await self.client.get(PODS, name, "default")

    async def until(self, name: str, condition: Callable[[Object], Any], seconds: float = 60) -> Object:
        deadline = self.clock.monotonic() + seconds
        while True:
            found = await self.get(name)
            if condition(found):
                return found
            assert self.clock.monotonic() < deadline, found
            await asyncio.sleep(0.05)

    async def bound(self, name: str, seconds: float = 60) -> str:
        found = await self.until(name, lambda pod: pod["spec"].get("nodeName"), seconds)
        return str(found["spec"]["nodeName"])

    async def events(self, name: str) -> list[tuple[str, str]]:
        listed = await self.client.list(CORE_EVENTS, "default", field_selector=f"involvedObject.name={name}")
        return [(event["reason"], event["message"]) for event in listed["items"]]


def scheduled(pod: Object) -> Object | None:
    """Its PodScheduled condition."""
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return next((c for c in conditions if c["type"] == "PodScheduled"), None)


def run(test: Callable[[ApiCluster], Coroutine[Any, Any, None]], **options: Any) -> None:
    loop = VirtualTimeLoop()
    try:
        loop.run_until_complete(_run(test, loop, options))
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


async def _run(test: Any, loop: VirtualTimeLoop, options: Any) -> None:
    async with ApiCluster(loop, **options) as cluster:
        await test(cluster)
