"""What reset removes of the machine: cgroups, sockets and results, and never what another cluster has there."""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path

import pytest

from tiphys.cluster import pods, processes, reset
from tiphys.cluster.processes import Traces
from tiphys.cluster.settings import Settings
from tiphys.kubelet.runtime.cri import CRIClient
from tiphys.kubelet.runtime.service import RuntimeFailure, Sandbox


@pytest.fixture
def hierarchy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folders as the kernel has them, without its files: an empty one can be removed, another one cannot."""
    for name in ("kubepods/burstable/podours/abc", "kubepods/besteffort/podtheirs/def", "cpu/kubepods/podours"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.setattr(processes, "_CGROUPS", tmp_path)
    return tmp_path


def left(mount: Path) -> list[str]:
    return sorted(str(path.relative_to(mount)) for path in mount.rglob("*") if not any(path.iterdir()))


@pytest.mark.parametrize(
    ("another", "expected"),
    [
        (True, ["cpu/kubepods", "kubepods/besteffort/podtheirs/def", "kubepods/burstable"]),
        (False, ["cpu"]),
    ],
)
def test_only_our_pods_cgroups_are_removed_while_another_kubelet_runs(
    hierarchy: Path, monkeypatch: pytest.MonkeyPatch, another: bool, expected: list[str]
) -> None:
    monkeypatch.setattr(reset, "another_kubelet_runs", lambda: another)
    reset._remove_cgroups(Traces(hierarchy, frozenset({"ours"})), hierarchy)
    assert left(hierarchy) == expected


def test_a_cgroup_that_another_cluster_removes_meanwhile_does_not_matter(
    hierarchy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At every folder that the walk lists, all that it has not looked at yet is gone."""
    monkeypatch.setattr(reset, "another_kubelet_runs", lambda: False)
    listed, scandir = [], os.scandir

    def scan(folder: str) -> object:
        listed.append(folder)
        if len(listed) == 3:
            shutil.rmtree(hierarchy / "kubepods", ignore_errors=True)
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", scan)
    reset._remove_cgroups(Traces(hierarchy, frozenset({"ours"})), hierarchy)
    monkeypatch.undo()
    assert len(listed) > 3


def test_kubelets_are_known_by_their_command_lines(tmp_path: Path) -> None:
    lines = {1: b"/sbin/init\0", 2: b"vim\0kubelet.conf\0", 3: b""}
    for pid, line in lines.items():
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "cmdline").write_bytes(line)
    (tmp_path / "self").mkdir()
    assert not processes.another_kubelet_runs(tmp_path)
    for line in (b"tiphys: kubelet\0\0\0", b"/usr/bin/kubelet\0--v=2\0", b"python3\0/usr/bin/tiphys\0kubelet\0"):
        (tmp_path / "3" / "cmdline").write_bytes(line)
        assert processes.another_kubelet_runs(tmp_path), line


def test_sockets_of_ended_shims_and_results_of_cni_go(tmp_path: Path) -> None:
    bundle = tmp_path / "run" / "io.containerd.runtime.v2.task" / "k8s.io" / "abc"
    bundle.mkdir(parents=True)
    sockets, results = tmp_path / "s", tmp_path / "cni" / "results"
    sockets.mkdir()
    results.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as shim:
        shim.bind(str(sockets / "1"))
    (bundle / "address").write_text(f"unix://{sockets / '1'}")
    (results / "tiphys-abc-eth0").touch()
    (results / "tiphys-other-eth0").touch()
    ours = processes.traces(tmp_path / "run", tmp_path / "kubelet")
    assert processes.remove_files(ours, results) == []
    assert not sockets.exists()
    assert [file.name for file in results.iterdir()] == ["tiphys-other-eth0"]
    (results / "tiphys-other-eth0").unlink()
    assert processes.remove_files(ours, results) == []
    assert not results.parent.exists()


def test_only_sockets_are_removed_as_sockets(tmp_path: Path) -> None:
    bundle = tmp_path / "run" / "io.containerd.runtime.v2.task" / "k8s.io" / "abc"
    bundle.mkdir(parents=True)
    (tmp_path / "file").touch()
    (bundle / "address").write_text(f"unix://{tmp_path / 'file'}")
    assert processes.remove_files(processes.traces(tmp_path / "run", tmp_path), tmp_path / "none" / "results") == []
    assert (tmp_path / "file").exists()


def test_a_containerd_whose_cri_still_starts_is_waited_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    answers: list[RuntimeFailure | None] = [RuntimeFailure("server is not initialized yet")] * 2 + [None]

    async def list_sandboxes(_: CRIClient, pod_uid: str = "") -> list[Sandbox]:
        if (failure := answers.pop(0)) is not None:
            raise failure
        return []

    monkeypatch.setattr(CRIClient, "list_sandboxes", list_sandboxes)
    pods.stop_pods(Settings(tmp_path))
    assert answers == []
    answers.append(RuntimeFailure("it never starts"))
    monkeypatch.setattr(pods, "START_SECONDS", -1.0)
    with pytest.raises(RuntimeFailure, match="it never starts"):
        pods.stop_pods(Settings(tmp_path))
