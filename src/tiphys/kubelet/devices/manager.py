"""The device manager: what plugins offer becomes resources of the node, and their devices become part of containers.

A pod gets its devices when it is admitted. What it got is written down before it starts, so that the next kubelet knows
which devices are taken. Source:
https://kubernetes.io/docs/concepts/extend-kubernetes/compute-storage-net/device-plugins/
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tiphys.api.object import Object
from tiphys.kubelet import checkpoints
from tiphys.kubelet.checkpoints import CheckpointCorrupt
from tiphys.kubelet.container.extras import ContainerExtras
from tiphys.kubelet.devices import choice, ledger
from tiphys.kubelet.devices.ledger import Allocation, Device, DeviceLedger
from tiphys.kubelet.devices.messages import HEALTHY, VERSION
from tiphys.kubelet.devices.plugin import DevicePlugin, extras_of
from tiphys.kubelet.devices.registration import RegistrationServer, check_resource
from tiphys.kubelet.plugins.registration import PluginInfo, PluginRefused
from tiphys.kubelet.pod import pods
from tiphys.kubelet.pod.pods import ContainerSpec, Pod
from tiphys.kubelet.quantities import value
from tiphys.kubelet.topology.failures import AssignmentFailure
from tiphys.kubelet.topology.hints import Hint, Hints
from tiphys.kubelet.topology.needs import pod_needs
from tiphys.runtime.clock import Clock
from tiphys.runtime.tasks import Runner
from tiphys.wire.grpc.caller import describe
from tiphys.wire.grpc.stream import GrpcError

log = logging.getLogger(__name__)

FOLDER = "device-plugins"
CHECKPOINT = "kubelet_internal_checkpoint"
GRACE = 300.0
"""Seconds for which a resource stays on the node after its plugin has gone."""


@dataclass(slots=True)
class _Resource:
    plugin: DevicePlugin | None = None
    task: asyncio.Task[None] | None = None
    devices: dict[str, Device] = field(default_factory=dict)
    healthy: set[str] = field(default_factory=set)
    unhealthy: set[str] = field(default_factory=set)
    stopped_at: float | None = None
    """Since when no plugin offers it, by the monotonic clock."""


class DeviceManager:
    """``changed()`` is called when what the node has is another; ``poke(uid)`` if a pod's devices fare otherwise.

    ``active()`` gives the uids of pods that may run; devices of all others are free. ``affinity(uid, container)`` gives
    the NUMA nodes that were chosen for a container, or None.
    """

    def __init__(
        self,
        *,
        root: Path,
        clock: Clock,
        runner: Runner,
        active: Callable[[], Collection[str]],
        changed: Callable[[], None],
        poke: Callable[[str], None],
        affinity: Callable[[str, str], Collection[int] | None] = lambda *_: None,
    ) -> None:
        self._folder = root / FOLDER
        self._clock = clock
        self._runner = runner
        self._active = active
        self._changed = changed
        self._poke = poke
        self._affinity = affinity
        self._resources: dict[str, _Resource] = {}
        self._removed: set[str] = set()
        self._ledger = DeviceLedger()
        self._running: Collection[tuple[str, str]] = ()
        self._reusable: dict[str, dict[str, set[str]]] = {}
        self._server = RegistrationServer(self._folder, self.connect)
        self.recreated = False
        """Whether no kubelet has kept devices here: what the Node says of extended resources is of another's life."""
        self.problem = ""
        """Why no plugin can register; empty if they can."""

    async def start_serving(self) -> None:
        try:
            await self._server.start()
        except OSError as error:
            self.problem = f"device plugin registration gRPC server failed and no device plugins can register: {error}"
            log.error("%s", self.problem)

    def restore(self, running: Collection[tuple[str, str]]) -> None:
        """Read what was assigned before. ``running``: uids and names of containers that ran before this kubelet."""
        self._running = running
        path = self._folder / CHECKPOINT
        try:
            document = checkpoints.read(path)
            self.recreated = document is None
            if document is None:
                return
            self._ledger, registered = ledger.from_checkpoint(document)
        except (OSError, CheckpointCorrupt) as error:
            log.error("what devices pods have may not be known, as the checkpoint cannot be read: %s", error)
            return
        for resource in registered:
            self._resources[resource] = _Resource(stopped_at=self._clock.monotonic())

    async def close(self) -> None:
        await self._server.close()
        for resource in self._resources.values():
            if resource.task is not None:
                resource.task.cancel()
            if resource.plugin is not None:
                await resource.plugin.close()

    # Plugins: by kubelet.sock, or by the folder of plugins' registration sockets (``PluginHandler``).

    async def start(self) -> None:
        """Nothing has to be there before plugins are."""

    async def register(self, plugin: PluginInfo) -> None:
        if VERSION not in plugin.versions:
            versions = " ".join(plugin.versions)
            raise PluginRefused(f"manager version, {VERSION}, is not among plugin supported versions [{versions}]")
        check_resource(plugin.name)
        try:
            await self.connect(plugin.name, plugin.endpoint)
        except GrpcError as error:
            raise PluginRefused(describe(error)) from error

    async def deregister(self, name: str) -> None:
        resource = self._resources.get(name)
        if resource is not None and resource.plugin is not None:
            await self._disconnect(name, resource.plugin)

    async def connect(self, name: str, socket: str) -> None:
        """A plugin offers a resource: from now on it is the one that does. Raises ``GrpcError``."""
        plugin = DevicePlugin(name, socket)
        try:
            await plugin.connect()
        except BaseException:
            await plugin.close()
            raise
        resource = self._resources.setdefault(name, _Resource())
        before, task = resource.plugin, resource.task
        resource.plugin, resource.stopped_at = plugin, None
        resource.task = self._runner.spawn(self._follow(name, plugin), f"devices {name}")
        self._removed.discard(name)
        log.info("device plugin of %s connected at %s", name, socket)
        if task is not None:
            task.cancel()
        if before is not None:
            await before.close()

    async def _follow(self, name: str, plugin: DevicePlugin) -> None:
        try:
            async for devices in plugin.watch():
                self._listed(name, devices)
            log.warning("the device plugin of %s has ended its list", name)
        except GrpcError as error:
            log.warning("the device plugin of %s has gone: %s", name, describe(error))
        await self._disconnect(name, plugin)

    def _listed(self, name: str, devices: dict[str, Device]) -> None:
        resource = self._resources[name]
        before, resource.devices = resource.devices, devices
        resource.healthy = {device.id for device in devices.values() if device.health == HEALTHY}
        resource.unhealthy = devices.keys() - resource.healthy
        self._write()
        self._changed()
        for identity, device in devices.items():
            if identity in before and before[identity].health == device.health:
                continue
            if (holder := self._ledger.holder(name, identity)) is not None:
                self._poke(holder)

    async def _disconnect(self, name: str, plugin: DevicePlugin) -> None:
        """The plugin has gone, if it is still the one: nobody gets its devices now; pods that have some keep them."""
        resource = self._resources.get(name)
        if resource is not None and resource.plugin is plugin:
            resource.plugin = None
            resource.unhealthy |= resource.healthy
            resource.healthy = set()
            resource.stopped_at = self._clock.monotonic()
            self._changed()
        await plugin.close()

    # What the node has.

    def capacity(self) -> dict[str, tuple[int, int]]:
        """How many devices of each resource there are, and how many of them are healthy."""
        now = self._clock.monotonic()
        gone = {
            name
            for name, resource in self._resources.items()
            if resource.stopped_at is not None and now - resource.stopped_at > GRACE
        }
        if gone:
            self._removed |= gone
            for name in gone:
                del self._resources[name]
            self._write()
        return dict.fromkeys(self._removed, (0, 0)) | {
            name: (len(resource.healthy) + len(resource.unhealthy), len(resource.healthy))
            for name, resource in self._resources.items()
        }

    def in_use(self, uid: str) -> dict[str, int]:
        """How many devices are taken of each resource that a pod has some of: the node has at least these."""
        resources = {name for allocations in self._ledger.pods.get(uid, {}).values() for name in allocations}
        return {name: len(self._ledger.in_use(name)) for name in resources}

    def holders(self) -> set[str]:
        """Uids of the pods that have devices."""
        return set(self._ledger.pods)

    def allocatable(self) -> dict[str, list[Device]]:
        """The healthy devices of each resource."""
        return {
            name: [resource.devices[identity] for identity in sorted(resource.healthy & resource.devices.keys())]
            for name, resource in self._resources.items()
            if resource.devices
        }

    def devices_of(self, uid: str, container: str) -> dict[str, list[Device]]:
        """What a container was given, by resource."""
        return {name: list(given.devices()) for name, given in self._ledger.of(uid, container).items()}

    def known(self, name: str) -> Mapping[str, Device]:
        resource = self._resources.get(name)
        return resource.devices if resource is not None else {}

    def free(self, name: str) -> set[str]:
        """The healthy devices of a resource that nobody has."""
        resource = self._resources.get(name)
        return resource.healthy - self._ledger.in_use(name) if resource is not None else set()

    # Pods.

    def wanted(self, pod: Pod, container: ContainerSpec) -> dict[str, int]:
        """How many devices of plugins a container asks for, by resource; of these requests equal limits."""
        limits = (container.get("resources") or {}).get("limits") or {}
        claimed = {resource for resource, _ in pods.mapped_requests(pod, container)}
        return {name: value(amount) for name, amount in limits.items() if self._is_ours(name) and name not in claimed}

    def _is_ours(self, name: str) -> bool:
        return name in self._resources or name in self._ledger.resources_in_use()

    def hints(self, pod: Pod, container: ContainerSpec) -> Hints:
        """Where the devices can be that a container asks for."""
        return {
            name: self._hints(pods.uid_of(pod), container["name"], name, amount)
            for name, amount in self.wanted(pod, container).items()
        }

    def pod_hints(self, pod: Pod) -> Hints:
        """Where the devices can be that all containers of a pod ask for together."""
        needs = pod_needs(pod, lambda container: self.wanted(pod, container))
        return {name: self._pod_hints(pod, name, amount) for name, amount in needs.items()}

    def _pod_hints(self, pod: Pod, name: str, amount: int) -> list[Hint] | None:
        known = self.known(name)
        if not choice.has_topology(known):
            return None
        given: set[str] = set()
        for container in (*pods.init_containers(pod), *pods.containers(pod)):
            devices = self._ledger.of(pods.uid_of(pod), container["name"]).get(name)
            given |= devices.ids() if devices is not None else set()
        free = given or self.free(name)
        if len(free) < amount or (given and len(given) != amount):
            return []
        return choice.hints(known, free, set(), amount)

    def _hints(self, uid: str, container: str, name: str, amount: int) -> list[Hint] | None:
        known = self.known(name)
        if not choice.has_topology(known):
            return None
        given = self._ledger.of(uid, container).get(name)
        reusable = self._reusable.get(uid, {}).get(name, set())
        free = self.free(name) | reusable if given is None else given.ids()
        if len(free) < amount or (given is not None and len(free) != amount):
            return []
        return choice.hints(known, free, reusable if given is None else set(), amount)

    def release_ended(self) -> Collection[str]:
        """Devices of pods that no longer run are free. Returns the uids of those that do."""
        active = self._active()
        for uid in [uid for uid in self._reusable if uid not in active]:
            del self._reusable[uid]
        if self._ledger.keep_only(active):
            self._write()
        return active

    async def allocate(self, pod: Pod, container: ContainerSpec) -> None:
        """Give a container its devices, or find that it has them. Raises ``AssignmentFailure``."""
        uid, name = pods.uid_of(pod), container["name"]
        reusable = self._reusable.setdefault(uid, {})
        changed = False
        wanted = self.wanted(pod, container)
        if wanted:
            self.release_ended()
        for resource, amount in wanted.items():
            changed |= await self._allocate(uid, name, resource, amount, reusable.get(resource, set()))
        own = {resource: given.ids() for resource, given in self._ledger.of(uid, name).items()}
        passes_on = any(c["name"] == name and not pods.is_sidecar(c) for c in pods.init_containers(pod))
        for resource, devices in own.items():
            if passes_on:
                reusable.setdefault(resource, set()).update(devices)
            else:
                reusable.get(resource, set()).difference_update(devices)
        if changed and not self._write():
            raise AssignmentFailure(f'failed to write checkpoint file "{CHECKPOINT}"')

    async def _allocate(self, uid: str, container: str, resource: str, amount: int, reusable: set[str]) -> bool:
        """Returns whether devices were given that the container did not have."""
        given = self._ledger.of(uid, container).get(resource)
        if given is not None and len(given.ids()) != amount:
            message = (
                f'pod "{uid}" container "{container}" changed request for resource "{resource}" '
                f"from {len(given.ids())} to {amount}"
            )
            raise AssignmentFailure(message)
        if (uid, container) in self._running:
            return False  # it runs, so it has them; this kubelet has only come after it
        self._check_health(resource, given)
        if given is not None or amount == 0:
            return False
        devices = await self._choose(uid, container, resource, amount, reusable)
        self._ledger.reserve(uid, resource, devices)
        try:
            response = await self._plugin(resource).allocate(devices)
        except GrpcError as error:
            raise AssignmentFailure(describe(error)) from error
        finally:
            self._ledger.unreserve(uid, resource, devices)
        if response is None:
            raise AssignmentFailure("no containers return in allocation response")
        known = self.known(resource)
        nodes = ledger.by_node(known.get(identity, Device(identity, "")) for identity in devices)
        self._ledger.insert(uid, container, resource, Allocation(nodes, response))
        return True

    def _check_health(self, name: str, given: Allocation | None) -> None:
        resource = self._resources.get(name)
        if resource is None:
            raise AssignmentFailure(f"cannot allocate unregistered device {name}")
        if not resource.healthy:
            raise AssignmentFailure(f"no healthy devices present; cannot allocate unhealthy devices {name}")
        if given is not None and not given.ids() <= resource.healthy:
            message = f"previously allocated devices are no longer healthy; cannot allocate unhealthy devices {name}"
            raise AssignmentFailure(message)

    def _plugin(self, name: str) -> DevicePlugin:
        resource = self._resources.get(name)
        if resource is None:
            raise AssignmentFailure(f"unknown Device Plugin {name}")
        if resource.plugin is None:
            raise AssignmentFailure(f"endpoint {name} has been stopped")
        return resource.plugin

    async def _choose(self, uid: str, container: str, name: str, amount: int, reusable: set[str]) -> list[str]:
        """Which devices: those of the pod's init containers, then near ones, as the plugin prefers, then any."""
        chosen = choice.take(amount, [], sorted(reusable))
        if len(chosen) == amount:
            return chosen
        self._enough(name, amount - len(chosen))
        near, _, _ = groups = self._aligned(uid, container, name)
        if amount - len(chosen) >= len(near):
            chosen, near = choice.take(amount, chosen, near), []
        preferred = await self._preferred(name, near or sorted(self.free(name)), chosen, amount)
        free = self.free(name)  # others may have taken some while the plugin was asked
        groups = self._aligned(uid, container, name)
        wished = [identity for identity in preferred if identity in free and (not near or identity in groups.near)]
        chosen = [identity for identity in chosen if identity in free or identity in reusable]
        chosen = choice.take(amount, chosen, wished, groups.near, groups.far, groups.elsewhere)
        if len(chosen) < amount:
            self._enough(name, amount - len(chosen))
        return chosen

    def _aligned(self, uid: str, container: str, name: str) -> choice.Aligned:
        return choice.by_affinity(self.free(name), self.known(name), self._affinity(uid, container))

    def _enough(self, name: str, needed: int) -> None:
        free = len(self.free(name))
        if free < needed:
            message = f"requested number of devices unavailable for {name}. Requested: {needed}, Available: {free}"
            raise AssignmentFailure(message)

    async def _preferred(self, name: str, available: Sequence[str], chosen: Sequence[str], amount: int) -> list[str]:
        plugin = self._plugin(name)
        if not plugin.prefers or len(chosen) >= amount:
            return []
        try:
            return await plugin.preferred(sorted({*available, *chosen}), chosen, amount)
        except GrpcError as error:
            message = f"device plugin GetPreferredAllocation rpc failed with err: {describe(error)}"
            raise AssignmentFailure(message) from error

    async def prepare(self, pod: Pod, container: ContainerSpec) -> ContainerExtras:
        """Before a container is made: tell plugins that want to know. Raises ``AssignmentFailure``."""
        uid, name, extras = pods.uid_of(pod), container["name"], ContainerExtras()
        wanted = {resource: amount for resource, amount in self.wanted(pod, container).items() if amount}
        if any(resource not in self._ledger.of(uid, name) for resource in wanted):
            self._running = {entry for entry in self._running if entry != (uid, name)}  # it runs no longer
            await self.allocate(pod, container)
        for resource in wanted:
            await self._pre_start(resource, self._ledger.of(uid, name).get(resource))
        for _, allocation in sorted(self._ledger.of(uid, name).items()):
            extras.add(extras_of(allocation.response))
        return extras

    async def _pre_start(self, name: str, given: Allocation | None) -> None:
        resource = self._resources.get(name)
        if resource is None:
            raise AssignmentFailure(f"endpoint not found in cache for a registered resource: {name}")
        plugin = resource.plugin
        if plugin is None or not plugin.pre_start or given is None:
            return
        try:
            await plugin.pre_start_container(sorted(given.ids()))
        except GrpcError as error:
            message = f"device plugin PreStartContainer rpc failed with err: {describe(error)}"
            raise AssignmentFailure(message) from error

    def health(self, uid: str, container: str) -> list[Object]:
        """The health of a container's devices, as ``allocatedResourcesStatus`` shows it."""
        statuses = []
        for name, allocation in sorted(self._ledger.of(uid, container).items()):
            known = self.known(name)
            resources = [
                {"resourceID": identity, "health": _health(known.get(identity))}
                for identity in sorted(allocation.ids())
            ]
            statuses.append({"name": name, "resources": resources})
        return statuses

    def _write(self) -> bool:
        registered = {name: resource.healthy for name, resource in self._resources.items()}
        try:
            checkpoints.write(self._folder / CHECKPOINT, ledger.to_checkpoint(self._ledger, registered))
        except OSError as error:
            log.error("cannot write down which devices pods have: %s", error)
            return False
        return True


def _health(device: Device | None) -> str:
    """A device that its plugin does not speak of now fares as it did."""
    return "Healthy" if device is None or device.health == HEALTHY else "Unhealthy"
