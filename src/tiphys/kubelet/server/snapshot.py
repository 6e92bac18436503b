"""One look at all that runs on the node and what it uses: what every answer with figures is made of.

Source: https://kubernetes.io/docs/reference/instrumentation/node-metrics/
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from tiphys.kubelet import labels
from tiphys.kubelet.cgroups.names import place
from tiphys.kubelet.node.measures import (
    Machine,
    Pressures,
    Use,
    cgroup_pressures,
    cgroup_processes,
    cgroup_use,
    pid_behind,
    process_use,
    read_node,
)
from tiphys.kubelet.node.storage import Filesystem, PodStorage, StorageMeter, filesystem_of
from tiphys.kubelet.pod import pods
from tiphys.kubelet.pod.pods import Pod
from tiphys.kubelet.runtime.service import (
    Container,
    ContainerState,
    ContainerStats,
    ImageService,
    RuntimeService,
    Sandbox,
    SandboxStats,
)
from tiphys.kubelet.volumes.csi.figures import ClaimUse
from tiphys.runtime.clock import Clock

_APART = 0.5
_STORAGE_AGE = 60.0


class Rates:
    """Billionths of a processor in use, from two readings of a counter."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[float, int, int]] = {}

    def known(self, key: str) -> bool:
        return key in self._last

    def rate(self, key: str, at: float, counter_ns: int) -> int:
        """The rate since the reading before; 0 at the first one. Readings less than a moment apart keep the rate."""
        before = self._last.get(key)
        if before is None or counter_ns < before[1]:
            self._last[key] = (at, counter_ns, 0)
            return 0
        if at - before[0] < _APART / 2:
            return before[2]
        rate = int((counter_ns - before[1]) / (at - before[0]))
        self._last[key] = (at, counter_ns, rate)
        return rate

    def keep(self, keys: set[str]) -> None:
        for key in self._last.keys() - keys:
            del self._last[key]


@dataclass(frozen=True, slots=True)
class RunningContainer:
    container: Container
    stats: ContainerStats
    nano_cores: int
    pressure: Pressures = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.container.labels.get(labels.CONTAINER_NAME, self.container.name)


@dataclass(frozen=True, slots=True)
class RunningPod:
    sandbox: Sandbox
    pod: Pod | None
    """The pod as the kubelet knows it; None for one that no source has."""
    containers: tuple[RunningContainer, ...]
    stats: SandboxStats
    storage: PodStorage
    claims: tuple[ClaimUse, ...] = ()
    pressure: Pressures = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SystemContainer:
    name: str
    started_at: float
    use: Use
    nano_cores: int
    pressure: Pressures = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """``now`` and all times in Unix seconds."""

    now: float
    node_name: str
    machine: Machine
    machine_nano_cores: int
    disk: Filesystem
    image_disk: Filesystem
    image_bytes: int
    image_inodes: int
    container_disk: Filesystem
    system: tuple[SystemContainer, ...] = ()
    pods: tuple[RunningPod, ...] = field(default_factory=tuple)


async def _no_claims() -> Mapping[str, Sequence[ClaimUse]]:
    return {}


class SnapshotTaker:
    """``known()`` gives the kubelet's pods, ``cgroup`` that of one of them; ``root`` is the kubelet's folder,
    ``socket`` the runtime's, if it has one; ``pressures`` reads those of a cgroup."""

    def __init__(
        self,
        *,
        node_name: str,
        root: str,
        runtime: RuntimeService,
        images: ImageService,
        storage: StorageMeter,
        clock: Clock,
        known: Callable[[], Iterable[Pod]],
        cgroup: Callable[[Pod], str] = lambda _: "",
        pressures: Callable[[str], Pressures] = cgroup_pressures,
        runtime_socket: str = "",
        pods_cgroup: str = "kubepods",
        own_pid: int = 0,
        claims_use: Callable[[], Awaitable[Mapping[str, Sequence[ClaimUse]]]] = _no_claims,
    ) -> None:
        self._claims_use = claims_use
        self._node_name = node_name
        self._root = root
        self._runtime = runtime
        self._images = images
        self._storage = storage
        self._clock = clock
        self._known = known
        self._cgroup = cgroup
        self._pressures = pressures
        self._runtime_socket = runtime_socket
        self._pods_cgroup = pods_cgroup
        self._own_pid = own_pid
        self._rates = Rates()

    async def take(self) -> Snapshot:
        """Raises ``RuntimeFailure`` and ``OSError``."""
        containers, sandboxes, stats, sandbox_stats = await asyncio.gather(
            self._runtime.list_containers(),
            self._runtime.list_sandboxes(),
            self._stats(),
            self._runtime.list_sandbox_stats(),
        )
        filesystems = await self._images.image_filesystems()
        by_uid = {pods.uid_of(pod): pod for pod in self._known()}
        storage, claims = await asyncio.gather(self._storage.measure(by_uid.values(), _STORAGE_AGE), self._claims_use())
        now = self._clock.now()
        machine = read_node(now)
        disk = filesystem_of(self._root)
        image_fs = filesystems.images[0] if filesystems.images else None
        image_disk = _filesystem_or(image_fs.mountpoint if image_fs else "", disk)
        containers_at = filesystems.containers[0].mountpoint if filesystems.containers else ""
        stats_by_id = {one.id: one for one in stats}
        stats_by_sandbox = {one.id: one for one in sandbox_stats}
        containers_by_sandbox: dict[str, list[Container]] = {}
        for container in containers:
            containers_by_sandbox.setdefault(container.sandbox_id, []).append(container)
        return Snapshot(
            now=now,
            node_name=self._node_name,
            machine=machine,
            machine_nano_cores=self._rates.rate("node", now, machine.use.cpu_ns),
            disk=disk,
            image_disk=image_disk,
            image_bytes=image_fs.used_bytes if image_fs else 0,
            image_inodes=image_fs.inodes_used if image_fs else 0,
            container_disk=_filesystem_or(containers_at, image_disk),
            system=tuple(self._system(machine, now)),
            pods=tuple(
                self._pod(
                    sandbox,
                    by_uid.get(sandbox.uid),
                    [(c, stats_by_id.get(c.id)) for c in containers_by_sandbox.get(sandbox.id, ())],
                    stats_by_sandbox.get(sandbox.id) or SandboxStats(sandbox.id),
                    storage.get(sandbox.uid, PodStorage()),
                    claims.get(sandbox.uid, ()),
                )
                for sandbox in sandboxes
                if sandbox.ready
            ),
        )

    def _pod(
        self,
        sandbox: Sandbox,
        pod: Pod | None,
        containers: Sequence[tuple[Container, ContainerStats | None]],
        stats: SandboxStats,
        storage: PodStorage,
        claims: Sequence[ClaimUse],
    ) -> RunningPod:
        cgroup = self._cgroup(pod) if pod is not None else ""
        running = tuple(self._running(containers, cgroup))
        processes = cgroup_processes(place(cgroup)) if cgroup else None
        if processes is not None:  # the same as eviction counts; containerd 1.6 has no figures of systemd's slices
            stats = replace(stats, processes=processes)
        return RunningPod(sandbox, pod, running, stats, storage, tuple(claims), self._pressures(place(cgroup)))

    async def _stats(self) -> Sequence[ContainerStats]:
        """The containers' figures; if some are new, after a second look, so that each has a rate."""
        stats = await self._runtime.list_container_stats()
        new = not self._rates.known("node") or any(not self._rates.known(one.id) for one in stats)
        for one in stats:
            self._rates.rate(one.id, one.timestamp, one.cpu_ns)
        if new:
            machine = read_node(self._clock.now())
            self._rates.rate("node", self._clock.now(), machine.use.cpu_ns)
            list(self._system(machine, self._clock.now()))
            await self._clock.sleep(_APART)
            stats = await self._runtime.list_container_stats()
        self._rates.keep({one.id for one in stats} | {"node", "kubelet", "runtime", "pods"})
        return stats

    def _running(
        self, containers: Sequence[tuple[Container, ContainerStats | None]], cgroup: str
    ) -> Iterable[RunningContainer]:
        for container, used in containers:
            if container.state is not ContainerState.RUNNING or used is None:
                continue
            rate = used.cpu_nano_cores or self._rates.rate(used.id, used.timestamp, used.cpu_ns)
            yield RunningContainer(container, used, rate, self._pressures(place(cgroup, container.id)))

    def _system(self, machine: Machine, now: float) -> Iterable[SystemContainer]:
        """The kubelet's own process, the runtime's, and all pods together."""
        processes = {"kubelet": self._own_pid}
        if self._runtime_socket:
            processes["runtime"] = pid_behind(self._runtime_socket) or 0
        for name, pid in processes.items():
            if pid and (measured := process_use(pid)) is not None:
                started, use = measured
                yield self._system_container(name, machine.booted_at + started, use, now)
        if (use_of_pods := cgroup_use(self._pods_cgroup)) is not None:
            waited = self._pressures(self._pods_cgroup)
            yield self._system_container("pods", machine.booted_at, use_of_pods, now, waited)

    def _system_container(
        self, name: str, started: float, use: Use, now: float, pressure: Pressures | None = None
    ) -> SystemContainer:
        return SystemContainer(name, started, use, self._rates.rate(name, now, use.cpu_ns), pressure or {})


def _filesystem_or(mountpoint: str, other: Filesystem) -> Filesystem:
    try:
        return filesystem_of(mountpoint) if mountpoint else other
    except OSError:
        return other
