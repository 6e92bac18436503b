"""What the kubelet's server may see and use of the kubelet."""

from __future__ import annotations

from typing import Protocol

from tiphys.client.rest import Client
from tiphys.kubelet.config import KubeletConfig
from tiphys.kubelet.node.machine import MachineInfo
from tiphys.kubelet.pod.pleg import PodLifecycle
from tiphys.kubelet.pod.pods import Pod
from tiphys.kubelet.pod.workers import PodWorkers
from tiphys.kubelet.probes.manager import ProbeManager
from tiphys.kubelet.runtime.service import RuntimeService
from tiphys.kubelet.server.snapshot import SnapshotTaker
from tiphys.kubelet.status.manager import StatusManager
from tiphys.kubelet.volumes.manager import VolumeManager
from tiphys.runtime.clock import Clock
from tiphys.runtime.vectors import Collector


class ServedNode(Protocol):
    config: KubeletConfig
    client: Client
    clock: Clock
    runtime: RuntimeService
    status: StatusManager
    workers: PodWorkers
    probes: ProbeManager
    machine: MachineInfo
    snapshots: SnapshotTaker
    pleg: PodLifecycle
    collectors: tuple[Collector, ...]
    volumes: VolumeManager

    def all_pods(self) -> list[Pod]: ...

    def find_pod(self, namespace: str, name: str) -> Pod | None: ...

    def unhealthy(self) -> str:
        """Why the node is not well, in one line; empty if it is."""
