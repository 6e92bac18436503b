"""What the kubelet reports about its node: facts for its status, events when conditions change, readiness at once.

Source: https://kubernetes.io/docs/reference/node/node-status/
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from tiphys.client import errors
from tiphys.kubelet.config import KubeletConfig
from tiphys.kubelet.devices.manager import DeviceManager
from tiphys.kubelet.node.agent import NodeAgent
from tiphys.kubelet.node.health import RuntimeHealth
from tiphys.kubelet.node.machine import MachineInfo, swaps_memory_volumes
from tiphys.kubelet.node.resolver import host_complaint
from tiphys.kubelet.node.status import NodeFacts, allocatable
from tiphys.kubelet.node.thresholds import kept_free
from tiphys.kubelet.recorder import EventType, Recorder
from tiphys.kubelet.runtime.service import ImageService, RuntimeFailure
from tiphys.kubelet.settings import NodeSettings
from tiphys.runtime.clock import Clock

log = logging.getLogger(__name__)

_TRANSITIONS = {
    ("Ready", "True"): "NodeReady",
    ("Ready", "False"): "NodeNotReady",
    ("MemoryPressure", "False"): "NodeHasSufficientMemory",
    ("MemoryPressure", "True"): "NodeHasInsufficientMemory",
    ("DiskPressure", "False"): "NodeHasNoDiskPressure",
    ("DiskPressure", "True"): "NodeHasDiskPressure",
    ("PIDPressure", "False"): "NodeHasSufficientPID",
    ("PIDPressure", "True"): "NodeHasInsufficientPID",
}
_NAMES_SHOWN = 5
_CGROUP_V1 = (
    "cgroup v1 detected. cgroup v1 support is deprecated and will be removed in a future release. Please migrate to"
    " cgroup v2. More information at https://git.k8s.io/enhancements/keps/sig-node/5573-remove-cgroup-v1"
)


class NodeReporter:
    def __init__(
        self,
        *,
        config: KubeletConfig,
        settings: NodeSettings,
        machine: MachineInfo,
        health: RuntimeHealth,
        images: ImageService,
        recorder: Recorder,
        clock: Clock,
        pressures: Callable[[], Sequence[str]],
        volumes_in_use: Callable[[], Sequence[str]],
        devices: DeviceManager,
        shutdown: Callable[[], str],
    ) -> None:
        self._shutdown = shutdown
        self._devices = devices
        self._volumes_in_use = volumes_in_use
        self._registered = False
        self._pressures = pressures
        self._config = config
        self._settings = settings
        self._machine = machine
        self._health = health
        self._images = images
        self._recorder = recorder
        self._clock = clock

    def event(self, type_: EventType, reason: str, message: str) -> None:
        """An event about the node. Its uid is its name, as upstream's: the Node object may not exist yet."""
        name = self._config.node_name
        node: dict[str, Any] = {"kind": "Node", "name": name, "uid": name, "apiVersion": "v1"}
        self._recorder.event(node, type_, reason, message)

    def starting(self, *, unified: bool) -> None:
        """``unified``: the machine has version 2 of cgroups."""
        self.event("Normal", "Starting", "Starting kubelet.")
        if complaint := host_complaint(self._settings.dns):
            self.event("Warning", "CheckLimitsForResolvConf", complaint)
        if not unified:
            self.event("Warning", "CgroupV1", _CGROUP_V1)
        if swaps_memory_volumes():
            message = (
                "The tmpfs noswap option is not supported. Memory-backed volumes (e.g. secrets, emptyDirs, etc.) "
                "might be swapped to disk and should no longer be considered secure."
            )
            self.event("Warning", "PossibleMemoryBackedVolumesOnDisk", message)

    def transition(self, condition: str, status: str) -> None:
        if reason := _TRANSITIONS.get((condition, status)):
            self.event("Normal", reason, f"Node {self._config.node_name} status is now: {reason}")

    def registered(self) -> None:
        """The Node is this kubelet's own from now on: resources that others add to it stay."""
        self._registered = True

    async def facts(self) -> NodeFacts:
        """The facts about the node for its status; notes what is allocatable in the settings."""
        images = []
        try:
            for image in await self._images.list_images():
                names = [*image.digests, *image.tags] or [image.id]
                images.append({"names": names[:_NAMES_SHOWN], "sizeBytes": image.size})
        except RuntimeFailure as error:
            log.debug("cannot list images: %s", error)
        version, config, pressures = self._health.version, self._config, self._pressures()
        facts = NodeFacts(
            name=config.node_name,
            machine=self._machine,
            addresses=[*(("InternalIP", ip) for ip in self._own_addresses()), ("Hostname", config.node_name)],
            external_cloud=config.external_cloud,
            provider_id=config.provider_id,
            insisted_addresses=",".join(config.node_ips),
            runtime_version=f"{version.name}://{version.version}",
            port=config.port,
            max_pods=config.pods_on(self._machine.cpus),
            reserved=config.reserved,
            eviction_memory=kept_free(config.eviction_hard, "memory.available", self._machine.memory),
            eviction_storage=kept_free(config.eviction_hard, "nodefs.available", self._machine.storage),
            images=images,
            most_images=config.status_images,
            not_ready=self._not_ready(),
            memory_pressure="MemoryPressure" in pressures,
            disk_pressure="DiskPressure" in pressures,
            pid_pressure="PIDPressure" in pressures,
            volumes_in_use=self._volumes_in_use(),
            devices=self._devices.capacity(),
            forgets_devices=self._devices.recreated and not self._registered,
        )
        self._settings.allocatable = allocatable(facts)
        return facts

    def _own_addresses(self) -> Sequence[str]:
        """Those that the kubelet may say: a cloud's node has none until the cloud, or whoever set it up, gives some."""
        return self._config.node_ips if self._config.external_cloud else self._settings.host_ips

    def _not_ready(self) -> str:
        problems = [self._health.runtime_problem, self._health.network_problem, self._shutdown()]
        several = ", ".join(problem for problem in problems if problem)
        return f"[{several}]" if sum(map(bool, problems)) > 1 else several

    async def report_changes(self, node: NodeAgent) -> None:
        """Report to the API server at once when the runtime or its network goes up or down."""
        while True:
            await self._health.changed.wait()
            self._health.changed.clear()
            if node.node is None:
                continue
            try:
                await node.report(force=True)
            except (errors.ApiError, ConnectionError, TimeoutError) as error:
                log.warning("cannot report the node's readiness: %s", error)
                self._health.changed.set()
                await self._clock.sleep(1.0)
            except Exception:
                self._health.changed.set()  # this loop is started again
                raise
