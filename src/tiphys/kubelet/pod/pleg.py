"""Notices changes at the runtime: by the runtime's events at once, and by listing everything from time to time.

Only "something about this pod has changed" goes out; whoever hears it looks for itself. Source: the pod lifecycle event
generator's design (https://github.com/kubernetes/design-proposals-archive, pod-lifecycle-event-generator.md).
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable

from tiphys.kubelet import labels
from tiphys.kubelet.figures import KubeletFigures
from tiphys.kubelet.runtime.service import (
    ContainerState,
    EventType,
    RuntimeEvent,
    RuntimeFailure,
    RuntimeNotFound,
    RuntimeService,
    RuntimeUnsupported,
)
from tiphys.runtime.clock import Clock
from tiphys.runtime.tasks import Runner, contain

log = logging.getLogger(__name__)

RELIST = 1.0
RELIST_WITH_EVENTS = 10.0
_SETTLE = (0.0, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
"""Waits for the runtime's own record of a container's end, which may lag its event."""


class PodLifecycle:
    """``changed(uid)`` is called for every pod whose sandboxes or containers are not what they were."""

    def __init__(
        self,
        *,
        runtime: RuntimeService,
        clock: Clock,
        runner: Runner,
        changed: Callable[[str], None],
        figures: KubeletFigures,
    ) -> None:
        self._runtime = runtime
        self._clock = clock
        self._runner = runner
        self._changed = changed
        self._figures = figures
        self._seen: dict[str, dict[str, object]] = {}
        self._owner: dict[str, str] = {}
        self._following = False
        self._events_followed = False
        self.relisted_at: float | None = None
        """When the last list succeeded, by the monotonic clock; None before the first."""

    async def run(self) -> None:
        if not self._events_followed:  # this loop may have been started again
            self._events_followed = True
            self._runner.supervise(self._follow, "runtime events")
        while True:
            try:
                with self._figures.relist():
                    await self.relist()
            except RuntimeFailure as error:
                log.warning("cannot list what the runtime runs: %s", error)
            await self._clock.sleep(RELIST_WITH_EVENTS if self._following else RELIST)

    async def relist(self) -> None:
        """List everything and report what has changed. Raises ``RuntimeFailure``."""
        sandboxes, containers = await asyncio.gather(self._runtime.list_sandboxes(), self._runtime.list_containers())
        now: dict[str, dict[str, object]] = {}
        owner: dict[str, str] = {}
        for sandbox in sandboxes:
            now.setdefault(sandbox.uid, {})[sandbox.id] = sandbox.ready
            owner[sandbox.id] = sandbox.uid
        for container in containers:
            uid = container.labels.get(labels.POD_UID, "")
            now.setdefault(uid, {})[container.id] = container.state
            owner[container.id] = uid
        self._owner = owner
        before, self._seen = self._seen, now
        self.relisted_at = self._clock.monotonic()
        for uid in before.keys() | now.keys():
            if before.get(uid) != now.get(uid):
                contain(f"looking at pod {uid}", self._changed, uid)

    def running_pods(self) -> list[str]:
        """Uids of the pods of which the runtime had anything at the last list."""
        return list(self._seen)

    def containers_by_state(self) -> Counter[str]:
        """How many containers there were at the last list, by ``running``, ``exited`` …"""
        states = (state for seen in self._seen.values() for state in seen.values())
        return Counter(state.value for state in states if isinstance(state, ContainerState))

    async def _follow(self) -> None:
        try:
            async for event in self._runtime.events():
                self._following = True
                if event.type is EventType.STOPPED:
                    self._runner.spawn(self._ended(event), "runtime event")
        except RuntimeUnsupported:
            log.info("the runtime sends no events; listing it every %.0f s", RELIST)
            await asyncio.Event().wait()
        except RuntimeFailure as error:
            log.warning("the runtime's events ended: %s", error)
        finally:
            self._following = False

    async def _ended(self, event: RuntimeEvent) -> None:
        """A container or sandbox has ended: report it when the runtime shows it."""
        identity = event.container_id
        uid = self._owner.get(identity, "")
        for wait in _SETTLE:
            await self._clock.sleep(wait)
            try:
                status = await self._runtime.container_status(identity)
            except RuntimeNotFound:
                break  # a sandbox, or removed already
            except RuntimeFailure:
                return
            uid = status.labels.get(labels.POD_UID, uid)
            if status.state is ContainerState.EXITED:
                break
        if uid:
            self._changed(uid)
        else:
            await self.relist()
