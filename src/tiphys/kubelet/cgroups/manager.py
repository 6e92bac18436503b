"""The tree of pods' cgroups: all pods, the two lower classes of service, and each pod, with what each may use.

Guaranteed pods are below the top, beside the classes of the others. Source:
https://kubernetes.io/docs/tasks/administer-cluster/reserve-compute-resources/ and
https://kubernetes.io/docs/concepts/workloads/pods/pod-qos/
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Protocol

from tiphys.kubelet.cgroups.enforcement import Reserved
from tiphys.kubelet.cgroups.limits import CgroupLimits, burstable_shares, pod_limits
from tiphys.kubelet.cgroups.names import BEST_EFFORT_CLASS, BURSTABLE_CLASS, Name, of_pod, of_uid, path_of
from tiphys.kubelet.container.resources import MIN_SHARES, QUOTA_PERIOD
from tiphys.kubelet.figures import KubeletFigures
from tiphys.kubelet.pod.pods import Pod
from tiphys.kubelet.recorder import EventType

log = logging.getLogger(__name__)

UPDATE_PERIOD = 60.0
"""How often the classes get their shares if no pod has changed them, and after a failure."""


class CgroupDriver(Protocol):
    """Who makes cgroups."""

    async def apply(self, name: Name, limits: CgroupLimits) -> None:
        """Make it, if it is not there, and give it limits. Raises ``OSError``."""

    def has_cgroup(self, name: Name) -> bool:
        """Whether it is there."""

    async def remove(self, name: Name) -> None:
        """End what is left in it, and remove it, if it is there. Raises ``OSError`` until it is gone."""

    async def close(self) -> None: ...


class MissingCgroup(Exception):
    """A cgroup that is to be limited, and that somebody else was to make."""


class PodCgroups:
    """``total`` is what all pods may use together, ``pod_pids`` how many processes each, if any number above 0.

    ``active`` gives the pods that are to run, ``event`` records one about the node. Without a ``driver`` pods have no
    cgroups of their own.
    """

    def __init__(
        self,
        driver: CgroupDriver | None,
        top: Name,
        *,
        total: CgroupLimits,
        reserved: Sequence[tuple[Name, Reserved]] = (),
        pod_pids: int,
        period: int = QUOTA_PERIOD,
        active: Callable[[], Iterable[Pod]],
        event: Callable[[EventType, str, str], None],
        figures: KubeletFigures,
    ) -> None:
        self._driver = driver
        self._top = top
        self._total = total
        self._reserved = reserved
        self._pod_pids = pod_pids
        self._period = period
        self._active = active
        self._event = event
        self._figures = figures
        self._changed = asyncio.Event()
        self._limited = False

    async def ensure(self, pod: Pod, *, quota: bool = True) -> None:
        """Make a pod's cgroup with the pod's limits, that of processor time only with ``quota``. Raises ``OSError``."""
        if self._driver is None:
            return
        limits = replace(pod_limits(pod, self._period), pids=max(0, self._pod_pids))
        with self._figures.cgroup("update"):
            await self._driver.apply(of_pod(self._top, pod), limits if quota else replace(limits, quota=0))
        self._changed.set()

    async def remove(self, pod: Pod) -> None:
        """Raises ``OSError`` until all that was left in it has ended."""
        if self._driver is not None:
            with self._figures.cgroup("destroy"):
                await self._driver.remove(of_pod(self._top, pod))
            self._changed.set()

    async def remove_uid(self, uid: str) -> None:
        """The same for a pod of which nothing else is known."""
        if self._driver is not None:
            for name in of_uid(self._top, uid):
                await self._driver.remove(name)

    async def begin(self) -> None:
        """Limit all pods together, before there are any, and the system's own programs. Raises ``MissingCgroup``."""
        if self._driver is not None:
            await self._limit_all(self._driver)
            await self._limit_classes(self._driver)
            for name, reserved in self._reserved:
                await self._limit_reserved(self._driver, name, reserved)

    async def run(self) -> None:
        """Keep the shares of the classes as their pods want them; go on trying what has failed."""
        if self._driver is None:
            return
        while True:
            if not self._limited:
                await self._limit_all(self._driver)
            await self._limit_classes(self._driver)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(UPDATE_PERIOD):
                    await self._changed.wait()
            self._changed.clear()

    async def close(self) -> None:
        if self._driver is not None:
            await self._driver.close()

    async def _limit_all(self, driver: CgroupDriver) -> None:
        try:
            await driver.apply(self._top, self._total)
        except OSError as error:
            message = f"Failed to update Node Allocatable Limits {path_of(self._top)}: {error}"
            self._event("Warning", "FailedNodeAllocatableEnforcement", message)
        else:
            self._limited = True
            self._event("Normal", "NodeAllocatableEnforced", "Updated Node Allocatable limit across pods")

    async def _limit_reserved(self, driver: CgroupDriver, name: Name, reserved: Reserved) -> None:
        try:
            if not driver.has_cgroup(name):
                raise FileNotFoundError(errno.ENOENT, "there is no such cgroup", reserved.cgroup)
            await driver.apply(name, reserved.limits)
        except OSError as error:
            message = f'Failed to enforce {reserved.words.title()} Cgroup Limits on "{reserved.cgroup}": {error}'
            self._event("Warning", "FailedNodeAllocatableEnforcement", message)
            raise MissingCgroup(message) from error
        self._event("Normal", "NodeAllocatableEnforced", f"Updated limits on {reserved.words} cgroup {reserved.cgroup}")

    async def _limit_classes(self, driver: CgroupDriver) -> None:
        wanted = {BURSTABLE_CLASS: burstable_shares(self._active()), BEST_EFFORT_CLASS: MIN_SHARES}
        for part, shares in wanted.items():
            try:
                await driver.apply((*self._top, part), CgroupLimits(shares))
            except OSError as error:
                log.warning("cannot give the %s pods their shares: %s", part, error)
