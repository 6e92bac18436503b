"""``Cluster``: the composition root of the in-process cluster, and the calls that a test makes of it.

Source of the idea: controller-runtime's envtest (a real API server for tests), and simulation testing on virtual time
(FoundationDB's; asyncio loops whose clock jumps).
"""

from __future__ import annotations

import asyncio
import inspect
import random
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any, TypeVar

from tiphys.api.object import Object
from tiphys.api.resources import builtin_scheme
from tiphys.api.scheme import Scheme
from tiphys.apiserver.admission.plugin import Plugin
from tiphys.apiserver.config import Config as APIServerConfig
from tiphys.apiserver.server import APIServer
from tiphys.client.errors import NotFound
from tiphys.client.informer import InformerFactory
from tiphys.client.resources import ResourcePath
from tiphys.client.rest import Client
from tiphys.controlkit.events import EventRecorder
from tiphys.controlkit.manager import Runnable
from tiphys.controllers.access.credentials import user_agent
from tiphys.controllers.config import ControllerManagerConfig
from tiphys.controllers.context import ControllerContext
from tiphys.controllers.manager import ControllerManager
from tiphys.runtime import yamltext
from tiphys.runtime.clock import VirtualClock, VirtualTimeLoop
from tiphys.runtime.tasks import Runner
from tiphys.scheduler.config import SchedulerConfig
from tiphys.scheduler.plugins.registry import Factory
from tiphys.scheduler.scheduler import Scheduler
from tiphys.store.memory import MemoryBackend
from tiphys.testing.latenews import LateClient, LateNews
from tiphys.testing.simnode import SimulatedNode
from tiphys.testing.situation import situation
from tiphys.wire.http import Transport
from tiphys.wire.inprocess import InProcessTransport

T = TypeVar("T")

ADMIN = ("kubernetes-admin", ("system:masters", "system:authenticated"))
POLL_SECONDS = 0.02


class TimedOut(AssertionError):
    """A condition did not come true within the cluster time that it was given."""


class Cluster:
    """A cluster with ``nodes`` simulated nodes. Use it as a context manager.

    ``seed`` makes every random choice of the cluster's own reproducible. ``controllers`` chooses controllers as
    kube-controller-manager's ``--controllers`` does. ``epoch`` is the wall-clock time at the start, in Unix seconds.
    With ``late_news`` controllers and scheduler learn of changes late, as it says.
    ``admission`` adds admission plugins; ``scheduler_plugins`` adds scheduler plugins by name, which ``scheduler``, the
    scheduler's configuration, puts into a profile. ``apiserver`` replaces the API server's configuration.
    """

    def __init__(
        self,
        *,
        nodes: int = 1,
        seed: int = 0,
        controllers: Iterable[str] = ("*",),
        epoch: float = 1_767_225_600.0,
        admission: Iterable[type[Plugin]] = (),
        scheduler: SchedulerConfig | None = None,
        scheduler_plugins: Mapping[str, Factory] | None = None,
        apiserver: APIServerConfig | None = None,
        late_news: LateNews | None = None,
    ) -> None:
        self.loop = VirtualTimeLoop()
        self.clock = VirtualClock(self.loop, epoch)
        self.rng = random.Random(seed)
        self._wanted_nodes = nodes
        self._controllers = tuple(controllers)
        self._late_news = late_news
        self._scheduler = scheduler or SchedulerConfig()
        self._scheduler_plugins = scheduler_plugins
        self._apiserver = apiserver or APIServerConfig(seed=seed)
        plugins = {plugin.name or plugin.__name__: plugin for plugin in admission}
        if plugins:
            self._apiserver = replace(self._apiserver, external_admission_plugins=plugins)
        self._stack = AsyncExitStack()
        self._scheme: Scheme = builtin_scheme()
        self._nodes: dict[str, asyncio.Task[None]] = {}
        self._runner: Runner
        self._server: APIServer
        self.client: Client
        """An asynchronous client with an administrator's rights, for coroutines given to ``run``."""

    def __enter__(self) -> Cluster:
        try:
            self.run(self._start())
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def _start(self) -> None:
        backend = MemoryBackend(self.clock)
        self._stack.push_async_callback(backend.close)
        self._server = APIServer(self._apiserver, backend, self.clock)
        await self._server.start()
        self._stack.push_async_callback(self._server.stop)
        self._runner = await self._stack.enter_async_context(Runner(self.clock, "cluster "))
        self.client = self.client_for("tiphys-testing", *ADMIN)
        await self._start_components()

    async def _start_components(self) -> None:
        config = ControllerManagerConfig(
            controllers=self._controllers, allocate_node_cidrs=True, cluster_cidrs=("10.244.0.0/16",)
        )
        client = self._component_client("kube-controller-manager", "system:kube-controller-manager")
        manager = ControllerManager(config, client, self.clock, rng=self.rng, client_for=self._controller_client)
        client = self._component_client("kube-scheduler", "system:kube-scheduler")
        scheduler = Scheduler(
            config=self._scheduler, client=client, clock=self.clock, rng=self.rng, plugins=self._scheduler_plugins
        )
        self._informers = InformerFactory(self.client, self.clock, self.rng)
        self._recorder = EventRecorder(self.client, self.clock, "tiphys-testing", rng=self.rng)
        self._context = ControllerContext(
            self.client, self._informers, self.clock, self._recorder, config, rng=self.rng
        )
        self._runner.spawn(self._informers.run(), "informers")
        self._runner.spawn(self._recorder.run(), "events")
        self._runner.spawn(manager.run(), "controller manager")
        self._runner.spawn(scheduler.run(), "scheduler")
        for number in range(self._wanted_nodes):
            self._spawn_node(f"node-{number}")

    def _component_client(
        self, user_agent: str, user: str, groups: Iterable[str] = ("system:authenticated",)
    ) -> Client:
        if self._late_news is None:
            return self.client_for(user_agent, user, groups)
        transport = self.transport_for(user, groups)
        return LateClient(transport, self._late_news, clock=self.clock, rng=self.rng, user_agent=user_agent)

    async def _controller_client(self, account: str) -> Client:
        groups = ("system:serviceaccounts", "system:serviceaccounts:kube-system", "system:authenticated")
        return self._component_client(user_agent(account), f"system:serviceaccount:kube-system:{account}", groups)

    def start_controller(self, make: Callable[[ControllerContext], Runnable]) -> None:
        """Run a controller of your own in the cluster until its end, with an administrator's rights.

        ``make`` takes a ``ControllerContext``; a class whose constructor does is such a function.
        """

        async def start() -> None:
            controller = make(self._context)
            self._runner.spawn(controller.run(), type(controller).__name__)

        self.run(start())

    def close(self) -> None:
        """End everything. The cluster's objects are gone with it."""
        if self.loop.is_closed():
            return
        try:
            self.run(self._stack.aclose())
        finally:
            self.loop.close()

    # Time.

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the cluster's event loop to its end; the cluster works meanwhile."""
        return self.loop.run_until_complete(work)

    def run_for(self, seconds: float) -> None:
        """Let ``seconds`` of cluster time pass."""
        self.run(asyncio.sleep(seconds))

    def wait_until(self, condition: Callable[[], Any], timeout: float = 60) -> Any:
        """Let time pass until ``condition()`` gives something true, and return that.

        ``condition`` may be a function or a coroutine function. Raises ``TimedOut`` after ``timeout`` seconds of
        cluster time.
        """
        deadline = self.clock.monotonic() + timeout
        while True:
            outcome = condition()
            if inspect.isawaitable(outcome):
                outcome = self.run(_awaited(outcome))
            if outcome:
                return outcome
            if self.clock.monotonic() > deadline:
                raise TimedOut(
                    f"the condition did not come true within {timeout} s of cluster time; it last gave {outcome!r}\n"
                    + self.run(situation(self.client))
                )
            self.run_for(POLL_SECONDS)

    # Objects, by apiVersion and kind.

    def create(self, obj: Object) -> Object:
        return self.run(self.client.create(self._path(obj), obj, namespace=self._namespace(obj)))

    def apply(self, manifest: str | Object, field_manager: str = "tiphys-testing") -> list[Object]:
        """Server-side apply of an object, or of every document of a YAML text."""
        documents = yamltext.load_all(manifest) if isinstance(manifest, str) else [manifest]
        return [self.run(self._apply(obj, field_manager)) for obj in documents if obj]

    async def _apply(self, obj: Object, field_manager: str) -> Object:
        if namespace := self._namespace(obj):
            obj = {**obj, "metadata": {**obj["metadata"], "namespace": namespace}}
        return await self.client.apply(self._path(obj), obj, field_manager, force=True)

    def get(self, api_version: str, kind: str, name: str, namespace: str = "default") -> Object | None:
        """The object, or None if it does not exist."""
        path = self.path(api_version, kind)
        try:
            return self.run(self.client.get(path, name, namespace if path.namespaced else ""))
        except NotFound:
            return None

    def list(
        self,
        api_version: str,
        kind: str,
        namespace: str = "",
        *,
        label_selector: str = "",
        field_selector: str = "",
        phase: str = "",
    ) -> list[Object]:
        """The objects of one namespace, or of all; ``phase`` keeps those whose ``status.phase`` it is."""
        answer = self.run(
            self.client.list(
                self.path(api_version, kind), namespace, label_selector=label_selector, field_selector=field_selector
            )
        )
        items: list[Object] = answer["items"]
        return [o for o in items if not phase or o.get("status", {}).get("phase") == phase]

    def events(self, obj: Object) -> Sequence[Object]:
        """The events about an object, oldest first."""
        about = self.list("v1", "Event", field_selector=f"involvedObject.uid={obj['metadata']['uid']}")
        return sorted(about, key=lambda event: event["metadata"]["creationTimestamp"])

    def patch(self, api_version: str, kind: str, name: str, patch: Object, namespace: str = "default") -> Object:
        """A JSON merge patch."""
        path = self.path(api_version, kind)
        return self.run(self.client.patch(path, name, patch, namespace if path.namespaced else ""))

    def delete(self, api_version: str, kind: str, name: str, namespace: str = "default") -> None:
        path = self.path(api_version, kind)
        self.run(self.client.delete(path, name, namespace if path.namespaced else "", propagation="Background"))

    # Nodes and clients.

    def add_node(self, name: str, **options: Any) -> SimulatedNode:
        """Add a simulated node; ``options`` are ``SimulatedNode``'s, such as ``capacity`` and ``labels``."""

        async def spawn() -> SimulatedNode:
            return self._spawn_node(name, **options)

        return self._spawn_node(name, **options) if self.loop.is_running() else self.run(spawn())

    def _spawn_node(self, name: str, **options: Any) -> SimulatedNode:
        client = self.client_for("kubelet", f"system:node:{name}", ("system:nodes", "system:authenticated"))
        node = SimulatedNode(name, client, self.clock, **options)
        self._nodes[name] = self._runner.spawn(node.run(), name)
        return node

    def stop_node(self, name: str) -> None:
        """End a node's kubelet, as a power cut does: the cluster finds out by its silence."""
        task = self._nodes.pop(name)
        task.cancel()
        self.run(_ended(task))

    def transport_for(self, user: str, groups: Iterable[str] = ("system:authenticated",)) -> Transport:
        """A transport whose requests come from ``user``: what RBAC allows that user is what it gets."""
        return InProcessTransport(self._server.handler, identity=(user, tuple(groups)))

    def client_for(self, user_agent: str, user: str, groups: Iterable[str] = ("system:authenticated",)) -> Client:
        """A client that acts as ``user``, for the operator under test."""
        return Client(self.transport_for(user, groups), user_agent=user_agent)

    def path(self, api_version: str, kind: str) -> ResourcePath:
        """Where a kind is served. Raises ``LookupError`` if it is not."""
        group, _, version = api_version.rpartition("/")
        resource = self._scheme.for_kind(group, kind)
        if resource is None or version not in resource.versions:
            raise LookupError(f"no kind {kind!r} in {api_version!r} is served")
        return ResourcePath(group, version, resource.plural, resource.namespaced)

    def _path(self, obj: Object) -> ResourcePath:
        return self.path(obj["apiVersion"], obj["kind"])

    def _namespace(self, obj: Object) -> str:
        """The object's namespace; ``default`` if it names none and its kind has one."""
        named: str = obj["metadata"].get("namespace", "")
        return (named or "default") if self._path(obj).namespaced else ""


async def _awaited(work: Awaitable[T]) -> T:
    return await work


async def _ended(task: asyncio.Task[None]) -> None:
    await asyncio.wait([task])
