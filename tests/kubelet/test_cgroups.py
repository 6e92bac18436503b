"""Cgroups of the kernel's: what a killed runtime leaves in a pod's is ended with it."""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path

import pytest

from tests.kubelet.world import World, play
from tiphys.kubelet.node.cgroups import Cgroups

MOUNT = Path("/sys/fs/cgroup")


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
        cgroups = Cgroups()
        with contextlib.suppress(OSError):  # it is still busy, as the process ends, and is removed the next time
            cgroups.remove(parent)
        assert process.wait(10) == -9
        cgroups.remove(parent)
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
        reporter.starting(Cgroups(tmp_path))

    (tmp_path / "world").mkdir()
    play(tmp_path / "world", scene)
    assert [reason for reason in seen if reason == "CgroupV1"] == told
