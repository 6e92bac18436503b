"""Eviction by upstream's rows: thresholds as written, signals by where the runtime keeps what, who goes first, over
time."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.kubelet.simulated import SimulatedRuntime
from tests.kubelet.world import container, pod, virtual_loop
from tiphys.kubelet import labels
from tiphys.kubelet.node.eviction import EvictionManager, EvictionPolicy, NodeDisks
from tiphys.kubelet.node.imagegc import ImageGCFailure
from tiphys.kubelet.node.measures import cgroup_processes
from tiphys.kubelet.node.observing import Places, find_places, read_signals
from tiphys.kubelet.node.ranking import ContainerUse, PodUse, explain, rank
from tiphys.kubelet.node.signals import DiskLayout, Reclaim, condition_of, reclaims_for
from tiphys.kubelet.node.storage import DiskUse, Filesystem, PodStorage, VolumeUse
from tiphys.kubelet.node.thresholds import (
    Signal,
    Threshold,
    ThresholdWatch,
    amount,
    describe_shortage,
    for_layout,
    kept_free,
    met,
    read_thresholds,
)
from tiphys.kubelet.pod.pods import Pod
from tiphys.kubelet.runtime.service import ContainerStats, FilesystemUse, ImageFilesystems
from tiphys.runtime.clock import VirtualClock

MI, GI = 1 << 20, 1 << 30
ONE, DEDICATED, SPLIT = DiskLayout(), DiskLayout(dedicated=True), DiskLayout(dedicated=True, split=True)
DISKS = ("nodefs", "imagefs", "containerfs")

# Thresholds.

SOFT = {"memory.available": 30.0}
READ: dict[str, tuple[Any, ...]] = {
    "nothing": ({}, {}, {}, {}, False, []),
    "memory, and that of pods": (
        *({"memory.available": "150Mi"}, {"memory.available": "300Mi"}, SOFT, {"memory.available": "0"}, True),
        [
            Threshold("memory.available", "150Mi"),
            Threshold("memory.available", "300Mi", 30.0),
            Threshold("allocatableMemory.available", "150Mi"),
        ],
    ),
    "percentages": (
        *({"memory.available": "10%"}, {"memory.available": "30%"}, SOFT, {"memory.available": "5%"}, False),
        [Threshold("memory.available", "10%", 0.0, "5%"), Threshold("memory.available", "30%", 30.0, "5%")],
    ),
    "disks": (
        {"imagefs.available": "150Mi", "nodefs.available": "10.5%", "imagefs.inodesFree": "1Mi"},
        {"nodefs.inodesFree": "200Mi"},
        {"nodefs.inodesFree": 30.0},
        {"nodefs.available": "1Gi"},
        False,
        [
            Threshold("imagefs.available", "150Mi"),
            Threshold("nodefs.available", "10.5%", 0.0, "1Gi"),
            Threshold("imagefs.inodesFree", "1Mi"),
            Threshold("nodefs.inodesFree", "200Mi", 30.0),
        ],
    ),
    "turned off": ({"memory.available": "0%"}, {"memory.available": "100%"}, {}, {}, True, []),
}


@pytest.mark.parametrize("case", READ)
def test_thresholds_as_written(case: str) -> None:
    *given, pods_enforced, expected = READ[case]
    assert list(read_thresholds(*given, pods_enforced=pods_enforced)) == expected


WRONG: list[tuple[dict[str, str], dict[str, str], dict[str, float], dict[str, str], str]] = [
    ({"mem.available": "150Mi"}, {}, {}, {}, "unsupported eviction signal mem.available"),
    ({"memory.available": "150Mi", "invalid.foo": "1"}, {}, {}, {}, "unsupported eviction signal invalid.foo"),
    ({"memory.available": "-150Mi"}, {}, {}, {}, "eviction threshold memory.available must be positive: -150Mi"),
    ({"memory.available": "0"}, {}, {}, {}, "eviction threshold memory.available must be positive: 0"),
    ({"memory.available": "-15%"}, {}, {}, {}, "memory.available must be >= 0%: -15%"),
    ({"memory.available": "150%"}, {}, {}, {}, "memory.available must be <= 100%: 150%"),
    ({"memory.available": ""}, {}, {}, {}, "quantit"),
    ({"memory.available": "10..5%"}, {}, {}, {}, "10..5"),
    ({}, {"memory.available": "-150Mi"}, {}, {}, "must be positive"),
    ({}, {"memory.available": "150Mi"}, {}, {}, "grace period must be specified for the soft eviction threshold"),
    ({}, {"memory.available": "150Mi"}, {"memory.available": -30.0}, {}, "invalid eviction grace period specified"),
    ({}, {"memory.available": "150Mi"}, {"mem.available": 30.0}, {}, "unsupported eviction signal"),
    ({}, {}, {}, {"memory.available": "-300Mi"}, "negative eviction minimum reclaim specified for memory.available"),
    ({}, {}, {}, {"mem.available": "300Mi"}, "unsupported eviction signal"),
    ({}, {}, {}, {"memory.available": ""}, "quantit"),
    ({}, {}, {}, {"memory.available": "-15%"}, "minimum reclaim memory.available must be positive: -15%"),
    ({}, {}, {}, {"memory.available": "10..5%"}, "10..5"),
]


@pytest.mark.parametrize(("hard", "soft", "graces", "reclaims", "message"), WRONG)
def test_what_is_no_threshold(
    hard: dict[str, str], soft: dict[str, str], graces: dict[str, float], reclaims: dict[str, str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        read_thresholds(hard, soft, graces, reclaims)


def test_a_share_is_of_single_precision_as_upstreams() -> None:
    assert amount("10%", 100 * 10**9) == 10_000_000_149
    assert amount("12.5%", 1 << 40) == 1 << 37
    assert kept_free({"nodefs.available": "0%"}, "nodefs.available", GI) == 0
    assert kept_free({"nodefs.available": "12.5%"}, "nodefs.available", GI) == GI // 8
    assert Threshold("nodefs.available", "1024Mi").quantity(0) == "1Gi"
    assert Threshold("nodefs.available", "12.5%").quantity(8 * GI) == "1Gi"


@pytest.mark.parametrize(
    ("text", "reclaim", "available", "before", "expected"),
    [
        ("1Gi", "500Mi", 500 * MI, False, True),
        ("1Gi", "500Mi", 2 * GI, False, False),
        ("1Gi", "500Mi", 1100 * MI, False, False),
        ("1Gi", "500Mi", 1100 * MI, True, True),
        ("1Gi", "500Mi", 2 * GI, True, False),
        ("20%", "5%", 1 * GI, False, True),
        ("20%", "5%", 3 * GI, False, False),
        ("20%", "5%", 2200 * MI, True, True),
    ],
)
def test_which_thresholds_are_crossed(text: str, reclaim: str, available: int, before: bool, expected: bool) -> None:
    threshold = Threshold("memory.available", text, 0.0, reclaim)
    signals = {"memory.available": Signal(available, 10 * GI)}
    assert met([threshold], signals, before=before) == ([threshold] if expected else [])
    assert met([Threshold("pid.available", "10%")], signals) == []  # nobody measures it


def test_thresholds_count_by_their_grace_and_until_enough_is_free_again() -> None:
    thresholds = read_thresholds(
        {"memory.available": "100Mi", "nodefs.available": "10%", "pid.available": "0%"},
        {"memory.available": "500Mi"},
        {"memory.available": 30.0},
        {"memory.available": "50Mi"},
    )
    hard, soft = "100Mi", "500Mi"
    watch = ThresholdWatch(thresholds)

    def look(memory: int, now: float, disk: int = 20) -> list[list[str]]:
        signals = {"memory.available": Signal(memory << 20, 1 << 30), "nodefs.available": Signal(disk, 100)}
        return [[threshold.text for threshold in found] for found in watch.look(signals, now)]

    assert look(600, 0) == [[], []]
    assert look(400, 10) == [[soft], []]
    assert look(400, 39) == [[soft], []]
    assert look(600, 40) == [[], []]  # begins again
    assert look(400, 50) == [[soft], []]
    assert look(90, 80, disk=9) == [[hard, soft, "10%"], [hard, soft, "10%"]]
    assert look(149, 90) == [[hard, soft], [hard, soft]]  # 50Mi beyond the threshold are to be free again
    assert look(151, 100) == [[soft], [soft]]
    assert look(549, 110) == [[soft], [soft]]
    assert look(550, 120) == [[], []]


def test_memory_comes_first_and_each_signal_has_its_condition() -> None:
    names = ["pid.available", "imagefs.inodesFree", "nodefs.available", "allocatableMemory.available"]
    watch = ThresholdWatch([Threshold(name, "1Gi") for name in [*names, "memory.available"]])
    order = [threshold.signal for threshold in watch.thresholds]
    assert order[:2] == ["memory.available", "allocatableMemory.available"]
    assert order[-1] == "pid.available"
    found = [condition_of(name) for name in order]
    assert found == ["MemoryPressure", "MemoryPressure", "DiskPressure", "DiskPressure", "PIDPressure"]


@pytest.mark.parametrize(
    ("layout", "like"), [(ONE, "nodefs"), (SPLIT, "nodefs"), (DEDICATED, "imagefs"), (DiskLayout(split=True), "")]
)
def test_containers_have_the_thresholds_of_the_file_system_that_they_are_on(layout: DiskLayout, like: str) -> None:
    given = [
        Threshold(f"{disk}.{kind}", f"{number}Gi", grace, f"{number}Mi")
        for number, disk in enumerate(("nodefs", "imagefs"), 1)
        for kind in ("available", "inodesFree")
        for grace in (0.0, 60.0)
    ]
    asked = [Threshold("containerfs.available", "9Gi"), Threshold("containerfs.inodesFree", "9Gi", 5.0)]
    found = [each for each in for_layout([*given, *asked], layout) if each.signal.startswith("containerfs")]
    if not like:
        assert found == asked
        return
    own = {(t.signal.partition(".")[2], t.text, t.grace, t.reclaim) for t in given if t.signal.startswith(like)}
    assert {(t.signal.partition(".")[2], t.text, t.grace, t.reclaim) for t in found} == own
    assert len(found) == len(own) == 4
    assert for_layout([Threshold("memory.available", "1Gi")], layout) == (Threshold("memory.available", "1Gi"),)


BOTH, IMAGES, CONTAINERS = (Reclaim.CONTAINERS, Reclaim.IMAGES), (Reclaim.IMAGES,), (Reclaim.CONTAINERS,)


@pytest.mark.parametrize(
    ("layout", "expected"),
    [(ONE, (BOTH, BOTH, BOTH)), (DEDICATED, ((), BOTH, BOTH)), (SPLIT, (CONTAINERS, IMAGES, CONTAINERS))],
)
@pytest.mark.parametrize("kind", ["available", "inodesFree"])
def test_what_is_freed_before_a_pod_is_ended(layout: DiskLayout, expected: object, kind: str) -> None:
    assert tuple(reclaims_for(f"{disk}.{kind}", layout) for disk in DISKS) == expected
    assert reclaims_for("memory.available", layout) == reclaims_for("pid.available", layout) == ()


# What is measured.


async def _found(filesystems: ImageFilesystems, root: Path) -> Places:
    class Images(SimulatedRuntime):
        async def image_filesystems(self) -> ImageFilesystems:
            return filesystems

    return await find_places(root, Images.__new__(Images))


def test_where_the_runtime_keeps_images_and_containers(tmp_path: Path) -> None:
    memory = "/dev/shm"  # another file system than that of files
    assert os.stat(memory).st_dev != os.stat(tmp_path).st_dev
    here, there = FilesystemUse(str(tmp_path / "not/yet"), 0, 0), FilesystemUse(memory, 0, 0)

    def layout(images: tuple[FilesystemUse, ...], containers: tuple[FilesystemUse, ...]) -> DiskLayout:
        return asyncio.run(_found(ImageFilesystems(images, containers), tmp_path)).layout

    assert layout((), ()) == layout((here,), ()) == layout((here,), (here,)) == ONE
    assert layout((there,), ()) == layout((there,), (there,)) == DEDICATED
    assert layout((there,), (here,)) == layout((here,), (there,)) == SPLIT


def test_what_the_node_has_left(tmp_path: Path) -> None:
    signals = read_signals(Places(str(tmp_path), "/dev/shm", str(tmp_path)), "no-such-cgroup")
    assert set(signals) >= {"memory.available", "pid.available", *(f"{disk}.available" for disk in DISKS)}
    assert "allocatableMemory.available" not in signals  # there are no pods yet
    shared = os.statvfs("/dev/shm")
    assert signals["imagefs.available"].capacity == shared.f_blocks * shared.f_frsize
    assert signals["nodefs.available"].capacity != signals["imagefs.available"].capacity
    for signal in signals.values():
        assert 0 <= signal.available <= signal.capacity
    left = read_signals(Places(str(tmp_path), str(tmp_path / "gone"), str(tmp_path)), "no-such-cgroup")
    assert signals.keys() - left.keys() == {"imagefs.available", "imagefs.inodesFree"}


def test_how_many_processes_a_pod_has(tmp_path: Path) -> None:
    for folder in (tmp_path / "pids/kubepods/a", tmp_path / "v2/kubepods.slice/a"):
        folder.mkdir(parents=True)
        (folder / "pids.current").write_text("17\n")
    assert cgroup_processes("/kubepods/a", tmp_path) == 17
    assert cgroup_processes("/kubepods/b", tmp_path) is None
    (tmp_path / "v2/cgroup.controllers").touch()
    assert cgroup_processes("kubepods.slice/a", tmp_path / "v2") == 17


# Who goes first.


def asking(name: str, resource: str = "memory", request: str = "", priority: int = 0, **spec: Any) -> Pod:
    resources = {"requests": {resource: request}} if request else {}
    volumes = [{"name": "local", "emptyDir": {}}, {"name": "memory", "emptyDir": {"medium": "Memory"}}]
    return pod(name, container("main", resources=resources), priority=priority, volumes=volumes, **spec)


def names(found: Sequence[Pod]) -> list[str]:
    return [each["metadata"]["name"] for each in found]


def disk_use(layer: int = 0, logs: int = 0, volume: int = 0) -> PodUse:
    """The same of bytes and of inodes."""
    own = ContainerUse(0, DiskUse(layer, layer), DiskUse(logs, logs))
    return PodUse({"main": own}, {"local": DiskUse(volume, volume), "memory": DiskUse(1 << 60, 1 << 60)})


LOW, HIGH = -1, 100000
RANKED = [
    ("above-low-high", LOW, "", 500),
    ("above-low-low", LOW, "", 50),
    ("above-high-high", HIGH, "100Mi", 600),
    ("above-high-low", HIGH, "100Mi", 150),
    ("below-low-high", LOW, "1Gi", 800),
    ("below-low-low", LOW, "1Gi", 200),
    ("below-high-high", HIGH, "1Gi", 800),
    ("below-high-low", HIGH, "1Gi", 200),
]


def test_pods_over_their_request_of_memory_go_first_then_the_less_important_then_the_largest() -> None:
    candidates = [asking(name, "memory", request, priority) for name, priority, request, _ in reversed(RANKED)]
    uses = {f"uid-{name}": PodUse({"main": ContainerUse(used * MI)}) for name, _, _, used in RANKED}
    for signal in ("memory.available", "allocatableMemory.available"):
        assert names(rank(signal, ONE, candidates, uses)) == [name for name, *_ in RANKED]


@pytest.mark.parametrize("part", ["layer", "logs", "volume"])
def test_pods_over_their_request_of_disk_go_first(part: str) -> None:
    candidates = [
        asking(name, "ephemeral-storage", request, priority) for name, priority, request, _ in reversed(RANKED)
    ]
    uses = {f"uid-{name}": disk_use(**{part: used * MI}) for name, _, _, used in RANKED}
    for disk in DISKS:
        assert names(rank(f"{disk}.available", ONE, candidates, uses)) == [name for name, *_ in RANKED]


def test_pods_with_many_inodes_go_first_whatever_they_request() -> None:
    uses = {"uid-few": disk_use(100), "uid-many": disk_use(300), "uid-dear": disk_use(900), "uid-none": disk_use()}
    candidates = [asking("dear", priority=HIGH), asking("few"), asking("none"), asking("many", "memory", "1Gi")]
    assert names(rank("nodefs.inodesFree", ONE, candidates, uses)) == ["many", "few", "dear", "none"]


def test_only_what_is_on_the_file_system_counts() -> None:
    candidates = [asking("layers"), asking("logs"), asking("volumes")]
    uses = {"uid-layers": disk_use(9, 1, 1), "uid-logs": disk_use(5, 8, 1), "uid-volumes": disk_use(2, 1, 7)}
    by_layers, others, everything = ["layers", "logs", "volumes"], ["logs", "volumes", "layers"], None

    def first(disk: str, layout: DiskLayout) -> list[str]:
        return names(rank(f"{disk}.available", layout, candidates, uses))

    assert first("nodefs", DEDICATED) == others
    assert first("imagefs", DEDICATED) == first("containerfs", DEDICATED) == by_layers
    everything = ["logs", "layers", "volumes"]
    assert first("nodefs", ONE) == first("nodefs", SPLIT) == first("containerfs", SPLIT) == everything
    assert first("imagefs", SPLIT) == names(candidates)  # nothing of a pod is there


def test_processes_are_reclaimed_by_priority_then_by_their_number() -> None:
    """Not by disk: that is what this ranked by once."""
    rows = [("low-high", LOW, 400, 0), ("low-low", LOW, 100, 9), ("high-high", HIGH, 900, 5), ("high-low", HIGH, 1, 99)]
    candidates = [asking(name, priority=priority) for name, priority, _, _ in reversed(rows)]
    uses = {
        f"uid-{name}": PodUse({"main": ContainerUse(0, DiskUse(disk, disk))}, processes=processes)
        for name, _, processes, disk in rows
    }
    assert names(rank("pid.available", ONE, candidates, uses)) == [name for name, *_ in rows]


def test_a_pod_of_which_nothing_is_known_goes_before_its_equals() -> None:
    candidates, uses = [asking("known"), asking("unknown")], {"uid-known": disk_use(1 << 40)}
    for signal in ("memory.available", "nodefs.available", "imagefs.inodesFree", "pid.available"):
        assert names(rank(signal, ONE, candidates, uses)) == ["unknown", "known"]
    important = [asking("unknown", priority=HIGH), asking("known")]
    assert names(rank("pid.available", ONE, important, uses)) == ["known", "unknown"]


# What is said.


def spec_container(name: str, request: str, **more: Any) -> dict[str, Any]:
    return container(name, resources={"requests": {"memory": request}} if request else {}, **more)


INIT = [spec_container("init", "100Mi"), spec_container("sidecar", "200Mi", restartPolicy="Always")]
SAID: dict[str, tuple[list[Any], dict[str, int], list[tuple[str, str, str]]]] = {
    "none": ([spec_container("main", "200Mi")], {"sidecar": 150, "main": 100}, []),
    "an init container": ([spec_container("main", "200Mi")], {"init": 150}, [("init", "150Mi", "100Mi")]),
    "a sidecar": ([spec_container("main", "200Mi")], {"sidecar": 250, "main": 200}, [("sidecar", "250Mi", "200Mi")]),
    "a debugger is nobody's": ([spec_container("main", "200Mi")], {"main": 150, "debugger": 250}, []),
    "those without a request": (
        [spec_container("main", ""), spec_container("other", "2Gi")],
        {"sidecar": 1536, "main": 1, "other": 2048},
        [("sidecar", "1536Mi", "200Mi"), ("main", "1Mi", "0")],
    ),
}


@pytest.mark.parametrize("case", SAID)
def test_which_containers_are_blamed(case: str) -> None:
    containers, used, expected = SAID[case]
    use = PodUse({name: ContainerUse(amount * MI) for name, amount in used.items()})
    text, annotations = explain("memory", pod("p", *containers, initContainers=INIT), use, "")
    blamed = "".join(
        f"Container {name} was using {amount}, request is {request}, has larger consumption of memory. "
        for name, amount, request in expected
    )
    assert text == f"The node was low on resource: memory. {blamed}"
    assert annotations == {
        "offending_containers": ",".join(name for name, *_ in expected),
        "offending_containers_usage": ",".join(amount for _, amount, _ in expected),
        "starved_resource": "memory",
    }


def test_a_pod_with_a_request_of_its_own_is_blamed_itself() -> None:
    use = PodUse({"a": ContainerUse(250 * MI), "b": ContainerUse(350 * MI)})
    wanted = pod("p", spec_container("a", ""), spec_container("b", ""), resources={"requests": {"memory": "250Mi"}})
    text, annotations = explain("memory", wanted, use, "")
    assert "Pod p was using 600Mi, request is 250Mi, has larger consumption of memory. Container a was" in text
    assert (annotations["offending_pod"], annotations["offending_pod_usage"]) == ("p", "600Mi")


def test_other_resources_are_told_in_their_own_unit() -> None:
    use = PodUse({"main": ContainerUse(0, DiskUse(3 * MI, 7), DiskUse(MI, 1))})
    shown = asking("p", "ephemeral-storage", "1Mi")
    assert (
        "Container main was using 4Mi, request is 1Mi, has larger consumption of ephemeral-storage. "
        in explain("ephemeral-storage", shown, use, "")[0]
    )
    assert explain("inodes", shown, use, "")[0] == "The node was low on resource: inodes. "
    assert explain("pids", shown, None, "So few. ") == ("The node was low on resource: pids. So few. ", {})
    signals = {"nodefs.inodesFree": Signal(2000, 100_000), "memory.available": Signal(1536, GI)}
    thresholds = [Threshold("nodefs.inodesFree", "12.5%"), Threshold("memory.available", "100Mi")]
    assert describe_shortage("inodes", thresholds, signals) == "Threshold quantity: 12500, available: 2k. "
    assert describe_shortage("memory", thresholds, signals) == "Threshold quantity: 100Mi, available: 1536. "
    assert describe_shortage("pids", thresholds, signals) == ""


# Over time.


@dataclass
class Node:
    """An ``EvictionManager`` whose node has what a test says."""

    clock: VirtualClock
    policy: EvictionPolicy
    layout: DiskLayout = ONE
    pods: list[Pod] = field(default_factory=list)
    uses: dict[str, PodUse] = field(default_factory=dict)
    signals: dict[str, Signal] = field(default_factory=dict)
    ended: list[tuple[str, int, str]] = field(default_factory=list)
    freed: list[Reclaim] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    frees: Callable[[], None] = lambda: None

    def __post_init__(self) -> None:
        reclaims = {each: self._reclaim(each) for each in Reclaim}
        self.manager = EvictionManager(
            policy=self.policy,
            disks=NodeDisks(self._find, lambda _: self.signals, reclaims),  # type: ignore[arg-type]
            runtime=self,  # type: ignore[arg-type]
            storage=self,  # type: ignore[arg-type]
            processes=lambda each: self.uses[each["metadata"]["uid"]].processes,
            active=lambda: [each for each in self.pods if each["metadata"]["uid"] not in self.gone],
            evict=self._evict,  # type: ignore[arg-type]
            is_gone=lambda _: True,
            event=lambda *words: self.told.append(" ".join(words)),
            clock=self.clock,
            changed=lambda: None,
        )

    @property
    def gone(self) -> set[str]:
        return {f"uid-{name}" for name, _, _ in self.ended}

    async def _find(self) -> Node:
        return self

    def _reclaim(self, kind: Reclaim) -> Callable[[], Awaitable[object]]:
        async def reclaim() -> None:
            self.freed.append(kind)
            if kind is Reclaim.IMAGES:
                self.frees()
            else:
                raise ImageGCFailure("some are left")  # which holds up nothing

        return reclaim

    def _evict(self, evicted: Pod, message: str, *, signal: str, disrupted: bool, grace: int = 1, **_: object) -> None:
        self.ended.append((evicted["metadata"]["name"], grace, signal))

    async def list_container_stats(self) -> list[ContainerStats]:
        return [
            ContainerStats(uid, "main", 0.0, 0, 0, used.memory, 0, 0, 0, 0, used.layer.bytes, used.layer.inodes, tags)
            for uid, use in self.uses.items()
            for name, used in use.containers.items()
            for tags in [{labels.POD_UID: uid, labels.CONTAINER_NAME: name}]
        ]

    async def measure(self, wanted: Sequence[Pod], max_age: float) -> Mapping[str, PodStorage]:
        none = Filesystem(0, 0, 0, 0)
        return {
            uid: PodStorage(
                {name: VolumeUse(volume, none) for name, volume in use.volumes.items()},
                {name: used.logs for name, used in use.containers.items()},
            )
            for uid, use in self.uses.items()
        }

    async def after(self, seconds: float, **signals: int) -> list[str]:
        """Look once, so many seconds later; gives the conditions. Signals are given in Mi, of 16 Gi each."""
        await self.clock.sleep(seconds)
        for name, size in signals.items():
            kind = "inodesFree" if name.endswith("inodes") else "available"
            self.signals[f"{name.removesuffix('inodes')}.{kind}"] = Signal(size * MI, 16 * GI)
        await self.manager.check()
        return self.manager.pressures


def over_time(scene: Callable[[VirtualClock], Awaitable[None]]) -> None:
    with virtual_loop() as loop:
        loop.run_until_complete(scene(VirtualClock(loop)))


PODS = (
    ("low-priority-high-usage", LOW, "100Mi", 900),
    ("below-requests", 0, "100Mi", 50),
    ("above-requests", 0, "100Mi", 400),
    ("high-priority-high-usage", HIGH, "", 400),
    ("low-priority-low-usage", LOW, "", 100),
)
EXPECTED_ORDER = [*("low-priority-high-usage", "low-priority-low-usage", "above-requests"), "high-priority-high-usage"]


def with_pods(node: Node, signal: str) -> Node:
    for name, priority, request, used in PODS:
        resource = "ephemeral-storage" if signal in DISKS else "memory"
        node.pods.append(asking(name, resource, request, priority, terminationGracePeriodSeconds=15))
        disk = DiskUse(used * MI, used)
        of_disk = ContainerUse(0, disk) if signal != "memory" else ContainerUse(used * MI)
        node.uses[f"uid-{name}"] = PodUse({"main": of_disk}, processes=used)
    return node


CONDITIONS = {"memory": "MemoryPressure", "pid": "PIDPressure"}


@pytest.mark.parametrize(
    ("signal", "layout"),
    [
        ("memory", ONE),
        ("allocatableMemory", ONE),
        ("pid", ONE),
        ("nodefs", ONE),
        ("nodefsinodes", ONE),
        ("imagefs", ONE),
        ("imagefs", DEDICATED),
        ("imagefsinodes", DEDICATED),
        ("containerfs", ONE),
        ("containerfs", DEDICATED),
        ("containerfs", SPLIT),
        ("containerfsinodes", SPLIT),
    ],
)
def test_a_signal_from_soft_to_hard_and_back(signal: str, layout: DiskLayout) -> None:
    """Upstream's scene for each signal: soft, its grace, hard, and the time until the node is well again."""
    kind = "inodesFree" if signal.endswith("inodes") else "available"
    disk = signal.removesuffix("inodes")
    watched = disk
    if disk == "containerfs":
        watched = "imagefs" if layout is DEDICATED else "nodefs"
    name = f"{watched}.{kind}"
    thresholds = [Threshold(name, "1Gi"), Threshold(name, "2Gi", 120.0)]
    condition = [CONDITIONS.get(disk.removeprefix("allocatable").lower(), "DiskPressure")]

    async def scene(clock: VirtualClock) -> None:
        policy = EvictionPolicy(thresholds, transition=300.0, longest_grace=5)
        node = with_pods(Node(clock, policy, layout), "memory" if condition == ["MemoryPressure"] else signal)
        assert await node.after(0, **{signal: 3000}) == []
        assert await node.after(60, **{signal: 1500}) == condition
        assert node.ended == []  # the grace of the soft one is not over
        assert await node.after(180, **{signal: 1500}) == condition
        assert node.ended.pop() == (EXPECTED_ORDER[0], 5, f"{disk}.{kind}")
        assert await node.after(1200, **{signal: 3000}) == []
        assert await node.after(60, **{signal: 750}) == condition
        assert node.ended[0][:2] == (EXPECTED_ORDER[0], 1)  # at once
        for step, expected in enumerate(EXPECTED_ORDER[1:], 2):
            assert await node.after(10, **{signal: 750}) == condition
            if disk not in ("pid",) and kind == "available":
                assert node.ended[-1][0] == expected
            assert len(node.ended) == step
        count = len(node.ended)
        assert await node.after(60, **{signal: 3000}) == condition  # until the transition is over
        assert await node.after(300, **{signal: 3000}) == []
        assert len(node.ended) == count

    over_time(scene)


@pytest.mark.parametrize("layout", [ONE, DEDICATED, SPLIT])
@pytest.mark.parametrize("enough", [True, False])
def test_images_go_before_pods_and_those_stay_if_that_is_enough(layout: DiskLayout, enough: bool) -> None:
    async def scene(clock: VirtualClock) -> None:
        policy = EvictionPolicy([Threshold("imagefs.available", "1Gi", 0.0, "500Mi")])
        node = with_pods(Node(clock, policy, layout), "disk")
        most = (1600 if enough else 1400) * MI  # with what is to be reclaimed at the least
        signal = {"imagefs": 700} | ({"containerfs": 3000} if layout is DEDICATED else {})
        node.frees = lambda: node.signals.update({"imagefs.available": Signal(most, 16 * GI)})
        assert await node.after(0, **signal) == ["DiskPressure"]
        assert node.freed == list(reclaims_for("imagefs.available", layout))
        assert Reclaim.IMAGES in node.freed
        assert len(node.ended) == (0 if enough else 1)
        assert node.told == ["Warning EvictionThresholdMet Attempting to reclaim ephemeral-storage"]

    over_time(scene)


def test_no_images_go_for_a_disk_that_they_are_not_on() -> None:
    async def scene(clock: VirtualClock) -> None:
        node = with_pods(Node(clock, EvictionPolicy([Threshold("nodefs.available", "1Gi")]), DEDICATED), "disk")
        assert await node.after(0, nodefs=700) == ["DiskPressure"]
        assert node.freed == []
        assert len(node.ended) == 1

    over_time(scene)


def test_what_is_reclaimed_at_the_least() -> None:
    async def scene(clock: VirtualClock) -> None:
        node = with_pods(Node(clock, EvictionPolicy([Threshold("memory.available", "1Gi", 0.0, "500Mi")])), "memory")
        assert await node.after(0, memory=500) == ["MemoryPressure"]
        assert await node.after(60, memory=1200) == ["MemoryPressure"]
        assert [name for name, *_ in node.ended] == EXPECTED_ORDER[:2]  # the threshold is no longer crossed, and yet
        assert await node.after(60, memory=2000) == ["MemoryPressure"]
        assert await node.after(250, memory=2000) == []
        assert len(node.ended) == 2
        assert await node.after(60, memory=1200) == []  # nothing is left of what was

    over_time(scene)


def test_critical_pods_stay() -> None:
    async def scene(clock: VirtualClock) -> None:
        node = with_pods(Node(clock, EvictionPolicy([Threshold("memory.available", "1Gi")])), "memory")
        for each in node.pods[:-1]:
            each["spec"]["priority"] = 2_000_000_000
        assert await node.after(0, memory=500) == ["MemoryPressure"]
        assert await node.after(10, memory=500) == ["MemoryPressure"]
        assert [name for name, *_ in node.ended] == ["low-priority-low-usage"]

    over_time(scene)


def test_a_pod_over_its_limit_goes_alone_and_the_condition_is_true_all_the_same() -> None:
    async def scene(clock: VirtualClock) -> None:
        node = with_pods(Node(clock, EvictionPolicy([Threshold("memory.available", "1Gi")])), "memory")
        big = node.pods[3]
        big["spec"]["volumes"][0]["emptyDir"] = {"sizeLimit": "1Mi"}
        node.uses["uid-high-priority-high-usage"] = disk_use(volume=2 * MI)
        assert await node.after(0, memory=500) == ["MemoryPressure"]
        assert node.ended == [("high-priority-high-usage", 1, "emptydirfs.limit")]

    over_time(scene)


@pytest.mark.parametrize(("layout", "expected"), [(ONE, 1), (DEDICATED, 0), (SPLIT, 0)])
def test_layers_count_for_a_containers_limit_unless_they_are_elsewhere(layout: DiskLayout, expected: int) -> None:
    async def scene(clock: VirtualClock) -> None:
        node = Node(clock, EvictionPolicy(), layout)
        limits = {"limits": {"ephemeral-storage": "2Mi"}}
        node.pods.append(pod("p", container("main", resources=limits), container("free")))
        node.uses["uid-p"] = PodUse({"main": ContainerUse(0, DiskUse(3 * MI, 1), DiskUse(MI, 1))})
        node.pods[0]["spec"]["containers"][1]["resources"] = {"limits": {"ephemeral-storage": "1Gi"}}
        await node.after(0)
        assert len(node.ended) == expected

    over_time(scene)
