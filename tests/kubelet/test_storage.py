"""What pods store: how it is measured, what they may, and who goes that stores more."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from tests.kubelet.world import (
    World,
    container,
    play,
    pod,
    virtual_loop,
)
from tiphys.api.object import Object
from tiphys.kubelet import labels
from tiphys.kubelet.node.storage import (
    DiskUse,
    Filesystem,
    PodStorage,
    StorageMeter,
    VolumeUse,
    disk_use,
    measure_pod,
)
from tiphys.kubelet.node.storage_limits import ephemeral_use, exceeded, is_limited
from tiphys.kubelet.runtime.service import ContainerStats
from tiphys.kubelet.volumes.sizes import memory_size
from tiphys.runtime.clock import VirtualClock
from tiphys.runtime.system import mounts
from tiphys.runtime.system.folders import Folder
from tiphys.runtime.tasks import Runner

MIB = 1 << 20
_DISK = Filesystem(100 * MIB, 50 * MIB, 1000, 500)


def limited(limit: str, name: str = "main") -> Object:
    return container(name, resources={"limits": {"ephemeral-storage": limit}})


def stored(**volumes: int) -> PodStorage:
    return PodStorage({name: VolumeUse(DiskUse(used * MIB, 1), _DISK) for name, used in volumes.items()})


EMPTY = {"name": "e", "emptyDir": {}}
SIZED = {"name": "s", "emptyDir": {"sizeLimit": "2Mi"}}


@pytest.mark.parametrize(
    ("wanted", "storage", "layers", "answer"),
    [
        (pod("p", volumes=[SIZED]), stored(s=2), {}, ""),
        (pod("p", volumes=[SIZED]), stored(s=3), {}, 'Usage of EmptyDir volume "s" exceeds the limit "2Mi". '),
        (pod("p", volumes=[{"name": "s", "emptyDir": {"sizeLimit": "0"}}]), stored(s=3), {}, ""),
        (pod("p", volumes=[EMPTY]), stored(e=99), {}, ""),
        (
            pod("p", limited("2Mi"), volumes=[EMPTY]),
            stored(e=3),
            {},
            "Pod ephemeral local storage usage exceeds the total limit of containers 2Mi. ",
        ),
        (
            pod("p", limited("2Mi")),
            PodStorage(logs={"main": DiskUse(MIB, 1)}),
            {"main": DiskUse(2 * MIB, 1)},
            "Pod ephemeral local storage usage exceeds the total limit of containers 2Mi. ",
        ),
        (
            pod("p", limited("2Mi"), limited("9Mi", "other")),
            PodStorage(logs={"main": DiskUse(MIB, 1)}),
            {"main": DiskUse(2 * MIB, 1)},
            'Container main exceeded its local ephemeral storage limit "2Mi". ',
        ),
        (pod("p", limited("2Mi"), volumes=[{"name": "m", "emptyDir": {"medium": "Memory"}}]), stored(m=9), {}, ""),
        (pod("p", limited("2Mi"), volumes=[{"name": "h", "hostPath": {"path": "/"}}]), stored(h=9), {}, ""),
    ],
)
def test_limits(wanted: Object, storage: PodStorage, layers: dict[str, DiskUse], answer: str) -> None:
    excess = exceeded(wanted, storage, layers)
    assert (excess.message if excess else "") == answer


def test_only_pods_with_limits_are_measured() -> None:
    assert [is_limited(p) for p in (pod("p"), pod("p", volumes=[EMPTY]), pod("p", volumes=[SIZED]))] == [
        False,
        False,
        True,
    ]
    assert is_limited(pod("p", limited("1Mi")))


def test_files_are_counted_as_du_does(tmp_path: Path) -> None:
    folder = tmp_path / "kubelet" / "pods" / "uid-web" / "volumes" / "kubernetes.io~empty-dir" / "e"
    folder.mkdir(parents=True)
    (folder / "data").write_bytes(bytes(MIB))
    os.link(folder / "data", folder / "again")
    with (folder / "hole").open("wb") as file:
        file.truncate(1 << 40)
    (folder / "out").symlink_to("/usr")
    (folder / "in").mkdir()
    (folder / "in" / "data").write_bytes(bytes(MIB))
    log = tmp_path / "logs" / "default_web_uid-web" / "main"
    log.mkdir(parents=True)
    (log / "0.log").write_bytes(bytes(MIB))
    found = measure_pod(tmp_path / "kubelet", tmp_path / "logs", pod("web"), 7.0)
    assert found.volumes["e"].use.inodes == 6
    assert 2 * MIB <= found.volumes["e"].use.bytes < 2.1 * MIB
    assert found.volumes["e"].filesystem.capacity > found.volumes["e"].filesystem.available > 0
    assert MIB <= found.logs["main"].bytes < 1.1 * MIB
    web = pod("web", volumes=[{"name": "e", "emptyDir": {}}])
    assert 3 * MIB <= ephemeral_use(web, found, {}).bytes < 3.3 * MIB
    with Folder.at(folder) as opened:
        assert disk_use(opened) == found.volumes["e"].use


def test_what_takes_long_to_measure_is_measured_seldom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tiphys.kubelet.node import storage

    measured: list[float] = []

    with virtual_loop() as loop:
        clock = VirtualClock(loop)

        def slow(root: Path, logs: Path, wanted: Object, now: float, stopped: object) -> PodStorage:
            measured.append(now)
            loop._jumping.virtual_time += 3  # what the walk takes
            return PodStorage(measured_at=now)

        monkeypatch.setattr(storage, "measure_pod", slow)

        async def scene() -> None:
            async with Runner(clock, "test ") as runner:
                meter = StorageMeter(tmp_path, tmp_path, clock, runner)
                for _ in range(60):
                    assert "uid-web" in await meter.measure([pod("web")], 5, patience=9)
                    await asyncio.sleep(1)

        loop.run_until_complete(scene())
    assert measured == [0.0, 33.0]


def test_a_pod_that_stores_too_much_is_evicted(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        world.add(pod("disk", volumes=[SIZED]))
        world.add(pod("layer", limited("2Mi")))
        world.add(pod("modest", limited("9Mi"), volumes=[{"name": "s", "emptyDir": {"sizeLimit": "9Mi"}}]))
        await world.until(lambda: all(world.ready(name) for name in ("disk", "layer", "modest")), 5)

        async def stats() -> list[ContainerStats]:
            tags = {labels.POD_UID: "uid-layer", labels.CONTAINER_NAME: "main"}
            return [ContainerStats("id", "main", 1.0, 0, 0, 0, 0, 0, 0, 0, 6 * MIB, 1, tags)]

        world.runtime.list_container_stats = stats  # type: ignore[method-assign]
        for name in ("disk", "modest"):
            folder = tmp_path / "kubelet/pods" / f"uid-{name}" / "volumes/kubernetes.io~empty-dir/s"
            (folder / "x").write_bytes(bytes(6 * MIB))
        await world.until(lambda: world.phase("disk") == world.phase("layer") == "Failed", 30)
        assert world.status("disk")["message"] == 'Usage of EmptyDir volume "s" exceeds the limit "2Mi". '
        assert world.status("disk")["reason"] == world.status("layer")["reason"] == "Evicted"
        assert world.condition("disk", "DisruptionTarget") == ""  # it went for what it did
        await world.clock.sleep(60)
        assert world.ready("modest")

    play(tmp_path, scene)


@pytest.mark.parametrize(
    ("limits", "size_limit", "bytes_"),
    [
        ([None], None, 1000 * MIB),
        (["64Mi"], None, 64 * MIB),
        (["64Mi"], "1Gi", 64 * MIB),
        (["64Mi"], "8Mi", 8 * MIB),
        (["64Mi", None], None, 1000 * MIB),
        (["64Mi", "64Mi"], "0", 128 * MIB),
        (["2000Mi"], None, 1000 * MIB),
    ],
)
def test_volumes_in_memory_have_the_size_of_their_pod(
    limits: list[str | None], size_limit: str | None, bytes_: int
) -> None:
    containers = [
        container(f"c{number}", resources={"limits": {"memory": limit}} if limit else {})
        for number, limit in enumerate(limits)
    ]
    assert memory_size(pod("p", *containers), size_limit, "1000Mi") == bytes_


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts need root")
@pytest.mark.root
def test_a_volume_in_memory_is_no_larger_than_it_may(tmp_path: Path) -> None:
    (tmp_path / "v").mkdir()
    with Folder.at(tmp_path) as top:
        mounts.mount_tmpfs(top, "v", "size=65536")
    try:
        assert os.statvfs(tmp_path / "v").f_blocks * os.statvfs(tmp_path / "v").f_frsize == 65536
    finally:
        assert mounts.unmount_below(tmp_path) == []


def test_a_walk_ends_with_the_kubelet(tmp_path: Path) -> None:
    """A volume of any size: whoever measures it is told that nobody waits any more."""
    folder = tmp_path / "pods" / "uid-web" / "volumes" / "kubernetes.io~empty-dir" / "e"
    folder.mkdir(parents=True)
    for number in range(50):
        (folder / str(number)).touch()
    asked: list[int] = []

    def stopped() -> bool:
        asked.append(1)
        return len(asked) > 10

    with pytest.raises(OSError):
        measure_pod(tmp_path, tmp_path / "logs", pod("web"), 0.0, stopped)
    assert len(asked) == 11
