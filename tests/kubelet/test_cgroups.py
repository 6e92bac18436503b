"""Cgroups of the kernel's: what a killed runtime leaves in a pod's is ended with it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.kubelet.systemd import make_cgroup
from tests.kubelet.world import World, container, play, pod
from tiphys.kubelet.cgroups.files import CgroupFiles
from tiphys.kubelet.cgroups.kills import MemoryKills, count_kills
from tiphys.kubelet.cgroups.limits import CgroupLimits, for_systemd, pod_limits, properties, total_limits
from tiphys.kubelet.cgroups.manager import MissingCgroup, PodCgroups
from tiphys.kubelet.cgroups.names import Name, of_all_pods, of_pod, of_uid, parse, path_of, place, slice_of
from tiphys.kubelet.config import KubeletConfig
from tiphys.kubelet.figures import KubeletFigures
from tiphys.kubelet.pod.observed import ObservedContainer
from tiphys.kubelet.pod.pods import Pod
from tiphys.kubelet.runtime.service import ContainerState
from tiphys.runtime.clock import VirtualClock, VirtualTimeLoop

MOUNT = Path("/sys/fs/cgroup")
_ALIKE = {"cpu": "1", "memory": "1Mi"}
BOTH = container("main", resources={"limits": _ALIKE, "requests": _ALIKE})


@pytest.mark.root
def test_a_process_that_nobody_knows_of_ends_with_its_pod() -> None:
    tops = [MOUNT] if (MOUNT / "cgroup.controllers").exists() else [MOUNT / "pids"]
    parent = f"/tiphys-test-{os.getpid()}"
    folder = tops[0] / parent.strip("/")
    inner = folder / "container"
    inner.mkdir(parents=True)
    process = subprocess.Popen(["sleep", "1000"])
    try:
        (inner / "cgroup.procs").write_text(str(process.pid))
        cgroups = CgroupFiles()
        with contextlib.suppress(OSError):  # it is still busy, as the process ends, and is removed the next time
            cgroups.remove_path(parent)
        assert process.wait(10) == -9
        cgroups.remove_path(parent)
        assert not folder.exists()
    finally:
        process.kill()
        process.wait()
        for left in (inner, folder):
            if left.exists():
                left.rmdir()


@pytest.mark.parametrize(("files", "told"), [(("cgroup.controllers",), []), ((), ["CgroupV1"])])
def test_a_node_with_old_cgroups_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: tuple[str, ...], told: list[str]
) -> None:
    for name in files:
        (tmp_path / name).touch()

    seen: list[str] = []

    async def scene(world: World) -> None:
        reporter = world.kubelet._reporter
        monkeypatch.setattr(reporter, "event", lambda type_, reason, text: seen.append(reason))
        reporter.starting(unified=CgroupFiles(tmp_path).unified)

    (tmp_path / "world").mkdir()
    play(tmp_path / "world", scene)
    assert [reason for reason in seen if reason == "CgroupV1"] == told


def test_names_of_cgroups() -> None:
    top = of_all_pods("/second/node-1/")
    burstable, guaranteed = pod("web", container("a", resources={"requests": {"cpu": "1"}})), pod("web", BOTH)
    uid = burstable["metadata"]["uid"]
    assert path_of(of_pod(top, burstable)) == f"/second/node-1/kubepods/burstable/pod{uid}"
    assert slice_of(of_pod(top, guaranteed)) == f"second-node_1-kubepods-pod{uid.replace('-', '_')}.slice"
    assert place(slice_of(top)) == "second.slice/second-node_1.slice/second-node_1-kubepods.slice"
    assert of_pod(top, burstable) in of_uid(top, uid)
    assert of_all_pods("/") == of_all_pods("") == ("kubepods",)


@pytest.mark.parametrize("version", [1, 2])
def test_cgroups_of_pods(tmp_path: Path, version: int) -> None:
    limits = pod_limits(pod("web", BOTH))
    if version == 2:
        make_cgroup(tmp_path)
        make_cgroup(folder := tmp_path / "podx")
        files = CgroupFiles(tmp_path)
        assert not files.has("/podx", limits)
        files.write("/podx", limits)
        assert (folder / "cpu.max").read_text() == "100000 100000"
        assert (folder / "cpu.weight").read_text() == "39"
        assert (folder / "memory.max").read_text() == str(1 << 20)
        assert files.has("/podx", limits)
        assert not files.has("/pody", limits)
        return
    for controller in ("cpu", "memory"):
        (tmp_path / controller / "kubepods" / "podx").mkdir(parents=True)
    (tmp_path / "cpu/kubepods/podx/cpu.cfs_quota_us").write_text("")
    files = CgroupFiles(tmp_path)
    files.write("/kubepods/podx", limits)
    assert (tmp_path / "cpu/kubepods/podx/cpu.cfs_quota_us").read_text() == "100000"
    (tmp_path / "cpu/kubepods/podx/cpu.cfs_quota_us").unlink()
    files.remove_path("/kubepods/podx")
    assert not (tmp_path / "cpu/kubepods/podx").exists()


def test_a_pod_with_an_unlimited_container_has_no_limit() -> None:
    limited = container("a", resources={"limits": {"memory": "1Mi"}})
    assert pod_limits(pod("web", limited)).memory == 1 << 20
    assert pod_limits(pod("web", limited, container("b"))).memory == 0
    assert pod_limits(pod("web", container("b"))) == CgroupLimits(shares=2)


def test_all_pods_get_what_is_not_reserved() -> None:
    limits = total_limits(4, 8 << 30, 32768, {"cpu": "500m", "memory": "1Gi", "pid": "1000"})
    assert limits == CgroupLimits(shares=3584, memory=7 << 30, pids=31768)


@pytest.mark.parametrize("unified", [False, True])
def test_the_files_of_all_pods_together(tmp_path: Path, unified: bool) -> None:
    if unified:
        for folder in (tmp_path, tmp_path / "kubepods"):
            folder.mkdir(exist_ok=True)
            (folder / "cgroup.controllers").write_text("cpu memory\n")
            (folder / "cgroup.subtree_control").write_text("cpu memory\n")
        files = {"kubepods/cpu.weight": "79", "kubepods/memory.max": "8192"}
    else:
        files = {"cpu/kubepods/cpu.shares": "2048", "memory/kubepods/memory.limit_in_bytes": "8192"}
    for path in files:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("max\n")
    CgroupFiles(tmp_path).write("kubepods", total_limits(2, 8192, 100, {}))
    assert {path: (tmp_path / path).read_text().strip() for path in files} == files


def test_the_systems_own_cgroups_are_limited_if_they_are_there() -> None:
    config = KubeletConfig(
        "n", system_reserved={"cpu": "1", "memory": "1Gi"}, kube_reserved={"cpu": "500m", "memory": "9"}
    )
    config.enforced = ("pods", "system-reserved", "kube-reserved-compressible")
    config.system_cgroup, config.kube_cgroup = "/system.slice", "/runtime/kube_daemons"
    assert config.problems() == []
    limits = {"system reserved": CgroupLimits(1024, memory=1 << 30), "kube reserved": CgroupLimits(512)}
    assert {one.words: one.limits for one in config.reserved_cgroups} == limits
    assert parse("/system.slice", slices=True) == ("system",)
    assert parse("/kube.slice/kube-own_programs.slice", slices=True) == ("kube", "own-programs")
    assert parse("/runtime/kube_daemons", slices=False) == ("runtime", "kube_daemons")

    driver, events = Recorded(), []
    driver.there = {("system",)}

    async def scene(clock: VirtualClock) -> None:
        def tree() -> PodCgroups:
            return PodCgroups(
                driver,
                ("kubepods",),
                total=CgroupLimits(shares=4096),
                reserved=[(parse(one.cgroup, slices=True), one) for one in config.reserved_cgroups],
                pod_pids=-1,
                active=list,
                event=lambda _, reason, message: events.append(message),
                figures=KubeletFigures(clock),
            )

        with pytest.raises(MissingCgroup, match="Failed to enforce Kube Reserved Cgroup Limits on"):
            await tree().begin()
        driver.there.add(("kube-daemons",))
        await tree().begin()

    loop = VirtualTimeLoop()
    loop.run_until_complete(scene(VirtualClock(loop)))
    loop.close()
    assert driver.limits[("system",)] == limits["system reserved"]
    assert driver.limits[("kube-daemons",)] == limits["kube reserved"]
    assert events[-1] == "Updated limits on kube reserved cgroup /runtime/kube_daemons"


@pytest.mark.parametrize(
    ("enforced", "more", "complaint"),
    [
        (("pods", "pods"), {}, 'duplicated enforcements "pods"'),
        (("pods", "none"), {}, "may not contain additional enforcements"),
        (("pods",), {"cgroups_per_qos": False}, "cgroupsPerQOS (--cgroups-per-qos) must be set to true"),
        (("system-reserved",), {}, "systemReservedCgroup (--system-reserved-cgroup) must be specified"),
        (("kube-reserved-compressible",), {}, "kubeReservedCgroup (--kube-reserved-cgroup) must be specified"),
        (("kube-reserved", "kube-reserved-compressible"), {"kube_cgroup": "k"}, "cannot be specified together"),
        (("everything",), {}, 'option "everything" specified for enforceNodeAllocatable'),
        (("pods",), {"system_cgroup": "s", "reserved_cpus": "0"}, "can't use reservedSystemCPUs (--reserved-cpus)"),
    ],
)
def test_what_cannot_be_enforced_is_said(enforced: tuple[str, ...], more: dict[str, Any], complaint: str) -> None:
    [problem] = KubeletConfig("n", enforced=enforced, **more).problems()
    assert problem.startswith("invalid configuration: ")
    assert complaint in problem


def test_limits_as_properties_of_systemds_units() -> None:
    limits = CgroupLimits(shares=1024, quota=12_345, memory=5000, pids=7)
    assert for_systemd(limits).quota == 13_000
    assert [(name, value) for name, _, value in properties(for_systemd(limits), unified=True)] == [
        ("CPUWeight", 39),
        ("CPUQuotaPerSecUSec", 130_000),
        ("MemoryMax", 5000),
        ("TasksMax", 7),
    ]
    assert [name for name, _, _ in properties(limits, unified=False)][::2] == ["CPUShares", "MemoryLimit"]
    assert properties(CgroupLimits(), unified=True) == []


class Recorded:
    """A driver that keeps what it is told; ``problem`` is what it fails with."""

    def __init__(self) -> None:
        self.limits: dict[Name, CgroupLimits] = {}
        self.problem: OSError | None = None
        self.there: set[Name] = set()

    def has_cgroup(self, name: Name) -> bool:
        return name in self.there

    async def apply(self, name: Name, limits: CgroupLimits) -> None:
        if self.problem is not None:
            raise self.problem
        self.limits[name] = limits

    async def remove(self, name: Name) -> None:
        self.limits.pop(name, None)

    async def close(self) -> None: ...


def test_classes_of_pods_have_the_shares_of_their_pods() -> None:
    driver = Recorded()
    active: list[Pod] = []
    events: list[tuple[str, str]] = []
    requests = {"requests": {"cpu": "1500m"}}

    async def scene(clock: VirtualClock) -> None:
        cgroups = PodCgroups(
            driver,
            ("kubepods",),
            total=CgroupLimits(shares=4096),
            pod_pids=10,
            active=lambda: active,
            event=lambda _, reason, message: events.append((reason, message)),
            figures=KubeletFigures(clock),
        )
        driver.problem = OSError(5, "no bus")
        await cgroups.begin()
        driver.problem = None
        running = asyncio.create_task(cgroups.run())
        await clock.sleep(1)
        assert driver.limits[("kubepods",)] == CgroupLimits(shares=4096)
        assert driver.limits[("kubepods", "burstable")].shares == driver.limits[("kubepods", "besteffort")].shares == 2
        for name in ("a", "b"):
            active.append(pod(name, container("main", resources=requests)))
            await cgroups.ensure(active[-1])
        assert driver.limits[of_pod(("kubepods",), active[0])] == CgroupLimits(shares=1536, pids=10)
        await clock.sleep(1)
        assert driver.limits[("kubepods", "burstable")].shares == 3072
        await cgroups.remove(active.pop())
        await clock.sleep(1)
        assert driver.limits[("kubepods", "burstable")].shares == 1536
        del driver.limits[("kubepods", "burstable")]
        await clock.sleep(61)
        assert driver.limits[("kubepods", "burstable")].shares == 1536
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    loop = VirtualTimeLoop()
    loop.run_until_complete(scene(VirtualClock(loop)))
    loop.close()
    assert [reason for reason, _ in events] == ["FailedNodeAllocatableEnforcement", "NodeAllocatableEnforced"]
    assert events[0][1] == "Failed to update Node Allocatable Limits /kubepods: [Errno 5] no bus"


def run(identity: str, reason: str, code: int = 137, finished_at: float = 1.0) -> ObservedContainer:
    state = ContainerState.EXITED if reason else ContainerState.RUNNING
    return ObservedContainer(identity, "main", state, 0.0, finished_at=finished_at, exit_code=code, reason=reason)


@pytest.mark.parametrize(
    ("rounds", "reasons"),
    [
        # The runtime has not heard of the kill; the kernel has.
        ([(1, [run("a", "Error")])], ["OOMKilled"]),
        ([(0, [run("a", "Error")])], ["Error"]),
        ([(1, [run("a", "Error", code=1)])], ["Error"]),
        ([(None, [run("a", "Error")])], ["Error"]),
        # It has, and another of the pod's was killed otherwise; or the other way around.
        ([(1, [run("a", "OOMKilled"), run("b", "Error")])], ["OOMKilled", "Error"]),
        ([(2, [run("a", "OOMKilled"), run("b", "Error")])], ["OOMKilled", "OOMKilled"]),
        # A count that was explained before explains nothing more, and what was said stays.
        ([(1, [run("a", "Error")]), (1, [run("b", "Error"), run("a", "Error")])], ["Error", "OOMKilled"]),
        ([(1, [run("a", "OOMKilled")]), (2, [run("b", "Error"), run("a", "OOMKilled")])], ["OOMKilled", "OOMKilled"]),
        ([(0, [run("a", "")]), (1, [run("a", "Error")]), (None, [run("a", "Error")])], ["OOMKilled"]),
        # One of two: the first to end.
        ([(1, [run("a", "Error", finished_at=2.0), run("b", "Error")])], ["Error", "OOMKilled"]),
    ],
)
def test_a_container_that_the_kernel_killed_for_memory_is_known_by_its_pods_count(
    rounds: list[tuple[int | None, list[ObservedContainer]]], reasons: list[str]
) -> None:
    count: list[int | None] = []
    kills = MemoryKills(lambda uid: count[-1])
    for number, containers in rounds:
        count.append(number)
        shown = kills.explain("uid", containers)
    assert [container.reason for container in shown] == reasons


def test_the_kernels_count_of_kills(tmp_path: Path) -> None:
    (tmp_path / "pod").mkdir()
    assert count_kills("/pod", tmp_path) is None
    (tmp_path / "pod/memory.events").write_text("low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 0\n")
    assert count_kills("/pod", tmp_path) == 2
