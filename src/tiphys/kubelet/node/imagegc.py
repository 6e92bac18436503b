"""Removes images that nobody uses: those that were not used for too long, and others when their disk fills.

Source: https://kubernetes.io/docs/concepts/architecture/garbage-collection/#container-image-lifecycle
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tiphys.kubelet.figures import KubeletFigures
from tiphys.kubelet.node.observing import existing
from tiphys.kubelet.node.storage import Filesystem, filesystem_of
from tiphys.kubelet.recorder import EventType
from tiphys.kubelet.runtime.service import Image, ImageService, RuntimeFailure, RuntimeNotFound, RuntimeService
from tiphys.runtime.clock import Clock
from tiphys.runtime.durations import seconds_text

log = logging.getLogger(__name__)


class ImageGCFailure(Exception):
    """Not all that was to go is gone."""


@dataclass(frozen=True, slots=True)
class ImagePolicy:
    """``high`` and ``low`` in percent of the disk: when it is fuller than the first, images go until it is no fuller
    than the second; 100 for the first: never. No image goes that has been here for less than ``minimum_age`` seconds;
    one that was not used for ``maximum_age`` goes in any case, unless that is 0."""

    high: int = 85
    low: int = 80
    minimum_age: float = 120.0
    maximum_age: float = 0.0

    @property
    def problems(self) -> list[str]:
        """Upstream's words for what is wrong with it."""
        wrong = []
        for name, flag, percent in (("High", "high", self.high), ("Low", "low", self.low)):
            if not 0 <= percent <= 100:
                field = f"imageGC{name}ThresholdPercent (--image-gc-{flag}-threshold)"
                wrong.append(f"invalid configuration: {field} {percent} must be between 0 and 100, inclusive")
        if self.low >= self.high:
            wrong.append(
                f"invalid configuration: imageGCLowThresholdPercent (--image-gc-low-threshold) {self.low} must be less"
                f" than imageGCHighThresholdPercent (--image-gc-high-threshold) {self.high}"
            )
        oldest = f"invalid configuration: imageMaximumGCAge {seconds_text(self.maximum_age)}"
        if self.maximum_age < 0:
            wrong.append(f"{oldest} must not be negative")
        elif 0 < self.maximum_age <= self.minimum_age:
            wrong.append(f"{oldest} must be greater than imageMinimumGCAge {seconds_text(self.minimum_age)}")
        return wrong


@dataclass(slots=True)
class _Record:
    first_seen: float
    last_used: float = float("-inf")


class ImageGC:
    """``shown`` gives the names of the images that volumes show; ``disk`` measures a file system."""

    def __init__(
        self,
        *,
        images: ImageService,
        runtime: RuntimeService,
        clock: Clock,
        policy: ImagePolicy,
        figures: KubeletFigures,
        event: Callable[[EventType, str, str], None],
        shown: Callable[[], set[str]] = set,
        disk: Callable[[Path], Filesystem] = filesystem_of,
    ) -> None:
        self._images = images
        self._runtime = runtime
        self._clock = clock
        self._policy = policy
        self._figures = figures
        self._event = event
        self._shown = shown
        self._disk = disk
        self._records: dict[str, _Record] = {}
        self._began = clock.now()
        self._one_at_a_time = asyncio.Lock()

    async def collect(self) -> list[str]:
        """One round; gives what was removed. Raises ``RuntimeFailure``, and ``ImageGCFailure`` if it is not enough."""
        async with self._one_at_a_time:
            return await self._collect()

    async def remove_unused(self) -> list[str]:
        """Remove all that can go. Raises ``RuntimeFailure`` and ``ImageGCFailure``."""
        async with self._one_at_a_time:
            return (await self._free(None, await self._unused()))[0]

    async def _collect(self) -> list[str]:
        if self._policy.high >= 100 and not self._policy.maximum_age:
            return []
        images = await self._unused()
        removed = await self._remove_old(images)
        filesystems = (await self._images.image_filesystems()).images
        if not filesystems:
            return removed
        disk = self._disk(existing(Path(filesystems[0].mountpoint)))
        if disk.capacity == 0:
            message = "invalid capacity 0 on image filesystem"
            self._event("Warning", "InvalidDiskCapacity", message)
            raise ImageGCFailure(message)
        available = min(disk.available, disk.capacity)
        used = 100 - available * 100 // disk.capacity
        if used < self._policy.high:
            return removed
        excess = disk.capacity * (100 - self._policy.low) // 100 - available
        log.info("the disk of images is %d%% full: %d bytes are to be freed", used, excess)
        gone, freed = await self._free(excess, [image for image in images if image.id not in removed])
        if freed < excess:
            message = (
                f"Insufficient free disk space on the node's image filesystem ({used}% of {_size(disk.capacity)} used)."
                f" Failed to free sufficient space by deleting unused images (freed {freed} bytes). "
                "Investigate disk usage, as it could be used by active images, logs, volumes, or other data."
            )
            self._event("Warning", "FreeDiskSpaceFailed", message)
            raise ImageGCFailure(message)
        return [*removed, *gone]

    async def _remove_old(self, images: Sequence[Image]) -> list[str]:
        """Those that were not used for too long; none until this kubelet has watched for as long."""
        oldest, now = self._policy.maximum_age, self._clock.now()
        if not oldest or now - self._began <= oldest:
            return []
        doomed = [image for image in images if now - self._records[image.id].last_used > oldest]
        removed, failures = await self._remove_each(doomed, "age", None)
        if failures:
            raise ImageGCFailure(
                f"wanted to free images older than {seconds_text(oldest)}, encountered errors in image deletion: "
                f"{_several(failures)}"
            )
        return [image.id for image in removed]

    async def _free(self, wanted: int | None, images: Sequence[Image]) -> tuple[list[str], int]:
        """Remove images until ``wanted`` bytes are free, or all (None); gives what went, and its size."""
        now = self._clock.now()
        may_go = [i for i in images if now - self._records[i.id].first_seen >= self._policy.minimum_age]
        removed, failures = await self._remove_each(may_go, "space", wanted)
        freed = sum(image.size for image in removed)
        if failures:
            amount = (1 << 63) - 1 if wanted is None else wanted
            raise ImageGCFailure(
                f"wanted to free {amount} bytes, but freed {freed} bytes space with errors in image deletion: "
                f"{_several(failures)}"
            )
        return [image.id for image in removed], freed

    async def _remove_each(
        self, images: Sequence[Image], reason: str, wanted: int | None
    ) -> tuple[list[Image], list[str]]:
        removed: list[Image] = []
        failures: list[str] = []
        freed = 0
        for image in images:
            if wanted is not None and freed >= wanted:
                break
            try:
                await self._images.remove_image(image.id)
            except RuntimeNotFound:
                continue
            except RuntimeFailure as error:
                failures.append(str(error))
                continue
            self._records.pop(image.id, None)
            self._figures.image_removed(reason)
            removed.append(image)
            freed += image.size
        return removed, failures

    async def _unused(self) -> list[Image]:
        """Notes which images are here and in use; gives the others, the longest unused first."""
        images = await self._images.list_images()
        in_use = {container.image_ref for container in await self._runtime.list_containers()} | self._shown()
        now = self._clock.now()
        free = []
        for image in images:
            record = self._records.setdefault(image.id, _Record(now))
            if image.id in in_use or in_use & {*image.tags, *image.digests}:
                record.last_used = now
            elif not image.pinned:
                free.append(image)
        known = {image.id for image in images}
        self._records = {key: record for key, record in self._records.items() if key in known}
        return sorted(free, key=lambda i: (self._records[i.id].last_used, self._records[i.id].first_seen))


def _several(failures: Sequence[str]) -> str:
    """As Go shows several errors."""
    different = list(dict.fromkeys(failures))
    return different[0] if len(different) == 1 else f"[{', '.join(different)}]"


def _size(amount: int) -> str:
    """Bytes as people read them: ``9.5 GiB``."""
    if amount < 1024:
        return f"{amount} B"
    size, units = amount / 1024, ["KiB", "MiB", "GiB", "TiB"]
    while size >= 1024 and len(units) > 1:
        size /= 1024
        units.pop(0)
    return f"{size:.1f} {units[0]}"
