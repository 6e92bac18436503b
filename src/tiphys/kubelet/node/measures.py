"""What the machine, its cgroups and its processes use at this moment. Reads /proc and /sys; changes nothing.

Source: proc(5), the kernel's cgroup-v1 and cgroup-v2 documents, and Documentation/accounting/psi.rst.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tiphys.kubelet.node.machine import meminfo
from tiphys.kubelet.runtime.service import InterfaceStats

_TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_CGROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class Use:
    """Processor time in nanoseconds, and memory in bytes, of some processes together."""

    cpu_ns: int = 0
    memory_usage: int = 0
    working_set: int = 0
    rss: int = 0
    page_faults: int = 0
    major_page_faults: int = 0
    swap: int = 0
    limit: int = 0
    """Bytes of memory that may be used; 0 for as many as the machine has."""


@dataclass(frozen=True, slots=True)
class Pressure:
    """How long tasks waited for a resource: average shares of the time in percent, and microseconds in all."""

    total: int = 0
    avg10: float = 0.0
    avg60: float = 0.0
    avg300: float = 0.0


Pressures = Mapping[str, tuple[Pressure, Pressure]]
"""(some, full) by resource; empty on a kernel that does not count them."""


@dataclass(frozen=True, slots=True)
class Machine:
    """The whole node."""

    booted_at: float
    use: Use
    memory_capacity: int
    swap_total: int
    interfaces: tuple[InterfaceStats, ...]
    default_interface: str
    max_pid: int
    processes: int
    pressure: Pressures = field(default_factory=dict)


def read_node(now: float) -> Machine:
    """``now`` is the time in Unix seconds."""
    interfaces = read_interfaces(Path("/proc/net/dev").read_text())
    memory = meminfo()
    return Machine(
        booted_at=now - time.clock_gettime(time.CLOCK_BOOTTIME),
        use=node_use(memory),
        memory_capacity=memory["MemTotal"],
        swap_total=memory.get("SwapTotal", 0),
        interfaces=interfaces,
        default_interface=_default_interface(interfaces),
        max_pid=int(Path("/proc/sys/kernel/pid_max").read_text()),
        processes=int(Path("/proc/loadavg").read_text().split()[3].partition("/")[2]),
        pressure=_pressures(Path("/proc/pressure")),
    )


def node_use(memory: Mapping[str, int]) -> Use:
    """The working set is what is in use and could not be dropped at once: without files that nobody touched lately."""
    events = dict(line.split() for line in Path("/proc/vmstat").read_text().splitlines())
    used = memory["MemTotal"] - memory["MemFree"]
    return Use(
        cpu_ns=machine_cpu_ns(),
        memory_usage=used,
        working_set=max(0, used - memory.get("Inactive(file)", 0)),
        rss=memory.get("AnonPages", 0),
        page_faults=int(events.get("pgfault", 0)),
        major_page_faults=int(events.get("pgmajfault", 0)),
        swap=memory.get("SwapTotal", 0) - memory.get("SwapFree", 0),
    )


def machine_cpu_ns() -> int:
    """Processor time that the machine has spent on anything but waiting, in nanoseconds."""
    words = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    user, nice, system, _, _, irq, soft, *rest = (int(word) for word in words)
    steal = rest[0] if rest else 0
    return (user + nice + system + irq + soft + steal) * _TICK_NS


def read_interfaces(text: str) -> tuple[InterfaceStats, ...]:
    """The interfaces of /proc/net/dev that lead off the node: not loopback, nor the node's ends of pods' pairs."""
    interfaces = []
    for line in text.splitlines()[2:]:
        name, _, rest = line.partition(":")
        figures = [int(word) for word in rest.split()]
        if name.strip() != "lo" and not name.strip().startswith("veth"):
            interfaces.append(InterfaceStats(name.strip(), figures[0], figures[2], figures[8], figures[10]))
    return tuple(interfaces)


def _default_interface(interfaces: tuple[InterfaceStats, ...]) -> str:
    for line in Path("/proc/net/route").read_text().splitlines()[1:]:
        words = line.split()
        if words[1] == "00000000":
            return words[0]
    return interfaces[0].name if interfaces else ""


def _pressures(folder: Path, suffix: str = "") -> Pressures:
    pressures = {}
    for resource in ("cpu", "memory", "io"):
        try:
            pressures[resource] = parse_pressure((folder / f"{resource}{suffix}").read_text())
        except OSError:  # not built in, or turned off
            continue
    return pressures


def cgroup_pressures(name: str, mount: Path = _CGROUPS) -> Pressures:
    """How long the tasks of a cgroup and of all below it waited. Version 1 of cgroups does not count that."""
    unified = name and (mount / "cgroup.controllers").exists()
    return _pressures(mount / name.strip("/"), ".pressure") if unified else {}


def parse_pressure(text: str) -> tuple[Pressure, Pressure]:
    """(some, full); a line that is missing counts as nothing."""
    lines = {}
    for line in text.splitlines():
        kind, *words = line.split()
        figures = dict(word.split("=") for word in words)
        averages = (float(figures[name]) for name in ("avg10", "avg60", "avg300"))
        lines[kind] = Pressure(int(figures["total"]), *averages)
    return lines.get("some", Pressure()), lines.get("full", Pressure())


def cgroup_use(name: str, mount: Path = _CGROUPS) -> Use | None:
    """What a cgroup, ``kubepods`` say, uses with all below it; None if there is no such cgroup."""
    try:
        return _v2(mount / name) if (mount / "cgroup.controllers").exists() else _v1(mount, name)
    except OSError:
        return None


def cgroup_processes(name: str, mount: Path = _CGROUPS) -> int | None:
    """How many processes and threads run in a cgroup and below it; None if nothing counts them."""
    unified = (mount / "cgroup.controllers").exists()
    try:
        return int(((mount if unified else mount / "pids") / name.strip("/") / "pids.current").read_text())
    except OSError:
        return None


def _v2(folder: Path) -> Use:
    cpu, memory = _figures(folder / "cpu.stat"), _figures(folder / "memory.stat")
    usage = int((folder / "memory.current").read_text())
    limit = (folder / "memory.max").read_text().strip()
    swap = folder / "memory.swap.current"
    return Use(
        cpu_ns=cpu["usage_usec"] * 1000,
        memory_usage=usage,
        working_set=max(0, usage - memory.get("inactive_file", 0)),
        rss=memory.get("anon", 0),
        page_faults=memory.get("pgfault", 0),
        major_page_faults=memory.get("pgmajfault", 0),
        swap=int(swap.read_text()) if swap.exists() else 0,
        limit=0 if limit == "max" else int(limit),
    )


def _v1(mount: Path, name: str) -> Use:
    folder = mount / "memory" / name
    memory = _figures(folder / "memory.stat")
    usage, limit = (int((folder / f"memory.{what}_in_bytes").read_text()) for what in ("usage", "limit"))
    return Use(
        cpu_ns=int((mount / "cpuacct" / name / "cpuacct.usage").read_text()),
        memory_usage=usage,
        working_set=max(0, usage - memory.get("total_inactive_file", 0)),
        rss=memory.get("total_rss", 0),
        page_faults=memory.get("total_pgfault", 0),
        major_page_faults=memory.get("total_pgmajfault", 0),
        swap=memory.get("total_swap", 0),
        limit=limit if limit < 1 << 60 else 0,
    )


def _figures(path: Path) -> dict[str, int]:
    return {name: int(figure) for name, figure in (line.split() for line in path.read_text().splitlines())}


def process_use(pid: int) -> tuple[float, Use] | None:
    """When a process was started (seconds after boot), and what it uses; None if it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
        resident = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
    except OSError:
        return None
    words = text.rpartition(")")[2].split()
    minor, major, user, system, started = (int(words[index]) for index in (7, 9, 11, 12, 19))
    use = Use((user + system) * _TICK_NS, resident, resident, resident, minor + major, major)
    return started * _TICK_NS / 1e9, use


def pid_behind(path: str) -> int | None:
    """The process that listens on a Unix socket; None if nothing does."""
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(1)
        try:
            peer.connect(path)
            credentials = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        except OSError:
            return None
    return int(struct.unpack("3i", credentials)[0]) or None
