"""What an API server does under load: the rows of the design's budgets, against any server.

Usage: python bench/api.py                         a Tiphys API server of its own, durable store, TLS, one process
       python bench/api.py --server URL --token T  any API server, such as the Go original, for the ratio
       python bench/api.py --stages                where the time of one pod's creation goes, in this process

The load generator runs in this process and shares the machine with the server, as in the budgets. Each row prints the
rate, p50 and p99, and the ratio to the budget; quote ratios of one run, not seconds. Load is bounded: `--scale` makes
it smaller.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvloop

from tiphys.client.errors import AlreadyExists, NotFound
from tiphys.client.resources import CONFIG_MAPS, NAMESPACES, PODS, ResourcePath
from tiphys.client.rest import Client
from tiphys.wire.client import SocketTransport, parse_url
from tiphys.wire.tls import client_context

Object = dict[str, Any]
Call = Callable[[int], Awaitable[Any]]

NAMESPACE = "bench"
BUDGETS = {
    "create a ConfigMap, 16 connections": 2000,
    "create a Pod, 16 connections": 1200,
    "read a Pod, 16 connections": 8000,
    "list 4,800 pods, 2 connections": 30,
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


class Load:
    """One server under load, each connection a client of its own."""

    def __init__(self, connect: Callable[[], Client], scale: float) -> None:
        self._connect = connect
        self._scale = scale

    def count(self, number: int) -> int:
        return max(1, int(number * self._scale))

    async def spread(self, name: str, connections: int, calls: int, make: Callable[[Client], Call]) -> None:
        """``calls`` calls over ``connections`` connections at once; prints the row."""
        clients = [self._connect() for _ in range(connections)]
        numbers, times = iter(range(calls)), []

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
        row(name, calls / elapsed, times)

    async def rows(self) -> None:
        client = self._connect()
        await clear(client)
        await ready(client)
        await self.spread(
            "create a ConfigMap, 16 connections", 16, self.count(10_000), lambda c: creating(c, CONFIG_MAPS, config_map)
        )
        pods = self.count(4800)
        await self.spread("create a Pod, 16 connections", 16, pods, lambda c: creating(c, PODS, pod))
        await self.spread("read a Pod, 16 connections", 16, self.count(40_000), lambda c: reading(c, pods))
        await self.spread("list 4,800 pods, 2 connections", 2, self.count(100), listing)
        await self.fan_out(client)
        await clear(client)
        await client.close()

    async def fan_out(self, client: Client) -> None:
        """Changes of one object, delivered to 500 watchers on connections of their own."""
        watchers, changes = 500, self.count(400)
        wanted = watchers * changes
        got, done = 0, asyncio.Event()
        version = (await client.list(CONFIG_MAPS, NAMESPACE, limit=1))["metadata"]["resourceVersion"]
        opened = asyncio.Semaphore(32)

        async def follow() -> None:
            nonlocal got
            watcher = self._connect()
            params = {"watch": "true", "resourceVersion": version, "fieldSelector": "metadata.name=watched"}
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
        begin = time.perf_counter()
        await client.create(CONFIG_MAPS, {**config_map(0), "metadata": {"name": "watched"}}, namespace=NAMESPACE)
        for number in range(changes - 1):
            await client.patch(CONFIG_MAPS, "watched", {"data": {"n": str(number)}}, NAMESPACE)
        async with asyncio.timeout(120):
            await done.wait()
        row("deliver events to 500 watchers", wanted / (time.perf_counter() - begin), [])
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def creating(client: Client, resource: ResourcePath, make: Callable[[int], Object]) -> Call:
    return lambda number: client.create(resource, make(number), namespace=NAMESPACE)


def reading(client: Client, pods: int) -> Call:
    async def read(number: int) -> None:
        response = await client.request("GET", PODS.path(NAMESPACE, f"p{number % pods}"))
        await response.read()

    return read


def listing(client: Client) -> Call:
    async def read(number: int) -> None:
        response = await client.request("GET", PODS.path(NAMESPACE), params={"resourceVersion": "0"})
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


def row(name: str, rate: float, times: list[float]) -> None:
    budget = BUDGETS[name]
    spread = ""
    if len(times) > 1:
        cuts = statistics.quantiles(times, n=100)
        spread = f"   p50 {cuts[49] * 1000:7.2f} ms   p99 {cuts[98] * 1000:7.2f} ms"
    print(f"{name:<38} {rate:10,.1f}/s   budget {budget:>7,}, ratio {rate / budget:4.2f}{spread}", flush=True)


@contextmanager
def own_server() -> Any:
    """`tiphys kube-apiserver` as a process of its own; gives its URL and a TLS context with an administrator's key."""
    from tiphys.cluster.kubeconfig import ensure_kubeconfigs
    from tiphys.cluster.pki import ensure_pki
    from tiphys.cluster.settings import Settings

    with tempfile.TemporaryDirectory(prefix="tiphys-bench-") as folder:
        settings = Settings(data_dir=Path(folder), node_ip="127.0.0.1", port=16643)
        ensure_pki(settings)
        ensure_kubeconfigs(settings)
        code = (
            "from pathlib import Path; from tiphys.cluster.settings import Settings;"
            "from tiphys.cli.programs import _component, apiserver;"
            f"s = Settings(data_dir=Path({folder!r}), node_ip='127.0.0.1', port=16643);"
            "_component(s, lambda ready: apiserver(s, ready))(lambda: print('ready', flush=True))"
        )
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        try:
            assert process.stdout is not None
            process.stdout.readline()
            yield "https://127.0.0.1:16643", admin_tls(settings), process.pid
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


def run(url: str, tls: ssl.SSLContext | None, token: str, scale: float) -> None:
    address = parse_url(url)

    def connect() -> Client:
        transport = SocketTransport(address.host, address.port, tls=tls)
        return Client(transport, user_agent="bench", token=(lambda: token) if token else None, timeout=120)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(Load(connect, scale).rows())


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--server", help="URL of a running API server")
    options.add_argument("--token", default=os.environ.get("TOKEN", ""))
    options.add_argument("--scale", type=float, default=1.0, help="factor on the number of requests")
    options.add_argument("--stages", action="store_true")
    arguments = options.parse_args()
    if arguments.stages:
        stages()
    elif arguments.server:
        run(arguments.server, client_context(verify=False), arguments.token, arguments.scale)
    else:
        with own_server() as (url, tls, pid):
            before = memory(pid)
            run(url, tls, "", arguments.scale)
            print(f"{'memory of store and API server':<38} {before:.0f} MiB at first, {memory(pid):.0f} MiB after")


def stages() -> None:
    """The cost of the pure parts of one pod's creation, each alone, in µs."""
    import orjson

    from tiphys.api import codec
    from tiphys.api.apply import update_managed_fields
    from tiphys.api.defaults import apply_defaults
    from tiphys.api.schema import schema_for
    from tiphys.api.scheme import GroupVersionKind
    from tiphys.api.validation import validate_create

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
