"""How many volumes there are, and what mounting them took, as the Kubernetes mixin asks for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kubelet.world import World, container, play, pod
from tiphys.kubelet.volumes.figures import VolumeFigures, plugin_of

KIND = {"actual": "actual_state_of_world", "desired": "desired_state_of_world"}


def volumes(figures: VolumeFigures) -> dict[tuple[str, str], float]:
    (total,) = [family for family in figures.collect() if family.name == "volume_manager_total_volumes"]
    return {(sample.labels["plugin_name"], sample.labels["state"]): sample.value for sample in total.samples}


def operations(figures: VolumeFigures) -> dict[tuple[str, ...], float]:
    (family,) = [family for family in figures.collect() if family.name == "storage_operation_duration_seconds"]
    samples = [sample for sample in family.samples if sample.name.endswith("_count")]
    return {tuple(sample.labels.values()): sample.value for sample in samples}


def test_mounted_volumes_are_wanted_and_there_until_the_pod_is_gone(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        sources = [{"name": "e", "emptyDir": {}}, {"name": "h", "hostPath": {"path": str(tmp_path)}}]
        world.add(pod("web", container("c"), volumes=sources))
        await world.until(lambda: world.phase("web") == "Running")
        figures = world.kubelet.volumes.figures
        assert figures in world.kubelet.collectors
        plugins = ("kubernetes.io/empty-dir", "kubernetes.io/host-path")
        assert volumes(figures) == {(plugin, state): 1 for plugin in plugins for state in KIND.values()}
        assert operations(figures)["kubernetes.io/empty-dir", "volume_mount", "success", "false"] >= 1
        world.api.delete_pod("web")
        await world.until(lambda: not world.api.has_pod("web"))
        await world.until(lambda: volumes(figures) == {})

    play(tmp_path, scene)


def test_a_volume_that_cannot_be_mounted_is_wanted_only(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        world.add(pod("web", container("c"), volumes=[{"name": "s", "secret": {"secretName": "gone"}}]))
        figures = world.kubelet.volumes.figures
        failed = ("kubernetes.io/secret", "volume_mount", "fail-unknown", "false")
        await world.until(lambda: bool(operations(figures).get(failed)))
        assert volumes(figures) == {("kubernetes.io/secret", KIND["desired"]): 1}

    play(tmp_path, scene)


@pytest.mark.parametrize(
    ("source", "plugin"),
    [
        ({"configMap": {}}, "kubernetes.io/configmap"),
        ({"csi": {"driver": "local.tiphys"}}, "kubernetes.io/csi:local.tiphys"),
        ({"local": {"path": "/x"}}, "kubernetes.io/local-volume"),
        ({"name": "nothing said"}, "kubernetes.io/empty-dir"),
        ({"persistentVolumeClaim": {"claimName": "c"}}, ""),
        ({"ephemeral": {}}, ""),
    ],
)
def test_plugins_have_upstreams_names(source: dict[str, object], plugin: str) -> None:
    assert plugin_of(source) == plugin
