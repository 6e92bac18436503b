"""containerd is killed while it makes a container: what that leaves running is ended by what `tiphys reset` does."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import time
import uuid
from pathlib import Path

import pytest

from tests.kubelet.machine import cgroups, remove_cgroups, skip_without_containerd
from tiphys.cluster.containerd import Containerd, remove_leftovers, settings_for_machine
from tiphys.cluster.images import import_built, pause_image
from tiphys.cluster.processes import Traces, end_processes, owner_of, processes, traces
from tiphys.kubelet.runtime.cri import CRIClient
from tiphys.kubelet.runtime.service import RuntimeFailure

UID = str(uuid.uuid4())
TOP = f"tiphys-killed-{os.getpid()}"
SANDBOX = {
    "metadata": {"name": "half-made", "namespace": "default", "uid": UID, "attempt": 0},
    "linux": {
        "cgroup_parent": f"/{TOP}/pod{UID}",
        "security_context": {"namespace_options": {"network": 2}},  # the node's own
    },
}


@pytest.mark.e2e
@pytest.mark.root
def test_nothing_runs_on_after_containerd_was_killed_while_it_made_a_container(tmp_path: Path) -> None:
    skip_without_containerd()
    (tmp_path / "kubelet" / "pods" / UID).mkdir(parents=True)
    try:
        ours = asyncio.run(_leave_half_a_container(tmp_path))
        assert remove_leftovers(settings_for_machine(tmp_path / "data", tmp_path / "run"), None, ours) == []
        assert processes(ours) == set()
    finally:
        remove_cgroups(TOP)


async def _leave_half_a_container(folder: Path) -> Traces:
    config = settings_for_machine(folder / "data", folder / "run")
    daemon = Containerd(config, None, folder / "containerd.log")
    await daemon.start()
    assert daemon.process is not None
    client = CRIClient(str(config.socket))
    try:
        await import_built(config.socket, pause_image())
        making = asyncio.ensure_future(client.run_sandbox(SANDBOX))
        ours = traces(config.state, folder / "kubelet")
        held = await _hold_what_makes_it(ours)
        daemon.process.kill()
        await daemon.process.wait()
        with contextlib.suppress(RuntimeFailure):
            await making
    finally:
        await client.close()
    left = processes(ours)
    assert held, "something was being made"
    assert held < left, "those that were held would have run on, and so would their shim"
    return ours


async def _hold_what_makes_it(ours: Traces) -> set[int]:
    """Stop the runtime's processes as soon as one is in the pod's cgroup; those that were stopped."""
    deadline = time.monotonic() + 20
    while not (inside := _in_the_pods_cgroup()):
        assert time.monotonic() < deadline, "no process was put in the pod's cgroup"
        await asyncio.sleep(0)
    held = set()
    for pid in inside:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
            held.add(pid)
    return held


def _in_the_pods_cgroup() -> set[int]:
    files = cgroups(f"{TOP}/pod{UID}/*/cgroup.procs")
    return {int(pid) for file in files for pid in file.read_text().split()}


def test_a_process_is_ours_by_where_it_works(tmp_path: Path) -> None:
    bundles = tmp_path / "bundles"
    bundle = bundles / "k8s.io" / "one"
    bundle.mkdir(parents=True)
    process = subprocess.Popen(["sleep", "1000"], cwd=bundle)
    other = subprocess.Popen(["sleep", "1000"], cwd=tmp_path)
    try:
        ours = Traces(bundles, frozenset())
        assert processes(ours) == {process.pid}
        assert end_processes(ours) == []
        assert process.wait(10) == -signal.SIGKILL
        assert other.poll() is None
    finally:
        for each in (process, other):
            each.kill()
            each.wait()


@pytest.mark.parametrize(
    ("cgroup", "owner"),
    [
        (f"pod{UID}", UID),
        (f"kubepods-besteffort-pod{UID.replace('-', '_')}.slice", UID),
        (f"kubepods-pod{UID.replace('-', '_')}.slice", UID),
        ("cri-containerd-4f2c.scope", "4f2c"),
        ("4f2c", "4f2c"),
        ("kubepods", "kubepods"),
        ("burstable", "burstable"),
        ("kubepods.slice", "kubepods"),
    ],
    ids=("pod", "systemd", "guaranteed", "scope", "container", "top", "class", "slice"),  # the uid is each run's own
)
def test_whose_a_cgroup_is(cgroup: str, owner: str) -> None:
    assert owner_of(cgroup) == owner
