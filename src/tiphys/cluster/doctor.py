"""What `tiphys doctor` looks at: whether this host can carry a node, and what to mend. It changes nothing.

What keeps `tiphys up` from starting are the checks of ``machine``; here they stand beside what a node can start with
and suffers from later: swap, a full disk, a clock that nobody sets, missing kernel modules, low limits. The kernel's
files are read below ``root``, so that tests can show any host. Sources: proc(5), adjtimex(2), and
https://kubernetes.io/docs/setup/production-environment/container-runtimes/
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tiphys.cluster import machine
from tiphys.cluster.machine import Problem
from tiphys.cluster.settings import Settings

LEAST_FREE_SHARE, LEAST_FREE_INODES = 0.15, 0.05
"""The kubelet evicts pods below 10 % of the disk and 5 % of its inodes, and removes images from 15 % on."""
LEAST_MEMORY = 1 << 30
LEAST_INSTANCES, LEAST_WATCHES = 128, 65536
_TIME_ERROR = 5
_MODULES = {
    "overlay": "sys/module/overlay",
    "nf_tables": "sys/module/nf_tables",
    "nf_conntrack": "proc/sys/net/netfilter/nf_conntrack_max",
    "bridge": "sys/module/bridge",
    "veth": "sys/module/veth",
}


@dataclass(frozen=True, slots=True)
class KernelView:
    """A host as its kernel shows it below ``root``, with what system calls say of it."""

    root: Path = Path("/")
    clock_is_set: Callable[[], bool] = lambda: clock_is_set()

    def text(self, path: str) -> str:
        """A file's text, empty if it does not exist."""
        try:
            return (self.root / path).read_text()
        except OSError:
            return ""


@dataclass(frozen=True, slots=True)
class Examination:
    """One check: its name, what keeps a node from starting, and what it suffers from later."""

    name: str
    errors: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()


def examine(settings: Settings, host: KernelView, *, running: bool) -> list[Examination]:
    """All checks. ``running``: the cluster runs, so that it is itself who holds the ports."""
    hard = () if running else tuple(machine.problems(settings))
    return [
        Examination("what `tiphys up` needs", errors=hard, warnings=tuple(machine.remarks(settings))),
        Examination("kernel modules", warnings=tuple(modules(host))),
        Examination("forwarding", warnings=tuple(forwarding(host))),
        Examination("swap", warnings=tuple(swap(host))),
        Examination("memory", warnings=tuple(memory(host))),
        Examination("disk", warnings=tuple(disk(settings.data_dir))),
        Examination("clock", warnings=tuple(clock(host))),
        Examination("limits", warnings=tuple(limits(host))),
    ]


def modules(host: KernelView) -> Iterator[Problem]:
    """Those that are neither loaded nor built in. A kernel without its list of what is built in cannot be asked."""
    built_in = host.text(f"lib/modules/{os.uname().release}/modules.builtin")
    if not built_in:
        return
    filesystems = host.text("proc/filesystems").split()
    missing = [
        name
        for name, place in _MODULES.items()
        if not (host.root / place).exists() and f"/{name}.ko" not in built_in and name not in filesystems
    ]
    if missing:
        names = " ".join(missing)
        yield Problem(
            f"These kernel modules are neither loaded nor built in: {names}.",
            f"Load them: modprobe -a {names}; and list them in /etc/modules-load.d/tiphys.conf to keep them.",
        )


def forwarding(host: KernelView) -> Iterator[Problem]:
    if host.text("proc/sys/net/ipv4/ip_forward").strip() == "0":
        yield Problem(
            "The kernel does not forward IPv4 packets (net.ipv4.ip_forward is 0) until the first pod's bridge is made.",
            "Have it so from the start: sysctl -w net.ipv4.ip_forward=1, and the same line in /etc/sysctl.d.",
        )


def swap(host: KernelView) -> Iterator[Problem]:
    devices = [line.split()[0] for line in host.text("proc/swaps").splitlines()[1:] if line.strip()]
    if devices:
        yield Problem(
            f"Swap is on ({', '.join(devices)}): pods may then be slow in place of being evicted for want of memory.",
            "Turn it off: swapoff -a, and remove it from /etc/fstab.",
        )


def memory(host: KernelView) -> Iterator[Problem]:
    for line in host.text("proc/meminfo").splitlines():
        if line.startswith("MemTotal:") and (total := int(line.split()[1]) << 10) < LEAST_MEMORY:
            yield Problem(
                f"The host has {total >> 20} MB of memory; a node with its control plane uses 400 MB before any pod.",
                "Give it 1 GB at least.",
            )


def disk(folder: Path) -> Iterator[Problem]:
    """Of the file system that the cluster's data is on."""
    state = os.statvfs(machine.existing_part(folder))
    if state.f_blocks and (free := state.f_bavail / state.f_blocks) < LEAST_FREE_SHARE:
        yield Problem(
            f"{free:.0%} of the disk with {folder} is free: images are removed below 15 %, pods evicted below 10 %.",
            "Make room on it, or choose another folder with --data-dir.",
        )
    if state.f_files and (free := state.f_favail / state.f_files) < LEAST_FREE_INODES:
        yield Problem(
            f"{free:.0%} of the inodes of the disk with {folder} are free; below 5 % pods are evicted.",
            "Remove small files from it, or choose another folder with --data-dir.",
        )


def clock(host: KernelView) -> Iterator[Problem]:
    if not host.clock_is_set():
        yield Problem(
            "Nobody keeps the clock: certificates and leases go by it, on every node by its own.",
            "Run a time service: apt-get install systemd-timesyncd (or chrony).",
        )


def limits(host: KernelView) -> Iterator[Problem]:
    for name, least in (("max_user_instances", LEAST_INSTANCES), ("max_user_watches", LEAST_WATCHES)):
        value = host.text(f"proc/sys/fs/inotify/{name}").strip()
        if value and int(value) < least:
            yield Problem(
                f"fs.inotify.{name} is {value}: containers that follow files use it up.",
                f"Raise it: sysctl -w fs.inotify.{name}={least * 8}, and the same line in /etc/sysctl.d.",
            )


def clock_is_set() -> bool:
    """Whether the kernel counts its clock as kept by somebody (adjtimex(2))."""
    state = ctypes.create_string_buffer(256)  # struct timex, all zero: only ask
    return int(ctypes.CDLL(None, use_errno=True).adjtimex(state)) != _TIME_ERROR
