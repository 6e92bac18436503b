"""What an API server does under load: the rows of the design's budgets, against any server.

Usage: python bench/api.py                         a Tiphys API server of its own, durable store, TLS, one process
       python bench/api.py --server URL --token T  any other API server
       python bench/api.py --against URL --token T both, in turns: the ratio to a running one, such as upstream's
       python bench/api.py --beside CHECKOUT       both, in turns: the ratio to another checkout with a .venv of its own
       python bench/api.py --stages                where the time of one pod's creation goes, in this process

The load generator runs in this process and shares the machine with the server, as in the budgets. Each row prints the
rate, p50 and p99, and the ratio to the budget; quote ratios of one run, not seconds. With two servers, each row is
measured in `--rounds` alternating rounds, and the ratio is the median of the rounds', so that what else the machine
does falls on both. Of servers whose process is known (`--pid` for a running one) the CPU time of a call is printed,
too: it hardly depends on the machine's other load. Bounded: `--scale` makes it smaller, `--rows` chooses.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import uvloop

from tiphys.api.object import Object
from tiphys.client.errors import AlreadyExists, NotFound
from tiphys.client.resources import CONFIG_MAPS, NAMESPACES, PODS, ResourcePath
from tiphys.client.rest import Client
from tiphys.wire.client import SocketTransport, parse_url
from tiphys.wire.tls.contexts import client_context

Call = Callable[[int], Awaitable[Any]]

NAMESPACE = "bench"
NODE = "bench-node"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"
BUDGETS = {
    "create a ConfigMap, 16 connections": 2000,
    "create a Pod, 16 connections": 1200,
    "read a Pod, 16 connections": 8000,
    "list 4,800 pods, 2 connections": 30,
    "list a page of 500 pods, 2 connections": 0,
    "list the 48 pods of a node, 2 connections": 0,
    "list a page of 500 as a table, 2 connections": 0,
    "deliver events to 500 watchers": 120_000,
}


def config_map(number: int) -> Object:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"c{number}"}, "data": {"key": "value" * 10}}


def pod(number: int) -> Object:
    """A pod that no scheduler and no kubelet takes."""
    containers = [{"name": "c", "image": "registry.k8s.io/pause:3.10", "resources": {"requests": {"cpu": "10m"}}}]
    meta = {"name": f"p{number}", "labels": {"app": f"a{number % 10}"}}
    spec = {"schedulerName": "nobody", "automountServiceAccountToken": False, "containers": containers}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec}


def pod_on_node(number: int) -> Object:
    made = pod(number)
    made["spec"]["nodeName"] = NODE
    return made


@dataclass(slots=True)
class Sample:
    """What one round of one row gave: calls per second, the seconds that each took, and the server's CPU seconds."""

    rate: float
    times: list[float]
    calls: int
    cpu: float = 0.0


class Load:
    """One server under load, each connection a client of its own. Each method is a row; ``turn`` makes names new."""

    def __init__(self, connect: Callable[[], Client], scale: float, pids: Sequence[int] = ()) -> None:
        self.pids = pids
        self._connect = connect
        self._scale = scale
        self._pods = self.count(4800)

    def count(self, number: int) -> int:
        return max(1, int(number * self._scale))

    async def spread(self, connections: int, first: int, calls: int, make: Callable[[Client], Call]) -> Sample:
        """``calls`` calls, numbered from ``first`` on, over ``connections`` connections at once."""
        clients = [self._connect() for _ in range(connections)]
        numbers, times = iter(range(first, first + calls)), []

        async def work(client: Client) -> None:
            call = make(client)
            for number in numbers:
                started = time.perf_counter()
                await call(number)
                times.append(time.perf_counter() - started)

        started = time.perf_counter()
        await asyncio.gather(*(work(client) for client in clients))
        elapsed = time.perf_counter() - started
        for client in clients:
            await client.close()
        return Sample(calls / elapsed, times, calls)

    async def begin(self) -> None:
        client = self._connect()
        await clear(client)
        await ready(client)
        await client.close()

    async def end(self) -> None:
        client = self._connect()
        await clear(client)
        await client.close()

    async def config_maps(self, turn: int, rounds: int) -> Sample:
        calls = self.count(10_000 // rounds)
        return await self.spread(16, turn * calls, calls, lambda client: creating(client, CONFIG_MAPS, config_map))

    async def pods(self, turn: int, rounds: int) -> Sample:
        calls = self._pods // rounds
        return await self.spread(16, turn * calls, calls, lambda client: creating(client, PODS, pod))

    async def reads(self, _: int, rounds: int) -> Sample:
        made = self._pods // rounds * rounds
        return await self.spread(16, 0, self.count(40_000 // rounds), lambda client: reading(client, made))

    async def lists(self, _: int, rounds: int) -> Sample:
        return await self.spread(2, 0, self.count(100 // rounds), partial(listing, resourceVersion="0"))

    async def pages(self, _: int, rounds: int) -> Sample:
        return await self.spread(2, 0, self.count(1000 // rounds), partial(listing, limit="500"))

    async def of_node(self, turn: int, rounds: int) -> Sample:
        if turn == 0:
            await self.spread(16, 100_000, 48, lambda client: creating(client, PODS, pod_on_node))
        of_node = partial(listing, fieldSelector=f"spec.nodeName={NODE}", resourceVersion="0")
        return await self.spread(2, 0, self.count(1000 // rounds), of_node)

    async def tables(self, _: int, rounds: int) -> Sample:
        return await self.spread(2, 0, self.count(250 // rounds), partial(listing, accept=TABLE, limit="500"))

    async def fan_out(self, turn: int, rounds: int) -> Sample:
        """Changes of one object, delivered to 500 watchers on connections of their own."""
        client = self._connect()
        watchers, changes = 500, self.count(400 // rounds)
        wanted = watchers * changes
        got, done = 0, asyncio.Event()
        version = (await client.list(CONFIG_MAPS, NAMESPACE, limit=1))["metadata"]["resourceVersion"]
        opened = asyncio.Semaphore(32)
        name = f"watched-{turn}"

        async def follow() -> None:
            nonlocal got
            watcher = self._connect()
            params = {"watch": "true", "resourceVersion": version, "fieldSelector": f"metadata.name={name}"}
            async with opened:
                response = await watcher.request("GET", CONFIG_MAPS.path(NAMESPACE), params=params)
            started.release()
            async for chunk in response.chunks():
                got += chunk.count(b"\n")
                if got >= wanted:
                    done.set()

        started = asyncio.Semaphore(0)
        tasks = [asyncio.create_task(follow()) for _ in range(watchers)]
        for _ in range(watchers):
            await started.acquire()
        begin, before = time.perf_counter(), cpu_seconds(self.pids)
        await client.create(CONFIG_MAPS, {**config_map(0), "metadata": {"name": name}}, namespace=NAMESPACE)
        for number in range(changes - 1):
            await client.patch(CONFIG_MAPS, name, {"data": {"n": str(number)}}, NAMESPACE)
        async with asyncio.timeout(120):
            await done.wait()
        elapsed, cpu = time.perf_counter() - begin, cpu_seconds(self.pids) - before
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await client.close()
        return Sample(wanted / elapsed, [], wanted, cpu)


ROWS: dict[str, Callable[[Load, int, int], Awaitable[Sample]]] = {
    "create a ConfigMap, 16 connections": Load.config_maps,
    "create a Pod, 16 connections": Load.pods,
    "read a Pod, 16 connections": Load.reads,
    "list 4,800 pods, 2 connections": Load.lists,
    "list a page of 500 pods, 2 connections": Load.pages,
    "list the 48 pods of a node, 2 connections": Load.of_node,
    "list a page of 500 as a table, 2 connections": Load.tables,
    "deliver events to 500 watchers": Load.fan_out,
}


async def rows(loads: Sequence[Load], rounds: int, wanted: str = "") -> None:
    """Every row, the servers taking turns; prints the first one's rate, and its ratio to the second's."""
    for load in loads:
        await load.begin()
    for name, measure in ROWS.items():
        if wanted and not re.search(wanted, name):
            continue
        taken: list[list[Sample]] = [[] for _ in loads]
        for turn in range(rounds):
            for load, samples in zip(loads, taken, strict=True):
                before = cpu_seconds(load.pids)
                samples.append(await measure(load, turn, rounds))
                samples[-1].cpu = samples[-1].cpu or cpu_seconds(load.pids) - before
        show(name, taken)
    for load in loads:
        await load.end()


def creating(client: Client, resource: ResourcePath, make: Callable[[int], Object]) -> Call:
    return lambda number: client.create(resource, make(number), namespace=NAMESPACE)


def reading(client: Client, pods: int) -> Call:
    async def read(number: int) -> None:
        response = await client.request("GET", PODS.path(NAMESPACE, f"p{number % pods}"))
        await response.read()

    return read


def listing(client: Client, accept: str = "application/json", **query: str) -> Call:
    async def read(number: int) -> None:
        response = await client.request("GET", PODS.path(NAMESPACE), params=query, headers={"accept": accept})
        await response.read()

    return read


async def ready(client: Client) -> None:
    """The namespace, and the service account that pods need, which a controller makes where one runs."""
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}
    await client.create(NAMESPACES, namespace)
    try:
        await client.create(ResourcePath("", "v1", "serviceaccounts"), account, namespace=NAMESPACE)
    except AlreadyExists:
        return


async def clear(client: Client) -> None:
    for resource in (PODS, CONFIG_MAPS):
        await client.delete_collection(resource, NAMESPACE)
    try:
        await client.delete(NAMESPACES, NAMESPACE)
    except NotFound:
        return
    body = (
        b'{"kind":"Namespace","apiVersion":"v1","metadata":{"name":"%b"},"spec":{"finalizers":[]}}' % NAMESPACE.encode()
    )
    response = await client.request("PUT", f"/api/v1/namespaces/{NAMESPACE}/finalize", body=body)
    await response.read()


def show(name: str, taken: Sequence[Sequence[Sample]]) -> None:
    rates = [statistics.median(sample.rate for sample in samples) for samples in taken]
    line = f"{name:<45} {rates[0]:10,.1f}/s"
    if budget := BUDGETS[name]:
        line += f"   budget {budget:>7,}, ratio {rates[0] / budget:4.2f}"
    times = [seconds for sample in taken[0] for seconds in sample.times]
    if len(times) > 1:
        cuts = statistics.quantiles(times, n=100)
        line += f"   p50 {cuts[49] * 1000:7.2f} ms   p99 {cuts[98] * 1000:7.2f} ms"
    if len(taken) > 1:
        ratios = [ours.rate / theirs.rate for ours, theirs in zip(*taken, strict=True)]
        line += f"   the other {rates[1]:10,.1f}/s, ratio {statistics.median(ratios):5.2f}"
        line += f" ({min(ratios):.2f}-{max(ratios):.2f})"
    costs = [statistics.median(sample.cpu / sample.calls for sample in samples) * 1e6 for samples in taken]
    line += f"   CPU {costs[0]:,.1f} µs"
    if len(taken) > 1 and costs[1]:
        line += f", the other {costs[1]:,.1f} µs, ratio {costs[1] / costs[0]:.2f}"
    print(line, flush=True)


def cpu_seconds(pids: Sequence[int]) -> float:
    """What the threads of these processes have used so far."""
    threads = [thread for pid in pids for thread in Path(f"/proc/{pid}/task").iterdir()]
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9


@contextmanager
def own_server(python: str = sys.executable, port: int = 16643) -> Any:
    """`tiphys up`'s API server with a store of its own, which is gone afterwards; gives what ``server_in`` gives."""
    with tempfile.TemporaryDirectory(prefix="tiphys-bench-") as folder, server_in(Path(folder), python, port) as server:
        yield server


@contextmanager
def server_in(folder: Path, python: str = sys.executable, port: int = 16643) -> Any:
    """`tiphys up`'s API server as a process of its own over the store in ``folder``; gives its URL, a TLS context with
    an administrator's key, and its process id. ``python`` is that of the checkout to run."""
    from tiphys.cluster.credentials import ensure_kubeconfigs
    from tiphys.cluster.pki import ensure_pki
    from tiphys.cluster.settings import Settings

    where = {"node_ip": "127.0.0.1", "port": port, "etcd_port": port + 1}
    settings = Settings(data_dir=folder, **where)  # type: ignore[arg-type]
    ensure_pki(settings)
    ensure_kubeconfigs(settings)
    code = (
        "from pathlib import Path; from tiphys.cluster.settings import Settings;"
        "from tiphys.cli.programs.controlplane import apiserver;"
        "from tiphys.cli.programs.process import component;"
        f"s = Settings(data_dir=Path({str(folder)!r}), **{where});"
        "component('kube-apiserver', s, apiserver).run(lambda: print('ready', flush=True))"
    )
    process = subprocess.Popen([python, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        yield f"https://127.0.0.1:{port}", admin_tls(settings), process.pid
    finally:
        process.terminate()
        process.wait(30)


def admin_tls(settings: Any) -> ssl.SSLContext:
    from tiphys.cluster import kubeconfig

    _, ca, certificate, key = kubeconfig.credentials(kubeconfig.load(settings.kubeconfig("super-admin")))
    return client_context(ca=ca, cert=certificate, key=key)


def memory(pid: int) -> float:
    """Resident memory of a process in MiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) / 1024


def connector(url: str, tls: ssl.SSLContext | None, token: str) -> Callable[[], Client]:
    address = parse_url(url)

    def connect() -> Client:
        transport = SocketTransport(address.host, address.port, tls=tls)
        return Client(transport, user_agent="bench", token=(lambda: token) if token else None, timeout=120)

    return connect


def run(loads: Sequence[Load], arguments: argparse.Namespace, rounds: int) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(rows(loads, rounds, arguments.rows))


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--server", help="URL of a running API server, to be measured alone")
    options.add_argument("--against", help="URL of a running API server, to be measured in turns with our own")
    options.add_argument("--beside", help="folder of another checkout, to be measured in turns with this one")
    options.add_argument("--token", default=os.environ.get("TOKEN", ""), help="token for the running API server")
    options.add_argument(
        "--pid",
        type=int,
        action="append",
        default=[],
        help="processes of the running API server and its store, for CPU",
    )
    options.add_argument("--scale", type=float, default=1.0, help="factor on the number of requests")
    options.add_argument("--rounds", type=int, default=5, help="how often two servers take turns at a row")
    options.add_argument("--rows", default="", help="a regular expression: only rows whose name it finds")
    options.add_argument("--stages", action="store_true")
    arguments = options.parse_args()
    if arguments.stages:
        stages()
    elif arguments.server:
        run([running(arguments, arguments.server)], arguments, 1)
    else:
        in_turns(arguments)


def running(arguments: argparse.Namespace, url: str) -> Load:
    tls = client_context(verify=False) if url.startswith("https:") else None
    return Load(connector(url, tls, arguments.token), arguments.scale, arguments.pid)


def in_turns(arguments: argparse.Namespace) -> None:
    """Our own server, and beside it the one that it is compared to, if there is one."""
    with ExitStack() as stack:
        url, tls, pid = stack.enter_context(own_server())
        loads = [Load(connector(url, tls, ""), arguments.scale, [pid])]
        if arguments.beside:
            python = str(Path(arguments.beside) / ".venv" / "bin" / "python")
            url, tls, other = stack.enter_context(own_server(python, 16645))
            loads.append(Load(connector(url, tls, ""), arguments.scale, [other]))
        elif arguments.against:
            loads.append(running(arguments, arguments.against))
        before = memory(pid)
        run(loads, arguments, arguments.rounds if len(loads) > 1 else 1)
        print(f"{'memory of store and API server':<38} {before:.0f} MiB at first, {memory(pid):.0f} MiB after")


def stages() -> None:
    """The cost of the pure parts of one pod's creation, each alone, in µs."""
    import orjson

    from tiphys.api import codec
    from tiphys.api.apply import update_managed_fields
    from tiphys.api.defaults import apply_defaults
    from tiphys.api.schema import schema_for
    from tiphys.api.scheme import GroupVersionKind
    from tiphys.validation import validate_create

    gvk = GroupVersionKind("", "v1", "Pod")
    schema = schema_for(gvk)
    body = orjson.dumps(pod(1))
    meta = {
        "uid": "0" * 8 + "-0000-4000-8000-" + "0" * 12,
        "namespace": NAMESPACE,
        "creationTimestamp": "2026-01-01T00:00:00Z",
    }

    def decoded() -> Object:
        return codec.decode(body, "application/json", gvk, schema).object

    def defaulted() -> Object:
        obj = decoded()
        apply_defaults(obj, gvk)
        obj["metadata"].update(meta)
        return codec.complete(obj, schema)

    ready_made = defaulted()
    ours = update_managed_fields(None, defaulted(), "bench", gvk, schema, "2026-01-01T00:00:00Z")
    parse = cost(decoded)
    steps = {
        "parse": parse,
        "defaulting": cost(defaulted) - parse,
        "validation": cost(lambda: validate_create(ready_made, gvk)),
        "managed fields": cost(
            lambda: update_managed_fields(
                None, orjson.loads(orjson.dumps(ready_made)), "bench", gvk, schema, meta["creationTimestamp"]
            )
        )
        - cost(lambda: orjson.loads(orjson.dumps(ready_made))),
        "encode": cost(lambda: codec.encode(ours)),
    }
    for name, seconds in steps.items():
        print(f"{name:<16} {seconds * 1e6:7.1f} µs")
    print(f"{'together':<16} {sum(steps.values()) * 1e6:7.1f} µs")


def cost(work: Callable[[], Any], rounds: int = 2000) -> float:
    """The median of a call, in seconds."""
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


if __name__ == "__main__":
    main()
