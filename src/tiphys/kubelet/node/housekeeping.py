"""Ends what runs and belongs to no pod, and removes what pods that are gone have left: folders, containers, images.

Source: https://kubernetes.io/docs/concepts/architecture/garbage-collection/#containers-images
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from tiphys.kubelet import labels
from tiphys.kubelet.container.killer import Killer
from tiphys.kubelet.node.gc import ContainerGC
from tiphys.kubelet.node.imagegc import ImageGC, ImageGCFailure
from tiphys.kubelet.pod.pleg import PodLifecycle
from tiphys.kubelet.pod.pod_runtime import PodRuntime
from tiphys.kubelet.recorder import EventType
from tiphys.kubelet.runtime.service import RuntimeFailure, RuntimeService
from tiphys.kubelet.volumes.manager import VolumeManager
from tiphys.runtime.clock import Clock
from tiphys.runtime.system.heap import give_back
from tiphys.runtime.tasks import Runner

log = logging.getLogger(__name__)

CLEANUP_PERIOD = 5.0
GC_PERIOD = 60.0
IMAGE_GC_PERIOD = 300.0
_ENDINGS = 10
"""How many pods without a source are ended at once."""


class Housekeeping:
    """``known()`` gives the uids of all pods that any source or worker has; ``event`` records one about the node."""

    def __init__(
        self,
        *,
        runtime: RuntimeService,
        pod_runtime: PodRuntime,
        killer: Killer,
        volumes: VolumeManager,
        pleg: PodLifecycle,
        containers: ContainerGC,
        images: ImageGC,
        clock: Clock,
        known: Callable[[], set[str]],
        event: Callable[[EventType, str, str], None],
        remove_cgroup: Callable[[str], Awaitable[None]],
    ) -> None:
        self._remove_cgroup = remove_cgroup
        self._event = event
        self._runtime = runtime
        self._pod_runtime = pod_runtime
        self._killer = killer
        self._volumes = volumes
        self._pleg = pleg
        self._containers = containers
        self._images = images
        self._clock = clock
        self._known = known
        self._removing: set[str] = set()
        self._endings = asyncio.Semaphore(_ENDINGS)

    def start(self, runner: Runner) -> None:
        runner.supervise(self._clean_up_for_ever, "clean-up")
        runner.supervise(self._collect_for_ever, "container collection")
        runner.supervise(self._collect_images_for_ever, "image collection")

    def remove_pod(self, uid: str) -> Coroutine[Any, Any, None]:
        """The pod has been deleted: remove containers and logs. Nobody takes it for an orphan from now on."""
        self._removing.add(uid)
        return self._remove_pod(uid)

    async def _remove_pod(self, uid: str) -> None:
        try:
            await self._containers.remove_pod(uid)
        except RuntimeFailure as error:
            log.warning("cannot remove the containers of pod %s: %s", uid, error)
        finally:
            self._removing.discard(uid)

    async def _clean_up_for_ever(self) -> None:
        while True:
            await self.clean_up()
            await self._clock.sleep(CLEANUP_PERIOD)

    async def clean_up(self) -> None:
        """One round over the runtime and the folders of pods."""
        await asyncio.gather(*(self._end(uid) for uid in self._pleg.running_pods() if uid))
        for uid in self._volumes.known_pods():
            if self._is_orphan(uid):
                try:
                    await self._remove_cgroup(uid)  # as for pods that end: first what runs, then what it uses
                    if self._is_orphan(uid):
                        await self._volumes.unmount(uid)
                except OSError as error:
                    log.warning("cannot remove the folder of pod %s: %s", uid, error)
        await self._volumes.sweep()

    def _is_orphan(self, uid: str) -> bool:
        """Whether nothing has this pod, at this moment: what was so before an ``await`` does not count after it."""
        return uid not in self._known() and uid not in self._removing

    async def _end(self, uid: str) -> None:
        """End what runs of a pod, if nothing has it. One that is slow to end holds up none of the others."""
        async with self._endings:
            try:
                if self._is_orphan(uid):
                    await self._end_orphan(uid)
            except RuntimeFailure as error:
                log.warning("cannot end pod %s, which has no source: %s", uid, error)

    async def _end_orphan(self, uid: str) -> None:
        observed = await self._pod_runtime.observe(uid)
        if not observed.sandboxes and not observed.containers:
            return
        log.info("ending pod %s/%s (%s): no source has it", observed.namespace, observed.name, uid)
        if not observed.idle:
            containers = await self._runtime.list_containers(uid)
            of = containers[0].labels if containers else observed.sandboxes[0].labels
            pod, _ = labels.restore_pod(of, {})
            if not self._is_orphan(uid):  # its pod has come while the runtime was asked
                return
            await self._killer.kill_pod(pod, observed, 1)
        if self._is_orphan(uid):
            await self._containers.remove_pod(uid)
            self._pod_runtime.forget(uid)
        await self._pleg.relist()

    async def _collect_for_ever(self) -> None:
        while True:
            await self._clock.sleep(GC_PERIOD)
            give_back()
            try:
                await self._containers.collect(lambda uid: uid not in self._known())
            except RuntimeFailure as error:
                log.warning("cannot remove dead containers: %s", error)
                self._event("Warning", "ContainerGCFailed", error.raw)

    async def _collect_images_for_ever(self) -> None:
        failed = False
        while True:
            await self._clock.sleep(IMAGE_GC_PERIOD)
            try:
                if removed := await self._images.collect():
                    log.info("removed %d unused images", len(removed))
            except (RuntimeFailure, ImageGCFailure) as error:
                log.warning("cannot remove unused images: %s", error)
                if failed:  # once may be chance
                    self._event("Warning", "ImageGCFailed", str(error))
                failed = True
            else:
                failed = False
