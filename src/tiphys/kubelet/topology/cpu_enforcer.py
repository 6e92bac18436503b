"""Keeps running containers on the processors that they may use: what is shared changes as others get their own.

Source: https://kubernetes.io/docs/tasks/administer-cluster/cpu-management-policies/
"""

from __future__ import annotations

import asyncio
import logging

from tiphys.kubelet import labels
from tiphys.kubelet.runtime.service import ContainerState, RuntimeFailure, RuntimeService
from tiphys.kubelet.topology.cpu_manager import CpuManager
from tiphys.kubelet.topology.cpusets import Cpus, text_of
from tiphys.runtime.clock import Clock

log = logging.getLogger(__name__)

PERIOD = 10.0


class CpuEnforcer:
    def __init__(self, runtime: RuntimeService, cpus: CpuManager, clock: Clock) -> None:
        self._runtime = runtime
        self._cpus = cpus
        self._clock = clock
        self._last: dict[str, Cpus] = {}
        self.changed = asyncio.Event()
        """Set when somebody has been given processors, or has given some back."""

    async def run(self) -> None:
        """Look at once when something has changed, and every ten seconds."""
        while True:
            self.changed.clear()
            try:
                await self.enforce()
            except RuntimeFailure as error:
                log.warning("cannot list containers to set their processors: %s", error)
            waiting = asyncio.ensure_future(self.changed.wait())
            late = asyncio.ensure_future(self._clock.sleep(PERIOD))
            try:
                await asyncio.wait((waiting, late), return_when=asyncio.FIRST_COMPLETED)
            finally:
                waiting.cancel()
                late.cancel()
                await asyncio.gather(waiting, late, return_exceptions=True)

    async def enforce(self) -> None:
        """One round over the containers that run."""
        running = [c for c in await self._runtime.list_containers() if c.state is ContainerState.RUNNING]
        self._last = {c.id: self._last[c.id] for c in running if c.id in self._last}
        for container in running:
            cpus = self._cpus.cpus_of(container.labels.get(labels.POD_UID, ""), container.name)
            if not cpus or self._last.get(container.id) == cpus:
                continue
            try:
                await self._runtime.update_container_resources(container.id, {"cpuset_cpus": text_of(cpus)})
            except RuntimeFailure as error:
                log.warning("cannot set the processors of container %s: %s", container.name, error)
                continue
            self._last[container.id] = cpus
