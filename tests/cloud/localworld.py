"""A real cluster of three nodes on a machine of its own, which is its cloud: what the ``local`` provider runs on."""

from __future__ import annotations

import asyncio
import ctypes
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from tests.cloud.contract import World
from tests.machine import Machine
from tiphys.api.object import Object
from tiphys.cloud.providers.local.cloud import make_local

CLONE_NEWNET = 0x40000000
POOL = "198.18.0.200-198.18.0.210"
NAMES = ("node-2", "node-3")


@contextmanager
def inside(machine: Machine) -> Iterator[None]:
    """This thread, and all that it starts, is on the machine for as long as the block runs."""
    with open("/proc/thread-self/ns/net") as ours, open(f"/run/netns/{machine.namespace}") as theirs:
        enter(theirs.fileno())
        try:
            yield
        finally:
            enter(ours.fileno())


def enter(descriptor: int) -> None:
    if ctypes.CDLL(None, use_errno=True).setns(descriptor, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


def config_of(machine: Machine) -> Path:
    path = machine.folder / "cloud.json"
    path.write_text(json.dumps({"data_dir": str(machine.folder / "data"), "pool": POOL}))
    return path


@asynccontextmanager
async def local_world(machine: Machine) -> AsyncIterator[World]:
    """Its two further nodes are the machines; both run when this begins. Use it ``inside`` the machine."""
    cloud = make_local(config_of(machine))
    for name in NAMES:
        await cloud.machines.create(name)

    async def stop(name: str) -> None:
        await cloud.machines.stop(made.node(name))

    async def end(name: str) -> None:
        await cloud.machines.delete(made.node(name))

    async def backends(service: Object) -> list[str]:
        path = machine.folder / "data" / "cloud" / "balancers" / "haproxy.cfg"
        lines = path.read_text().splitlines() if path.exists() else []
        return sorted({line.split()[1] for line in lines if line.startswith("  server ")})

    made = World(cloud, NAMES, stop, end, backends, carries_udp=False)
    try:
        yield made
    finally:
        await cloud.close()


def run_inside(machine: Machine, work: object) -> None:
    """Run a coroutine function in a world on the machine."""

    async def scene() -> None:
        async with local_world(machine) as made:
            await work(made)  # type: ignore[operator]

    with inside(machine):
        asyncio.run(scene())
