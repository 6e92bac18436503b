"""Images that nobody uses go, by upstream's rows: for the sake of the disk, and of their age."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.kubelet.world import virtual_loop
from tiphys.kubelet.config import KubeletConfig
from tiphys.kubelet.figures import KubeletFigures
from tiphys.kubelet.node.imagegc import ImageGC, ImageGCFailure, ImagePolicy
from tiphys.kubelet.node.storage import Filesystem
from tiphys.kubelet.runtime.service import FilesystemUse, Image, ImageFilesystems, RuntimeFailure
from tiphys.runtime.clock import VirtualClock

PERCENT = 1 << 30


@dataclass(frozen=True)
class Used:
    image_ref: str


@dataclass
class Disk:
    """A disk of 100 × ``PERCENT`` bytes, and a runtime that keeps its images there."""

    clock: VirtualClock
    policy: ImagePolicy
    images: dict[str, Image] = field(default_factory=dict)
    used: list[str] = field(default_factory=list)
    other: int = 0
    broken: set[str] = field(default_factory=set)
    told: list[tuple[str, str, str]] = field(default_factory=list)
    capacity: int = 100 * PERCENT

    def __post_init__(self) -> None:
        self.figures = KubeletFigures(self.clock)
        self.gc = ImageGC(
            images=self,  # type: ignore[arg-type]
            runtime=self,  # type: ignore[arg-type]
            clock=self.clock,
            policy=self.policy,
            figures=self.figures,
            event=lambda *event: self.told.append(event),
            shown=lambda: {"docker.io/library/shown:1"},
            disk=lambda _: Filesystem(self.capacity, self.available, 0, 0),
        )

    @property
    def available(self) -> int:
        return self.capacity - self.other - sum(image.size for image in self.images.values())

    def add(self, name: str, percent: int = 1, **more: Any) -> None:
        self.images[name] = Image(name, (f"docker.io/library/{name}:1",), (), percent * PERCENT, **more)

    async def list_images(self) -> list[Image]:
        return list(self.images.values())

    async def list_containers(self) -> list[Used]:
        return [Used(name) for name in self.used]

    async def image_filesystems(self) -> ImageFilesystems:
        return ImageFilesystems((FilesystemUse("/", 0, 0),))

    async def remove_image(self, name: str) -> None:
        if name in self.broken:
            raise RuntimeFailure(f"{name} is held")
        del self.images[name]

    def counts(self) -> dict[str, float]:
        [family] = [each for each in self.figures.collect() if each.name == "kubelet_image_garbage_collected"]
        return {sample.labels["reason"]: sample.value for sample in family.samples}


def play(policy: ImagePolicy, scene: Callable[[Disk], Awaitable[None]]) -> None:
    with virtual_loop() as loop:
        loop.run_until_complete(scene(Disk(VirtualClock(loop), policy)))


AT_ANY_AGE = ImagePolicy(90, 80, 0.0)


def test_below_the_high_threshold_all_stay() -> None:
    async def scene(disk: Disk) -> None:
        disk.add("old")
        disk.other = 88 * PERCENT
        assert await disk.gc.collect() == []
        assert disk.told == []

    play(AT_ANY_AGE, scene)


def test_down_to_the_low_threshold_the_longest_unused_first() -> None:
    async def scene(disk: Disk) -> None:
        for name in ("first", "second", "third", "busy", "shown"):
            disk.add(name, 5)
        disk.add("pinned", 5, pinned=True)
        disk.used = ["first", "second", "third", "busy"]
        await disk.gc.collect()
        await disk.clock.sleep(60)
        disk.used = ["second", "docker.io/library/third:1", "busy"]
        await disk.gc.collect()
        await disk.clock.sleep(60)
        disk.used = ["second", "busy"]
        await disk.gc.collect()
        await disk.clock.sleep(60)
        disk.used = ["busy"]
        disk.other = 61 * PERCENT  # 91 %, so 11 are to go
        assert await disk.gc.collect() == ["first", "third", "second"]
        assert set(disk.images) == {"busy", "shown", "pinned"}
        assert disk.counts() == {"space": 3}

    play(AT_ANY_AGE, scene)


def test_of_images_that_were_used_last_at_once_the_older_goes() -> None:
    async def scene(disk: Disk) -> None:
        disk.add("older", 2)
        disk.used = ["older", "newer"]
        await disk.gc.collect()
        await disk.clock.sleep(60)
        disk.add("newer", 1)
        await disk.gc.collect()
        await disk.clock.sleep(60)
        disk.used = []
        disk.other = 87 * PERCENT
        with pytest.raises(ImageGCFailure):
            await disk.gc.collect()
        disk.add("newer", 1)
        assert disk.counts() == {"space": 2}
        disk.other = 0
        disk.add("older", 2)
        assert await disk.gc.remove_unused() == ["newer", "older"] or disk.images == {}

    play(AT_ANY_AGE, scene)


def test_what_is_not_enough_is_told() -> None:
    async def scene(disk: Disk) -> None:
        disk.capacity = 10 << 30
        disk.images["old"] = Image("old", (), (), 500 << 20)
        disk.other = disk.capacity * 95 // 100 - (500 << 20)
        with pytest.raises(ImageGCFailure):
            await disk.gc.collect()
        text = (
            "Insufficient free disk space on the node's image filesystem (95% of 10.0 GiB used). Failed to free "
            "sufficient space by deleting unused images (freed 524288000 bytes). Investigate disk usage, as it could "
            "be used by active images, logs, volumes, or other data."
        )
        assert disk.told == [("Warning", "FreeDiskSpaceFailed", text)]
        disk.capacity = disk.other = 0
        with pytest.raises(ImageGCFailure):
            await disk.gc.collect()
        assert disk.told[1:] == [("Warning", "InvalidDiskCapacity", "invalid capacity 0 on image filesystem")]

    play(AT_ANY_AGE, scene)


def test_what_cannot_be_removed_holds_up_no_other() -> None:
    async def scene(disk: Disk) -> None:
        for name in ("held", "free"):
            disk.add(name, 10)
        disk.broken = {"held"}
        disk.other = 75 * PERCENT
        amount = 15 * PERCENT
        with pytest.raises(ImageGCFailure) as failure:
            await disk.gc.collect()
        freed = f"wanted to free {amount} bytes, but freed {10 * PERCENT} bytes space"
        assert str(failure.value) == f"{freed} with errors in image deletion: held is held"
        assert set(disk.images) == {"held"}

    play(AT_ANY_AGE, scene)


def test_two_that_remove_at_once_are_in_nobodys_way() -> None:
    """Eviction does while the collection that comes every five minutes waits for the runtime."""

    async def scene(disk: Disk) -> None:
        for name in ("a", "b"):
            disk.add(name, 5)
        disk.other = 90 * PERCENT
        ask = disk.image_filesystems

        async def slow() -> ImageFilesystems:
            await disk.clock.sleep(5)
            return await ask()

        disk.image_filesystems = slow  # type: ignore[method-assign]
        first, second = await asyncio.gather(disk.gc.collect(), disk.gc.remove_unused(), return_exceptions=True)
        assert isinstance(first, ImageGCFailure)  # it removed both, and more would have had to go
        assert (second, disk.images) == ([], {})

    play(AT_ANY_AGE, scene)


def test_an_image_that_was_just_pulled_stays() -> None:
    async def scene(disk: Disk) -> None:
        disk.add("new", 20)
        disk.other = 75 * PERCENT
        with pytest.raises(ImageGCFailure):
            await disk.gc.collect()
        assert await disk.gc.remove_unused() == []
        await disk.clock.sleep(60)
        assert await disk.gc.remove_unused() == ["new"]

    play(ImagePolicy(90, 80, 60.0), scene)


def test_all_that_nobody_uses_goes_when_pods_would_have_to() -> None:
    async def scene(disk: Disk) -> None:
        for name in ("a", "b", "busy"):
            disk.add(name)
        disk.used = ["busy"]
        assert await disk.gc.remove_unused() == ["a", "b"]
        assert set(disk.images) == {"busy"}

    play(AT_ANY_AGE, scene)


def test_an_image_that_was_not_used_for_too_long_goes_in_any_case() -> None:
    async def scene(disk: Disk) -> None:
        for name in ("unused", "used", "busy"):
            disk.add(name)
        disk.add("pinned", pinned=True)
        disk.used = ["used", "busy"]
        await disk.clock.sleep(50)
        assert await disk.gc.collect() == []
        disk.used = ["busy"]
        await disk.clock.sleep(10)  # not longer than the age since this kubelet began to look
        assert await disk.gc.collect() == []
        await disk.clock.sleep(1)
        assert await disk.gc.collect() == ["unused"]
        await disk.clock.sleep(60)
        assert await disk.gc.collect() == ["used"]
        await disk.clock.sleep(600)
        assert await disk.gc.collect() == []
        assert set(disk.images) == {"busy", "pinned"}
        assert disk.counts() == {"age": 2}

    play(ImagePolicy(100, 80, 0.0, 60.0), scene)


def test_too_old_images_that_stay_are_told() -> None:
    async def scene(disk: Disk) -> None:
        disk.add("held")
        disk.broken = {"held"}
        await disk.clock.sleep(61)
        with pytest.raises(ImageGCFailure, match="wanted to free images older than 1m0s, encountered errors"):
            await disk.gc.collect()

    play(ImagePolicy(90, 80, 0.0, 60.0), scene)


def test_without_a_highest_age_none_is_too_old() -> None:
    async def scene(disk: Disk) -> None:
        disk.add("old")
        await disk.clock.sleep(10**6)
        assert await disk.gc.collect() == []

    play(AT_ANY_AGE, scene)
    play(ImagePolicy(100, 80, 0.0), scene)


PREFIX = "invalid configuration: imageGC"


@pytest.mark.parametrize(
    ("high", "low", "minimum", "maximum", "expected"),
    [
        (2, 1, 120, 0, ""),
        (-1, -2, 0, 0, f"{PREFIX}HighThresholdPercent (--image-gc-high-threshold) -1 must be between 0 and 100"),
        (101, 1, 0, 0, f"{PREFIX}HighThresholdPercent (--image-gc-high-threshold) 101 must be between"),
        (2, -1, 0, 0, f"{PREFIX}LowThresholdPercent (--image-gc-low-threshold) -1 must be between"),
        (1, 2, 0, 0, f"{PREFIX}LowThresholdPercent (--image-gc-low-threshold) 2 must be less than imageGCHigh"),
        (2, 2, 0, 0, f"{PREFIX}LowThresholdPercent (--image-gc-low-threshold) 2 must be less than imageGCHigh"),
        (2, 1, 0, -1, "invalid configuration: imageMaximumGCAge -1s must not be negative"),
        (2, 1, 120, 120, "imageMaximumGCAge 2m0s must be greater than imageMinimumGCAge 2m0s"),
        (2, 1, 120, 121, ""),
    ],
)
def test_what_does_not_go_together(high: int, low: int, minimum: float, maximum: float, expected: str) -> None:
    config = KubeletConfig("node", Path("/nowhere"))
    config.image_gc_high_percent, config.image_gc_low_percent = high, low
    config.image_minimum_age, config.image_maximum_age = minimum, maximum
    problems = config.problems()
    assert expected in "; ".join(problems)
    assert bool(problems) == bool(expected)


def test_a_failure_to_list_is_one() -> None:
    async def scene(disk: Disk) -> None:
        async def broken() -> list[Image]:
            raise RuntimeFailure("gone")

        disk.list_images = broken  # type: ignore[method-assign]
        with pytest.raises(RuntimeFailure):
            await asyncio.wait_for(disk.gc.collect(), 60)

    play(AT_ANY_AGE, scene)
