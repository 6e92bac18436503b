"""Polls the health of the runtime and its network every few seconds; ``problem`` is one line, empty if both are up.

Source: https://github.com/kubernetes/cri-api
"""

from __future__ import annotations

import asyncio
import logging

from tiphys.kubelet.runtime.service import RuntimeFailure, RuntimeService, RuntimeVersion
from tiphys.runtime.clock import Clock

log = logging.getLogger(__name__)

PERIOD = 5.0
_PERIOD_WHILE_DOWN = 0.2


class RuntimeHealth:
    def __init__(self, runtime: RuntimeService, clock: Clock) -> None:
        self._runtime = runtime
        self._clock = clock
        self.version = RuntimeVersion("", "", "")
        self.runtime_problem = "container runtime status check may not have completed yet"
        self.network_problem = ""
        self.recursive_read_only: frozenset[str] = frozenset()
        """The runtime's handlers that can mount read-only recursively."""
        self.changed = asyncio.Event()
        """Set when a problem has come or gone; whoever waits clears it."""

    @property
    def problem(self) -> str:
        """Why the node is not ready, in upstream's words; empty if it is."""
        return ", ".join(part for part in (self.runtime_problem, self.network_problem) if part)

    async def check(self) -> None:
        """Ask the runtime for its state once; sets ``changed`` if the problem differs from before."""
        before = self.problem
        try:
            if not self.version.name:
                self.version = await self._runtime.version()
            status = await self._runtime.status()
        except RuntimeFailure as error:
            self.runtime_problem = f"container runtime is down: {error}"
        else:
            self.recursive_read_only = status.recursive_read_only
            conditions = {condition.type: condition for condition in status.conditions}
            ready = conditions.get("RuntimeReady")
            self.runtime_problem = "" if ready and ready.status else "container runtime is down"
            network = conditions.get("NetworkReady")
            self.network_problem = ""
            if network is not None and not network.status:
                self.network_problem = (
                    "container runtime network not ready: NetworkReady=false "
                    f"reason:{network.reason} message:{network.message}"
                )
        if self.problem != before:
            if self.problem:
                log.warning("the node cannot run pods: %s", self.problem)
            self.changed.set()

    async def run(self) -> None:
        while True:
            await self.check()
            await self._clock.sleep(_PERIOD_WHILE_DOWN if self.problem else PERIOD)

    async def wait_runtime(self) -> None:
        """Wait until the runtime answers at all."""
        while True:
            await self.check()
            if not self.runtime_problem:
                return
            await self._clock.sleep(0.05)
