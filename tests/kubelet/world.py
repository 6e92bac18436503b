"""A kubelet's world without a machine: an API of dicts, the simulated runtime, virtual time."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import orjson

from tests.kubelet.simulated import SimulatedRuntime
from tiphys.api.object import Object
from tiphys.client.rest import Client
from tiphys.kubelet.config import KubeletConfig
from tiphys.kubelet.kubelet import Kubelet
from tiphys.kubelet.node.machine import MachineInfo
from tiphys.kubelet.topology.cpusets import CpuTopology
from tiphys.kubelet.topology.numa import Numa
from tiphys.runtime.clock import Clock, SystemClock, VirtualClock, VirtualTimeLoop
from tiphys.wire.http import Handler, Request, Response, Sink
from tiphys.wire.inprocess import InProcessTransport

NODE = "node-1"
_COLLECTIONS = ("configmaps", "nodes", "pods", "secrets", "services")


class FakeApi:
    """As much of an API server as a kubelet uses: objects by path, versions, watches, graceful deletion of pods."""

    def __init__(self, now: Callable[[], str]) -> None:
        self._now = now
        self.objects: dict[str, Object] = {}
        self._versions = itertools.count(1)
        self._uids = itertools.count(1)
        self._watchers: list[tuple[str, dict[str, str], Callable[[Object], None]]] = []
        self.patches: list[tuple[str, Object]] = []
        self.down = False
        """Whether nobody answers."""

    @property
    def handler(self) -> Handler:
        return self._handle

    # What tests use.

    def put(self, collection: str, obj: Object) -> Object:
        """Create or replace, as a user would."""
        meta = obj["metadata"]
        path = self._place(collection, obj)
        event = "MODIFIED" if path in self.objects else "ADDED"
        meta.setdefault("uid", f"uid-{next(self._uids)}")
        meta.setdefault("creationTimestamp", self._now())
        meta["resourceVersion"] = str(next(self._versions))
        self.objects[path] = obj
        self._tell(path, event, obj)
        return obj

    def get(self, path: str) -> Object | None:
        return self.objects.get(path)

    def pod(self, name: str) -> Object:
        return self.objects[f"/api/v1/namespaces/default/pods/{name}"]

    def has_pod(self, name: str) -> bool:
        return f"/api/v1/namespaces/default/pods/{name}" in self.objects

    def delete_pod(self, name: str, grace: int | None = None) -> None:
        pod = self.pod(name)
        seconds = grace if grace is not None else int(pod["spec"].get("terminationGracePeriodSeconds", 30))
        path = f"/api/v1/namespaces/default/pods/{name}"
        if seconds == 0:
            self.remove(path)
            return
        meta = {**pod["metadata"], "deletionTimestamp": self._now(), "deletionGracePeriodSeconds": seconds}
        self.put("/api/v1/namespaces/default/pods", {**pod, "metadata": meta})

    def remove(self, path: str) -> None:
        gone = self.objects.pop(path)
        self._tell(path, "DELETED", gone)

    def watched(self, collection: str) -> bool:
        return any(path.endswith(f"/{collection}") for path, _, _ in self._watchers)

    def events(self) -> list[tuple[str, str]]:
        """(reason, message) of every event, in order."""
        found = [obj for path, obj in self.objects.items() if "/events/" in path]
        return [(event["reason"], event["message"]) for event in found]

    # Serving.

    def _place(self, collection: str, obj: Object) -> str:
        return f"{collection}/{obj['metadata']['name']}"

    def _tell(self, path: str, event: str, obj: Object) -> None:
        for prefix, query, send in list(self._watchers):
            if _inside(prefix, path) and _selected(query, obj):
                send({"type": event, "object": obj})

    async def _handle(self, request: Request) -> Response:
        if self.down:
            raise ConnectionRefusedError("connect to the API server: refused")
        query = dict(parse_qsl(request.query))
        body = orjson.loads(request.body) if request.body else None
        path = request.path.removesuffix("/status")
        match request.method:
            case "GET" if "watch" in query:
                return self._watch(path, query)
            case "GET" if path in self.objects:
                return _answer(self.objects[path])
            case "GET" if path.rsplit("/", 1)[1] in _COLLECTIONS:
                return self._list(path, query)
            case "POST" if path.endswith("/token"):
                return _answer({"status": {"token": "secret-token", "expirationTimestamp": "2026-01-01T01:00:00Z"}})
            case "POST":
                if self._place(path, body) in self.objects:
                    return _failure(409, "AlreadyExists", "it exists")
                return _answer(self.put(path, body))
            case "PUT":
                return _answer(self.put(path.rsplit("/", 1)[0], body))
            case "PATCH" if path in self.objects:
                return self._patch(path, body)
            case "DELETE" if path in self.objects:
                self.remove(path)
                return _answer({"kind": "Status", "status": "Success"})
        name = path.rsplit("/", 1)[1]
        return _failure(404, "NotFound", f'{path.rsplit("/", 2)[1]} "{name}" not found')

    def _patch(self, path: str, patch: Object) -> Response:
        self.patches.append((path, patch))
        old = self.objects[path]
        if patch.get("metadata", {}).get("uid", old["metadata"]["uid"]) != old["metadata"]["uid"]:
            return _failure(409, "Conflict", "another uid")
        return _answer(self.put(path.rsplit("/", 1)[0], _merge(old, patch)))

    def _list(self, path: str, query: dict[str, str]) -> Response:
        items = [o for p, o in self.objects.items() if _inside(path, p) and _selected(query, o)]
        version = str(next(self._versions))
        return _answer({"kind": "List", "metadata": {"resourceVersion": version}, "items": items})

    def _watch(self, path: str, query: dict[str, str]) -> Response:
        async def stream(sink: Sink) -> None:
            entry = (path, query, lambda event: sink.write(orjson.dumps(event) + b"\n"))
            self._watchers.append(entry)
            try:
                await sink.wait_closed()
            finally:
                self._watchers.remove(entry)

        return Response(200, {"Content-Type": "application/json"}, stream)


def _inside(collection: str, path: str) -> bool:
    if path.startswith(f"{collection}/"):
        return "/" not in path[len(collection) + 1 :]
    root, _, plural = collection.rpartition("/")
    return path.startswith(f"{root}/namespaces/") and path.split("/")[-2] == plural


def _selected(query: dict[str, str], obj: Object) -> bool:
    for term in filter(None, query.get("fieldSelector", "").split(",")):
        key, _, wanted = term.partition("=")
        value: Any = obj
        for part in key.split("."):
            value = (value or {}).get(part)
        if value != wanted:
            return False
    return True


def _merge(old: Any, patch: Any) -> Any:
    """A strategic merge patch as the kubelet sends them: conditions merge by type, other lists are replaced."""
    if not isinstance(patch, dict):
        return patch
    found = dict(old) if isinstance(old, dict) else {}
    for key, value in patch.items():
        if key.startswith("$"):
            continue
        if value is None:
            found.pop(key, None)
        elif key == "conditions":
            known = {c["type"]: c for c in found.get(key) or []}
            for condition in value:
                if condition.get("$patch") == "delete":
                    known.pop(condition["type"], None)
                else:
                    known[condition["type"]] = _merge(known.get(condition["type"]), condition)
            found[key] = list(known.values())
        elif isinstance(value, list):
            found[key] = [item for item in value if not (isinstance(item, dict) and "$patch" in item)]
        else:
            found[key] = _merge(found.get(key), value)
    return json.loads(json.dumps(found))


def _answer(obj: Object) -> Response:
    return Response(200, {"Content-Type": "application/json"}, orjson.dumps(obj))


def _failure(code: int, reason: str, message: str) -> Response:
    status = {"kind": "Status", "code": code, "reason": reason, "message": message, "status": "Failure"}
    return Response(code, {"Content-Type": "application/json"}, orjson.dumps(status))


def pod(name: str, *containers: Object, **spec: Any) -> Object:
    """A pod on this node, with what the API server would have defaulted."""
    wanted = {
        "nodeName": NODE,
        "restartPolicy": "Always",
        "terminationGracePeriodSeconds": 30,
        "dnsPolicy": "ClusterFirst",
        "enableServiceLinks": True,
        "containers": list(containers) or [container("main")],
        **spec,
    }
    meta = {"name": name, "namespace": "default", "uid": f"uid-{name}", "generation": 1}
    return {"kind": "Pod", "apiVersion": "v1", "metadata": meta, "spec": wanted, "status": {"phase": "Pending"}}


def container(name: str, *command: str, **more: Any) -> Object:
    return {
        "name": name,
        "image": "web:1",
        "imagePullPolicy": "IfNotPresent",
        "command": list(command) or ["sleep", "1000000"],
        **more,
    }


class World:
    """A kubelet that runs, and all it touches."""

    def __init__(
        self,
        folder: Path,
        clock: Clock,
        adjust: Callable[[KubeletConfig], None] = lambda _: None,
        topology: CpuTopology | None = None,
        numa_nodes: Numa | None = None,
    ) -> None:
        from tiphys.controlkit.objects import timestamp

        self._adjust = adjust
        self._topology = topology
        self._numa_nodes = numa_nodes
        self.folder = folder
        self.clock = clock
        self.api = FakeApi(lambda: timestamp(self.clock.now()))
        self.runtime = SimulatedRuntime(self.clock)
        self.kubelet = self.new_kubelet()
        self._task: asyncio.Task[None] | None = None

    def new_kubelet(self, static_pods: Path | None = None) -> Kubelet:
        config = KubeletConfig(
            NODE,
            root=self.folder / "kubelet",
            node_ips=("192.0.2.10",),
            log_root=str(self.folder / "logs"),
            container_log_links=str(self.folder / "links"),
            cluster_dns=("10.96.0.10",),
            cgroups_per_qos=False,
            memory_volumes=False,
            serve=False,
            static_pod_path=static_pods,
        )
        self._adjust(config)
        machine = MachineInfo(4, 8 << 30, 100 << 30, "amd64", "m", "s", "b", "6.1", "Debian")
        client = Client(InProcessTransport(self.api.handler), user_agent="kubelet")
        return Kubelet(
            config=config,
            client=client,
            runtime=self.runtime,
            images=self.runtime,
            clock=self.clock,
            machine=machine,
            rng=random.Random(1),
            topology=self._topology,
            numa_nodes=self._numa_nodes,
        )

    async def start(self) -> None:
        self._task = asyncio.ensure_future(self.kubelet.run())
        # What is put between a list and its watch is lost: this API keeps no history.
        await self.until(lambda: self.kubelet.pods.synced and self.api.watched("pods"))

    async def stop(self) -> None:
        """The kubelet dies; pods run on."""
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def restart(self) -> None:
        await self.stop()
        self.kubelet = self.new_kubelet()
        await self.start()

    def add(self, obj: Object) -> Object:
        return self.api.put("/api/v1/namespaces/default/pods", obj)

    async def until(self, condition: Callable[[], bool], seconds: float = 600) -> None:
        """Wait in virtual time until ``condition`` holds."""
        deadline = self.clock.monotonic() + seconds
        while not condition():
            assert self.clock.monotonic() < deadline, f"not within {seconds} s of virtual time"
            await asyncio.sleep(0.01)

    def status(self, name: str) -> Object:
        return self.api.pod(name).get("status") or {}

    def phase(self, name: str) -> str:
        return str(self.status(name).get("phase")) if self.api.has_pod(name) else ""

    def ready(self, name: str) -> bool:
        return self.condition(name, "Ready") == "True"

    def condition(self, name: str, type_: str) -> str:
        conditions = self.status(name).get("conditions") or []
        return str(next((c["status"] for c in conditions if c["type"] == type_), ""))

    def container(self, name: str, container_name: str = "main") -> Object:
        status = self.status(name)
        found = [*(status.get("containerStatuses") or []), *(status.get("initContainerStatuses") or [])]
        return next((c for c in found if c["name"] == container_name), {})

    def started(self, container_name: str) -> int:
        """How often a container of this name was started."""
        return self.runtime.calls.count(("start_container", container_name))


@contextmanager
def virtual_loop() -> Iterator[VirtualTimeLoop]:
    loop = VirtualTimeLoop()
    try:
        yield loop
    finally:
        loop.close()


async def _played(folder: Path, clock: Clock, scene: Callable[[World], Awaitable[None]], **options: Any) -> None:
    world = World(folder, clock, **options)
    await world.start()
    try:
        await scene(world)
    finally:
        await world.stop()
        await world.runtime.close()


def play(folder: Path, scene: Callable[[World], Awaitable[None]], **options: Any) -> None:
    """Run a scene with a kubelet in virtual time; ``options`` are those of ``World``."""
    with virtual_loop() as loop:
        loop.run_until_complete(_played(folder, VirtualClock(loop), scene, **options))


def play_in_real_time(folder: Path, scene: Callable[[World], Awaitable[None]], **options: Any) -> None:
    """Run a scene with a kubelet that talks to others by sockets, for whom time cannot be made to jump."""
    asyncio.run(_played(folder, SystemClock(), scene, **options))
