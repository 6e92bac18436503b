"""Facts of the machine: capacity, names, versions. Reads /proc and /etc; nothing here changes anything.

Source: https://kubernetes.io/docs/reference/node/node-status/
"""

from __future__ import annotations

import os
import platform
import shutil
import socket
from dataclasses import dataclass
from pathlib import Path

from tiphys.wire.hostaddress import host_address

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "ppc64le": "ppc64le", "s390x": "s390x"}


@dataclass(frozen=True, slots=True)
class MachineInfo:
    """What does not change while the kubelet runs. ``memory``, ``storage`` and ``swap`` in bytes."""

    cpus: int
    memory: int
    storage: int
    architecture: str
    machine_id: str
    system_uuid: str
    boot_id: str
    kernel_version: str
    os_image: str
    huge_pages: tuple[tuple[str, int], ...] = (("hugepages-1Gi", 0), ("hugepages-2Mi", 0))
    swap: int = 0
    limits_swap: bool = False
    """Whether cgroups can limit it."""


def read_machine(root: Path) -> MachineInfo:
    """``root`` is the kubelet's folder: its filesystem counts as the node's storage."""
    place = next(path for path in (root, *root.parents) if path.exists())
    return MachineInfo(
        cpus=len(os.sched_getaffinity(0)),
        memory=memory_total(),
        storage=shutil.disk_usage(place).total,
        architecture=_ARCHITECTURES.get(platform.machine(), platform.machine()),
        machine_id=_first_line("/etc/machine-id", "/var/lib/dbus/machine-id"),
        system_uuid=_first_line("/sys/class/dmi/id/product_uuid", "/etc/machine-id"),
        boot_id=_first_line("/proc/sys/kernel/random/boot_id"),
        kernel_version=platform.release(),
        os_image=_os_image(),
        huge_pages=_huge_pages(),
        swap=meminfo().get("SwapTotal", 0),
        limits_swap=limits_swap(),
    )


def _first_line(*paths: str) -> str:
    for path in paths:
        try:
            if text := Path(path).read_text().strip():
                return text
        except OSError:
            continue
    return ""


def meminfo() -> dict[str, int]:
    """/proc/meminfo in bytes."""
    memory = {}
    for line in Path("/proc/meminfo").read_text().splitlines():
        name, _, rest = line.partition(":")
        words = rest.split()
        memory[name] = int(words[0]) * (1024 if len(words) > 1 else 1)
    return memory


def memory_total() -> int:
    return meminfo()["MemTotal"]


def most_processes() -> int:
    """How many processes and threads the kernel allows."""
    return min(int(Path(f"/proc/sys/kernel/{name}").read_text()) for name in ("pid_max", "threads-max"))


def swaps_memory_volumes(swaps: Path = Path("/proc/swaps"), release: str = "") -> bool:
    """Whether what is written to memory may be swapped to a disk: there is swap, and tmpfs cannot do without (6.4)."""
    numbers = (release or platform.release()).split("-")[0].split(".")
    version = tuple(int(number) for number in numbers[:2] if number.isdigit())
    return len(swaps.read_text().splitlines()) > 1 and version < (6, 4)


def limits_swap(cgroups: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> bool:
    """Whether cgroups can limit swap. The top one of version 2 has no limits, so this process's is looked at."""
    if not (cgroups / "cgroup.controllers").exists():
        return (cgroups / "memory/memory.memsw.limit_in_bytes").exists()
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return False
    place = next((line.removeprefix("0::") for line in lines if line.startswith("0::")), "")
    return (cgroups / place.lstrip("/") / "memory.swap.max").exists()


def _os_image() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    except OSError:
        return "Unknown"


def _huge_pages() -> tuple[tuple[str, int], ...]:
    """Bytes of huge pages by resource name."""
    totals = {"hugepages-1Gi": 0, "hugepages-2Mi": 0}
    folder = Path("/sys/kernel/mm/hugepages")
    names = {1048576: "hugepages-1Gi", 2048: "hugepages-2Mi", 65536: "hugepages-64Mi", 32768: "hugepages-32Mi"}
    for entry in folder.glob("hugepages-*kB") if folder.is_dir() else ():
        size = int(entry.name.removeprefix("hugepages-").removesuffix("kB"))
        if size in names:
            count = int((entry / "nr_hugepages").read_text())
            totals[names[size]] = count * size * 1024
    return tuple(sorted(totals.items()))


def default_node_name() -> str:
    return socket.gethostname().strip().lower()


def default_node_ip() -> str:
    """The address that packets to the outside carry; loopback if there is no route."""
    return host_address() or "127.0.0.1"
