"""Ending what a node's pods left running, whoever started it and whatever it is called.

A process is ours if it works in a bundle of our containerd (a shim, or the runtime while it makes a container), or is
in the cgroup of one of our pods. If containerd was killed while it made a container, nobody else knows of them.
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import re
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")
_POD = re.compile(r"^(.*-)?pod(?=.)")
_CNI_RESULTS = Path("/var/lib/cni/results")
_TASKS = "io.containerd.runtime.v2.task"


@dataclass(frozen=True, slots=True)
class Traces:
    """What distinguishes our processes from others': where bundles are, and the names of our pods' cgroups."""

    bundles: Path
    owners: frozenset[str]
    """Ids of containers and uids of pods: what cgroups are named after."""
    sockets: frozenset[Path] = frozenset()
    """At which shims answer: outside of containerd's own folders, for each container."""


def traces(state: Path, kubelet_dir: Path) -> Traces:
    """Those of the containerd with this state and the kubelet with this folder. Read before either is cleaned up."""
    bundles = state / _TASKS
    ids = {bundle.name for bundle in bundles.glob("*/*")}
    uids = {pod.name for pod in (kubelet_dir / "pods").glob("*")} | set(_uids(bundles))
    return Traces(bundles, frozenset(ids | uids), frozenset(_sockets(bundles)))


def _sockets(bundles: Path) -> Iterator[Path]:
    for file in bundles.glob("*/*/address"):
        with contextlib.suppress(OSError, UnicodeDecodeError):
            if (address := file.read_text()).startswith("unix:///"):
                yield Path(address.removeprefix("unix://"))


def _uids(bundles: Path) -> Iterator[str]:
    """Of the pods that bundles belong to, as far as their configuration has been written."""
    for file in bundles.glob("*/*/config.json"):
        with contextlib.suppress(OSError, ValueError):
            annotations = json.loads(file.read_bytes()).get("annotations") or {}
            if uid := annotations.get("io.kubernetes.cri.sandbox-uid"):
                yield uid


def remove_files(ours: Traces, results: Path = _CNI_RESULTS) -> list[str]:
    """Remove what ended shims and CNI leave outside of containerd's folders: sockets, and the results of their pods.

    Returns what could not be removed. Folders that are empty afterwards go too: their programs make them again.
    """
    problems = []
    of_pods = [file for owner in ours.owners for file in results.glob(f"*-{glob.escape(owner)}-*")]
    for file in (*filter(Path.is_socket, ours.sockets), *of_pods):
        try:
            file.unlink(missing_ok=True)
        except OSError as error:
            problems.append(f"cannot remove {file}: {error.strerror}")
    for folder in (*{socket.parent for socket in ours.sockets}, results, results.parent):
        with contextlib.suppress(OSError):  # others' files are in it
            folder.rmdir()
    return problems


def end_processes(ours: Traces, seconds: float = 10) -> list[int]:
    """Kill what is left, until nothing is: a runtime may start a process while it ends. Returns what does not end."""
    deadline = time.monotonic() + seconds
    while left := processes(ours):
        if time.monotonic() > deadline:
            return sorted(left)
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)
    return []


def processes(ours: Traces) -> set[int]:
    """Those of our pods and of what makes their containers; one that has ended and is not reaped yet does not count."""
    return {pid for pid in {*_in_bundles(ours.bundles), *_in_cgroups(ours.owners)} if not _ended(pid)}


def _in_bundles(bundles: Path) -> Iterator[int]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if (entry / "cwd").readlink().is_relative_to(bundles):
                    yield int(entry.name)


def _in_cgroups(owners: frozenset[str]) -> Iterator[int]:
    for folder in cgroups_of(owners):
        with contextlib.suppress(OSError):
            # 0 stands for a process of another process namespace
            yield from (pid for pid in map(int, (folder / "cgroup.procs").read_text().split()) if pid)


def cgroups_of(owners: frozenset[str]) -> Iterator[Path]:
    """The cgroups of all hierarchies that are named after one of ``owners``, and those below them."""
    for folder, inner, _ in os.walk(_CGROUPS):
        ours = [name for name in inner if owner_of(name) in owners]
        inner[:] = [name for name in inner if name not in ours]
        for name in ours:
            yield from (Path(below) for below, _, _ in os.walk(os.path.join(folder, name)))


def another_kubelet_runs(processes: Path = Path("/proc")) -> bool:
    """Whether any kubelet runs on this machine, ours or upstream's: it may make a pod's cgroup at any time."""
    return any(_is_kubelet(entry) for entry in processes.iterdir() if entry.name.isdigit())


def _is_kubelet(process: Path) -> bool:
    """By its title, its program, or as a command of ours."""
    try:
        words = (process / "cmdline").read_bytes().rstrip(b"\0").split(b"\0")
    except OSError:
        return False
    return words[0] == b"tiphys: kubelet" or os.path.basename(words[0]) == b"kubelet" or b"kubelet" in words[1:3]


def owner_of(cgroup: str) -> str:
    """The container's id or the pod's uid in a cgroup's name, with both drivers: ``pod<uid>``, ``<id>``,
    ``kubepods-burstable-pod<uid with _>.slice``, ``cri-containerd-<id>.scope``."""
    plain = cgroup.removesuffix(".slice").removesuffix(".scope").removeprefix("cri-containerd-").replace("_", "-")
    return _POD.sub("", plain)


def _ended(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return True
    return state in "ZX"
