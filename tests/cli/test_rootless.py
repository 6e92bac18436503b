"""What a cluster of an ordinary user needs, and where its parts are; a whole one is in tests/e2e."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tiphys.cli import rootless
from tiphys.cluster import containerd, kubeconfig
from tiphys.runtime.system.usernamespace import cgroups_are_ours, is_rootless


def test_root_runs_its_commands_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert rootless.relay("up", []) is None


def test_a_user_without_a_cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TIPHYS_DATA_DIR", "")
    assert rootless.relay("status", []) is None  # which says that there is none
    assert os.environ["TIPHYS_DATA_DIR"] == f"{tmp_path}/.local/share/tiphys"
    assert rootless.relay("kubelet", []) is None
    assert rootless.relay("up", ["--help"]) is None
    monkeypatch.setattr(rootless, "missing", lambda: ["no ids"])
    with pytest.raises(SystemExit, match="this user cannot run a cluster yet:\n  - no ids"):
        rootless.relay("up", [])


def test_ids_that_a_user_has(tmp_path: Path) -> None:
    file = tmp_path / "subuid"
    assert rootless._subordinate(file, "anna") == 0
    file.write_text(f"anna:100000:1000\nbert:200000:65536\nanna:300000:65536\n{os.geteuid()}:1:1\nbroken\n")
    assert rootless._subordinate(file, "anna") == 66537


@pytest.mark.parametrize(
    ("words", "port"),
    [([], "6443"), (["--port", "7000"], "7000"), (["-q", "--port=7001"], "7001"), (["--port"], "6443")],
)
def test_the_port_that_the_machine_reaches(words: list[str], port: str) -> None:
    assert rootless._port(words) == port


def test_who_holds_the_namespaces(tmp_path: Path) -> None:
    """A process that is in this one's namespace has got the number of one that is gone: it is not to be ended."""
    assert rootless._inside(tmp_path) == 0
    (tmp_path / "kit").mkdir()
    holder = subprocess.Popen(["unshare", "--user", "sh", "-c", "echo; exec sleep 60"], stdout=subprocess.PIPE)
    try:
        assert holder.stdout is not None
        holder.stdout.readline()
        for text, pid in ((str(holder.pid), holder.pid), (str(os.getpid()), 0), ("", 0), ("999999999", 0)):
            (tmp_path / "kit/child_pid").write_text(text)
            assert rootless._inside(tmp_path) == pid
    finally:
        holder.kill()
        holder.communicate()


@pytest.mark.parametrize(
    ("ids", "rootless_"),
    [("         0          0 4294967295\n", False), ("0 1001 1\n1 100000 65536\n", True), ("0 0 65536\n", True)],
)
def test_whose_root_this_is(tmp_path: Path, ids: str, rootless_: bool) -> None:
    (tmp_path / "uid_map").write_text(ids)
    assert is_rootless(tmp_path / "uid_map") is rootless_
    assert not is_rootless(tmp_path / "none")


def test_whose_cgroups_these_are(tmp_path: Path) -> None:
    assert not cgroups_are_ours(tmp_path)
    for name in ("cpu", "memory", "pids"):
        (tmp_path / name).mkdir()
    assert cgroups_are_ours(tmp_path)
    (tmp_path / "cgroup.controllers").touch()
    assert cgroups_are_ours(tmp_path)


def test_folders_of_the_machine_that_are_links_become_ours(tmp_path: Path) -> None:
    machine, link, there = tmp_path / "nobody" / "cni", tmp_path / "cni", tmp_path / "run"
    link.symlink_to(machine)  # as a copy of /var/lib has it; what it leads to cannot be written
    there.mkdir()
    containerd.own_state((link, there))
    assert link.is_dir()
    assert not link.is_symlink()
    assert there.is_dir()
    with pytest.raises(containerd.ContainerdError, match=r"rootlesskit --copy-up="):
        containerd.own_state((tmp_path / "none" / "cni",))


def test_a_server_at_another_address() -> None:
    config = {"clusters": [{"name": "t", "cluster": {"server": "https://10.0.2.100:6443", "x": 1}}], "users": []}
    changed = kubeconfig.with_server(config, "https://127.0.0.1:6443")
    assert changed["clusters"] == [{"name": "t", "cluster": {"server": "https://127.0.0.1:6443", "x": 1}}]
    assert config["clusters"][0]["cluster"]["server"] == "https://10.0.2.100:6443"
