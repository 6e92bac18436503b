"""What one request costs while the number of other objects grows: a plot from 1,000 to 150,000 pods.

Usage: python -m bench.growth [--pods 1000,4800,15000,50000,150000] [--plot docs/growth.svg]

Every row asks for the same amount, whatever there is beside it: 500 pods of a page, 48 of a node, 100 of a namespace,
one pod's events. The cost is the CPU time of the server's process for a call, which hardly depends on what else the
machine does. Nodes, namespaces and events grow with the pods, a fifth as many events. The store is filled before the
server starts, with copies of objects that a server has written, so each size is also a restart: its rows are what the
server takes until it is ready, and what the first request for pods takes.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from uuid import UUID

import orjson
import uvloop

from bench.api import NAMESPACE, connector, cpu_seconds, memory, pod, ready, server_in
from tiphys.client.errors import TooManyRequests
from tiphys.client.resources import CORE_EVENTS, NAMESPACES, PODS, ResourcePath
from tiphys.client.rest import Client
from tiphys.cluster.settings import Settings
from tiphys.runtime.clock import SystemClock
from tiphys.store.backend import Put, Range
from tiphys.store.sqlite import SQLiteBackend

PER_NODE, PER_NAMESPACE, PODS_PER_EVENT = 48, 100, 5
ROUNDS, WATCHES = 5, 32
LIKE_POD, LIKE_NODE, LIKE_SPACE, LIKE_EVENT = b"pattern-pod", b"pattern-node", b"pattern-space", b"pattern-event"
Figures = dict[str, float]
"""By row: microseconds of CPU a call, unless the row's name ends in a unit."""


# -- a store with many objects


def uid(kind: int, number: int) -> bytes:
    return str(UUID(int=(kind << 64) + number, version=4)).encode()


def place(number: int) -> tuple[bytes, bytes, bytes]:
    """The name, namespace and node of a pod."""
    return b"pod-%07d" % number, b"space-%04d" % (number // PER_NAMESPACE), b"node-%04d" % (number // PER_NODE)


async def write_patterns(client: Client) -> None:
    """One pod and one event as the server writes them."""
    space, name = LIKE_SPACE.decode(), LIKE_POD.decode()
    await client.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": space}})
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}
    await client.create(ResourcePath("", "v1", "serviceaccounts"), account, namespace=space)
    wanted = pod(1)
    wanted["metadata"]["name"] = name
    wanted["spec"]["nodeName"] = LIKE_NODE.decode()
    made = await client.create(PODS, wanted, namespace=space)
    regarding = {"kind": "Pod", "namespace": space, "name": name, "uid": made["metadata"]["uid"], "apiVersion": "v1"}
    event = {"apiVersion": "v1", "kind": "Event", "metadata": {"name": LIKE_EVENT.decode()}, "reason": "Started"}
    await client.create(CORE_EVENTS, {**event, "involvedObject": regarding, "type": "Normal"}, namespace=space)
    await ready(client)


async def multiply(folder: Path, pods: int) -> None:
    """Copy the pod and its event into other namespaces, under names and uids of their own, and leave the patterns."""
    store = await SQLiteBackend.open(folder, SystemClock())
    keys = (b"/registry/pods/%b/%b" % (LIKE_SPACE, LIKE_POD), b"/registry/events/%b/%b" % (LIKE_SPACE, LIKE_EVENT))
    pod_value, event_value = [(await store.range(Range(key))).kvs[0].value for key in keys]
    pod_uid, event_uid = (_uid_of(value) for value in (pod_value, event_value))

    def puts() -> Iterator[Put]:
        for number in range(pods):
            name, space, node = place(number)
            changes = [(LIKE_POD, name), (LIKE_SPACE, space), (LIKE_NODE, node), (pod_uid, uid(1, number))]
            yield Put(b"/registry/pods/%b/%b" % (space, name), _replaced(pod_value, changes))
            if number % PODS_PER_EVENT == 0:
                event = b"event-%07d" % number
                changes += [(LIKE_EVENT, event), (event_uid, uid(2, number))]
                yield Put(b"/registry/events/%b/%b" % (space, event), _replaced(event_value, changes))

    waiting: list[Awaitable[object]] = []
    for put in puts():
        waiting.append(store.put(put))
        if len(waiting) == 2000:
            await asyncio.gather(*waiting)
            waiting.clear()
    await asyncio.gather(*waiting)
    await store.close()


def _uid_of(value: bytes) -> bytes:
    return value.partition(b'"uid":"')[2][:36]


def _replaced(value: bytes, changes: list[tuple[bytes, bytes]]) -> bytes:
    for old, new in changes:
        value = value.replace(old, new)
    return value


# -- what is asked


class Asked:
    """One server under questions, by one client. ``some`` is the number of a pod in the middle."""

    def __init__(self, connect: Callable[[], Client], pid: int, pods: int) -> None:
        self._client = connect()
        self._pid = pid
        self._some = pods // 2

    async def close(self) -> None:
        await self._client.close()

    async def cost(self, calls: int, call: Callable[[int], Awaitable[object]], each: int = 1) -> float:
        """Microseconds of CPU for each of ``each`` that a call does: the least of some rounds, as what else the
        machine does only adds to it."""
        await call(-1)
        costs = []
        for turn in range(ROUNDS):
            before = cpu_seconds([self._pid])
            for number in range(calls):
                await call(turn * calls + number)
            costs.append((cpu_seconds([self._pid]) - before) / calls / each * 1e6)
        return min(costs)

    async def read(self, path: str, **params: str) -> bytes:
        """The answer, once the cache of its resource has been filled."""
        while True:
            try:
                response = await self._client.request("GET", path, params=params)
            except TooManyRequests:
                await asyncio.sleep(1)
            else:
                return await response.read()

    async def taken(self, path: str, **params: str) -> tuple[float, float]:
        """Seconds of CPU, and of time, until a request is answered."""
        before, began = cpu_seconds([self._pid]), time.perf_counter()
        await self.read(path, **params)
        return cpu_seconds([self._pid]) - before, time.perf_counter() - began

    async def starts(self) -> Figures:
        """What the first requests after a restart take: a page, which the store itself can answer, and then a list of
        all, which the cache answers, once it has been filled."""
        page = await self.taken("/api/v1/pods", limit="500")
        listed = await self.taken("/api/v1/pods")
        rows = {"first page after a restart": page, "list of all after a restart": listed}
        units = ("s of CPU", "s")
        return {f"{row}, {unit}": value for row, both in rows.items() for unit, value in zip(units, both, strict=True)}

    async def watches(self, _: int) -> None:
        """As many kubelets as ``WATCHES`` open a watch of one node's pods, which ends after a second."""
        params = {"watch": "true", "fieldSelector": self.on_node, "resourceVersion": "0", "timeoutSeconds": "1"}
        texts = await asyncio.gather(*(self.read("/api/v1/pods", **params) for _ in range(WATCHES)))
        assert all(text.count(b"\n") == PER_NODE for text in texts)

    @property
    def on_node(self) -> str:
        return "spec.nodeName=" + place(self._some)[2].decode()

    async def rows(self) -> Figures:
        _, space, _ = place(self._some)
        page = orjson.loads(await self.read("/api/v1/pods", limit="500"))
        token = {"continue": page["metadata"]["continue"]} if "continue" in page["metadata"] else {}
        about = f"involvedObject.uid={uid(1, self._some // PODS_PER_EVENT * PODS_PER_EVENT).decode()}"
        creates = partial(self._client.create, PODS, namespace=NAMESPACE)
        return {
            "a page of 500": await self.cost(60, lambda _: self.read("/api/v1/pods", limit="500")),
            "the page after it": await self.cost(60, lambda _: self.read("/api/v1/pods", limit="500", **token)),
            "48 pods by spec.nodeName": await self.cost(
                150, lambda _: self.read("/api/v1/pods", fieldSelector=self.on_node)
            ),
            "100 pods of a namespace": await self.cost(
                150, lambda _: self.read(f"/api/v1/namespaces/{space.decode()}/pods")
            ),
            "a pod's events by involvedObject.uid": await self.cost(
                150, lambda _: self.read("/api/v1/events", fieldSelector=about)
            ),
            "a watch of a node's 48 pods": await self.cost(1, self.watches, WATCHES),
            "create a pod": await self.cost(300, lambda number: creates(pod(number + 1))),
        }


async def measure(pods: int) -> Figures:
    with tempfile.TemporaryDirectory(prefix="tiphys-growth-") as name:
        folder = Path(name)
        with server_in(folder) as (url, tls, _):
            client = connector(url, tls, "")()
            await write_patterns(client)
            await client.close()
        await multiply(Settings(data_dir=folder).store, pods)
        with server_in(folder) as (url, tls, pid):
            until_ready = cpu_seconds([pid])
            asked = Asked(connector(url, tls, ""), pid, pods)
            figures = {"until ready, s of CPU": until_ready, **await asked.starts(), **await asked.rows()}
            figures["memory, MiB"] = memory(pid)
            await asked.close()
    return figures


# -- what is shown

WIDTH, HEIGHT, LEFT, TOP, LEGEND = 520, 320, 60, 30, 300
COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#bbbbbb")


def table(taken: dict[int, Figures]) -> str:
    lines = [f"{'pods':<40}" + "".join(f"{pods:>10,}" for pods in taken)]
    for row in next(iter(taken.values())):
        digits = 2 if row.endswith((", s", "of CPU")) else 0
        lines.append(f"{row:<40}" + "".join(f"{figures[row]:>10,.{digits}f}" for figures in taken.values()))
    return "\n".join(lines)


def plot(taken: dict[int, Figures]) -> str:
    """An SVG drawing: the cost of a call over the number of pods, both on logarithmic scales."""
    rows = [row for row in next(iter(taken.values())) if ", " not in row]
    values = [figures[row] for figures in taken.values() for row in rows]
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    first, last = math.log10(min(taken)), math.log10(max(taken))

    def x(pods: int) -> float:
        return LEFT + (math.log10(pods) - first) / (last - first) * WIDTH

    def y(cost: float) -> float:
        return TOP + (high - math.log10(cost)) / (high - low) * HEIGHT

    parts = [f'<text x="{LEFT}" y="{TOP - 12}">microseconds of CPU a call</text>']
    for power in range(low, high + 1):
        at = y(10**power)
        parts.append(f'<path d="M{LEFT} {at:.0f}h{WIDTH}" stroke="#ddd"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{at + 4:.0f}" text-anchor="end">{10**power:,}</text>')
    sizes = (f'<text x="{x(pods):.0f}" y="{TOP + HEIGHT + 18}" text-anchor="middle">{pods:,}</text>' for pods in taken)
    parts += sizes
    parts.append(f'<text x="{LEFT + WIDTH}" y="{TOP + HEIGHT + 36}" text-anchor="end">pods in the cluster</text>')
    for number, (row, colour) in enumerate(zip(rows, COLOURS, strict=False)):
        points = " ".join(f"{x(pods):.0f},{y(figures[row]):.0f}" for pods, figures in taken.items())
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        at = TOP + 20 * number + 10
        parts.append(f'<path d="M{LEFT + WIDTH + 20} {at}h20" stroke="{colour}" stroke-width="3"/>')
        parts.append(f'<text x="{LEFT + WIDTH + 46}" y="{at + 4}">{row}</text>')
    size = f'width="{LEFT + WIDTH + LEGEND}" height="{TOP + HEIGHT + 50}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">'
    return "\n".join([head, '<rect width="100%" height="100%" fill="white"/>', *parts, "</svg>", ""])


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--pods", default="1000,4800,15000,50000,150000", help="numbers of pods, comma-separated")
    options.add_argument("--plot", type=Path, help="write the figures as an SVG file")
    arguments = options.parse_args()
    taken: dict[int, Figures] = {}
    for pods in map(int, arguments.pods.split(",")):
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            taken[pods] = runner.run(measure(pods))
        print(table({pods: taken[pods]}), flush=True)
    print(table(taken))
    if arguments.plot:
        arguments.plot.write_text(plot(taken))


if __name__ == "__main__":
    main()
