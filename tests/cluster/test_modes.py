"""The modes of the files that the CIS benchmark names in its sections 1.1 and 4.1."""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path

from tiphys.cli.up import prepare
from tiphys.cluster.containerd import write_atomically
from tiphys.cluster.settings import Settings
from tiphys.runtime.clock import SystemClock
from tiphys.store.sqlite import SQLiteBackend

KUBECONFIGS = {"admin.conf", "controller-manager.conf", "scheduler.conf", "kubelet.conf", "kube-proxy.conf"}


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_everything_that_up_writes_is_its_owners_alone(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data", run_dir=tmp_path / "run", node_name="n1", node_ip="10.1.2.3")
    before = os.umask(0)  # a lax one must not show
    try:
        prepare(settings)
    finally:
        os.umask(before)
    assert mode(settings.data_dir) == 0o700
    files = [path for path in settings.data_dir.rglob("*") if path.is_file()]
    assert {path.name for path in files} >= KUBECONFIGS  # 1.1.13 to 1.1.18, 4.1.3, 4.1.5
    assert {"ca.crt", "ca.key", "sa.key", "apiserver.crt", "server.key"} <= {
        path.name for path in files
    }  # 1.1.20 and 21
    assert {path for path in files if mode(path) != 0o600} == set()
    assert {path for path in files if path.stat().st_uid != os.geteuid()} == set()  # 1.1.14, 1.1.19


def test_the_network_of_containers_is_roots_alone(tmp_path: Path) -> None:
    path = tmp_path / "10-tiphys.conflist"  # 1.1.9
    path.write_text("old")
    path.chmod(0o644)
    write_atomically(path, "new")
    assert (path.read_text(), mode(path)) == ("new", 0o600)


def test_the_store_is_its_owners_alone(tmp_path: Path) -> None:
    folder = tmp_path / "etcd"  # 1.1.11

    async def write() -> set[int]:
        store = await SQLiteBackend.open(folder, SystemClock())
        modes = {mode(path) for path in folder.iterdir()}
        await store.close()
        return modes

    before = os.umask(0)
    try:
        modes = asyncio.run(write())
    finally:
        os.umask(before)
    assert (mode(folder), modes) == (0o700, {0o600})
