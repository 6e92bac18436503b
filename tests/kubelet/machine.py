"""A containerd of a test's own: started privately, and taken away with everything that it made."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tiphys.cluster.containerd import (
    Containerd,
    PodNetwork,
    cgroup_version,
    remove_leftovers,
    settings_for_machine,
    systemd_answers,
)
from tiphys.cluster.images import demo_image, import_built, pause_image
from tiphys.cluster.processes import traces
from tiphys.kubelet.cgroups.names import slice_of
from tiphys.kubelet.runtime.cri import CRIClient


def skip_without_containerd() -> None:
    if os.geteuid() != 0 or shutil.which("containerd") is None or shutil.which("ctr") is None:
        pytest.skip("needs root and containerd")


@asynccontextmanager
async def private_containerd(folder: Path, bridge: str, subnet: str, cgroup: str) -> AsyncIterator[CRIClient]:
    """``bridge`` is at most 15 letters; ``cgroup`` is the parent of all cgroups that the test makes."""
    config = settings_for_machine(folder / "data", folder / "run")
    network = PodNetwork((subnet,), bridge=bridge, name=bridge, data_dir=str(folder / "ipam"))
    daemon = Containerd(config, network, folder / "containerd.log")
    await daemon.start()
    assert f"{bridge}_masquerade" in nft_tables()
    client = CRIClient(str(config.socket))
    try:
        for image in (pause_image(), demo_image()):
            await import_built(config.socket, image)
        yield client
    finally:
        ours = traces(config.state, folder / "kubelet")
        for sandbox in await client.list_sandboxes():
            await client.stop_sandbox(sandbox.id)
            await client.remove_sandbox(sandbox.id)
        await client.close()
        await daemon.stop()
        assert remove_leftovers(config, network, ours) == []
        remove_cgroups(cgroup)
    assert f"{bridge}_masquerade" not in nft_tables()
    assert bridge not in dict(map(reversed, socket.if_nameindex())), f"the bridge {bridge} is still there"


def systemd_makes_cgroups() -> bool:
    """Whether a private containerd leaves cgroups to systemd, so that its kubelet has to as well."""
    return systemd_answers() and cgroup_version() == 2


def nft_tables() -> str:
    return subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True).stdout


def cgroups(pattern: str) -> list[Path]:
    """What matches below each hierarchy's top. Other clusters' are never walked: theirs may go away meanwhile."""
    top = Path("/sys/fs/cgroup")
    return [
        path for tree in (top, *(entry for entry in top.iterdir() if entry.is_dir())) for path in tree.glob(pattern)
    ]


def remove_cgroups(name: str) -> None:
    top = Path("/sys/fs/cgroup")
    if systemd_makes_cgroups():
        subprocess.run(["systemctl", "stop", slice_of((name.strip("/"),))], check=True, capture_output=True)
    for hierarchy in (top, *(entry for entry in top.iterdir() if entry.is_dir())):
        place = hierarchy / name.strip("/")
        if place.is_dir():
            for inner in sorted((p for p in place.rglob("*") if p.is_dir()), reverse=True):
                inner.rmdir()
            place.rmdir()
