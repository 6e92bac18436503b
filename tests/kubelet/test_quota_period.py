"""Over which time limits of processors are counted, and whether they are at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kubelet.world import World, container, play, pod
from tiphys.kubelet.cgroups.limits import CgroupLimits, pod_limits, properties, version_1, version_2
from tiphys.kubelet.command import configuration, parser
from tiphys.kubelet.config import KubeletConfig
from tiphys.kubelet.configz import describe
from tiphys.kubelet.container.resources import linux_resources, quota
from tiphys.runtime.component import CannotStart

OFF = "--feature-gates=CustomCPUCFSQuotaPeriod=false"
HALF = container("main", resources={"limits": {"cpu": "500m"}, "requests": {"cpu": "500m"}})


@pytest.mark.parametrize(
    ("limit", "period", "wanted"),
    [
        (0, 100_000, 0),
        (5, 100_000, 1000),
        (9, 100_000, 1000),
        (10, 100_000, 1000),
        (200, 100_000, 20_000),
        (500, 100_000, 50_000),
        (1500, 100_000, 150_000),
        (0, 5000, 0),
        (200, 5000, 1000),
        (500, 5000, 2500),
        (1500, 5000, 7500),
        (1000, 10_000, 10_000),
    ],
)
def test_a_quota(limit: int, period: int, wanted: int) -> None:
    assert quota(limit, period) == wanted


def test_containers_and_pods() -> None:
    linux = linux_resources(pod("p", HALF), HALF, 1 << 30, period=10_000)
    assert (linux["cpu_quota"], linux["cpu_period"]) == (5000, 10_000)
    assert not {"cpu_quota", "cpu_period"} & linux_resources(pod("p", HALF), HALF, 1 << 30, period=0).keys()
    limits = pod_limits(pod("p", HALF), 10_000)
    assert limits == CgroupLimits(shares=512, quota=5000, period=10_000)
    assert version_2(limits)["cpu.max"] == "5000 10000"
    assert (version_1(limits)["cpu.cfs_period_us"], version_1(limits)["cpu.cfs_quota_us"]) == ("10000", "5000")
    named = {name: value for name, _, value in properties(limits, unified=True)}
    assert (named["CPUQuotaPerSecUSec"], named["CPUQuotaPeriodUSec"]) == (500_000, 10_000)
    assert pod_limits(pod("p", HALF), 0).quota == 0


def test_the_flag_and_its_gate() -> None:
    def read(*words: str) -> KubeletConfig:
        return configuration(parser().parse(["--kubeconfig=k", *words]))[0]

    assert read("--cpu-cfs-quota-period=5ms").cpu_period == 5000
    assert describe(read("--cpu-cfs-quota-period=5ms"))["cpuCFSQuotaPeriod"] == "5ms"
    assert read(OFF, "--cpu-cfs-quota-period=100ms").cpu_period == 100_000
    with pytest.raises(CannotStart) as caught:
        read(OFF, "--cpu-cfs-quota-period=5ms")
    about = "invalid configuration: cpuCFSQuotaPeriod (--cpu-cfs-quota-period)"
    assert str(caught.value) == f"{about} 5ms requires feature gate CustomCPUCFSQuotaPeriod"
    for text, shown in (("500us", "500µs"), ("2s", "2s")):
        with pytest.raises(CannotStart) as caught:
            read(f"--cpu-cfs-quota-period={text}")
        assert str(caught.value) == f"{about} {shown} must be between 1ms and 1sec, inclusive"


def test_what_the_runtime_is_given(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        world.add(pod("web", HALF))
        await world.until(lambda: world.ready("web"))
        settings = world.kubelet.settings
        assert settings.cpu_period == (0 if not world.kubelet.config.cpu_cfs_quota else 20_000)

    def custom(config: KubeletConfig) -> None:
        config.cpu_period = 20_000

    def unlimited(config: KubeletConfig) -> None:
        config.cpu_cfs_quota = False

    play(tmp_path / "1", scene, adjust=custom)
    play(tmp_path / "2", scene, adjust=unlimited)


def test_a_user_namespace_is_refused_as_upstream_does(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        world.add(pod("web", hostUsers=False))
        text = (
            "Failed to create pod sandbox: can't set `spec.hostUsers: false`, runtime does not support user namespaces"
        )
        await world.until(lambda: ("FailedCreatePodSandBox", text) in world.api.events())
        assert await world.runtime.list_sandboxes() == []
        world.add(pod("plain", hostUsers=True))
        await world.until(lambda: world.ready("plain"))

    play(tmp_path, scene)
