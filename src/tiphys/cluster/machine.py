"""What this machine is and has: its address, its name, its tools, and what would stand in a cluster's way."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tiphys.cluster.settings import Settings, SettingsError
from tiphys.wire.hostaddress import host_address

PACKAGES: dict[str, str] = {
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "nft": "nftables",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "ip": "iproute2",
    "busybox": "busybox-static",
}
"""Programs that a node runs, each with the Debian package that brings it."""

CNI_PLUGINS = ("bridge", "host-local", "loopback", "portmap")
CNI_DIRECTORIES = (Path("/opt/cni/bin"), Path("/usr/lib/cni"))


@dataclass(frozen=True, slots=True)
class Problem:
    """What is missing or in the way, and how to mend it."""

    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.what}\n    {self.remedy}"


def problems(settings: Settings) -> list[Problem]:
    """Everything that would keep ``up`` from working, all at once, so that it is mended in one go."""
    if os.geteuid() != 0:
        return [
            Problem("Tiphys runs containers, and needs root for it.", "Run it as root, for example: sudo tiphys up")
        ]
    return [*_missing_programs(), *_cgroups(), *_ports(settings)]


def _missing_programs() -> Iterator[Problem]:
    missing = {package for program, package in PACKAGES.items() if shutil.which(program) is None}
    if any(not any((folder / plugin).exists() for folder in CNI_DIRECTORIES) for plugin in CNI_PLUGINS):
        missing.add("containernetworking-plugins")
    if missing:
        names = " ".join(sorted(missing))
        yield Problem(f"Programs of these packages are missing: {names}.", f"On Debian: apt-get install {names}")


def _cgroups() -> Iterator[Problem]:
    root = Path("/sys/fs/cgroup")
    if (root / "cgroup.controllers").exists():
        return
    needed = [name for name in ("cpu", "memory", "pids") if not (root / name).is_dir()]
    if needed:
        yield Problem(
            f"The cgroup controllers {', '.join(needed)} are not mounted under {root}.",
            f"Mount the unified hierarchy: mount -t cgroup2 none {root}",
        )


def _ports(settings: Settings) -> Iterator[Problem]:
    uses = {
        settings.port: ("the API server", "--port"),
        settings.kubelet_port: ("the kubelet", "--kubelet-port"),
        settings.etcd_port: ("the store", "--etcd-port"),
    }
    for port, (who, flag) in uses.items():
        if not _port_is_free(port):
            yield Problem(
                f"Port {port}, which {who} needs, is taken{_holder(port)}.",
                f"Stop what holds it (another cluster?), or choose another port with {flag}.",
            )


def _port_is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("0.0.0.0", port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise
    return True


def _holder(port: int) -> str:
    """`` by NAME (process N)``, where the listener can be found in /proc."""
    inode = _listener_inode(port)
    if inode is None:
        return ""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        if f"socket:[{inode}]" in _open_files(entry):
            return f" by {(entry / 'comm').read_text().strip()} (process {entry.name})"
    return ""


def _open_files(process: Path) -> set[str]:
    """What a process' descriptors point to, as far as they are still there."""
    found = set()
    with contextlib.suppress(OSError):
        for link in (process / "fd").iterdir():
            with contextlib.suppress(OSError):
                found.add(os.readlink(link))
    return found


def _listener_inode(port: int) -> str | None:
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text().splitlines()[1:]
        except FileNotFoundError:
            continue
        for line in lines:
            parts = line.split()
            if parts[3] == "0A" and int(parts[1].rsplit(":", 1)[1], 16) == port:
                return parts[9]
    return None


def node_address() -> str:
    """The address that the machine's default route uses, or that of its first interface that is up.

    Raises ``SettingsError`` where there is none but loopback.
    """
    if address := host_address():
        return address
    raise SettingsError("this machine has no address but loopback; set up an interface, or name one with --node-ip")


def node_name() -> str:
    """The host's name as a node's name: lower case, and only what a DNS name may have."""
    name = re.sub(r"[^a-z0-9.-]+", "-", socket.gethostname().lower()).strip("-.")
    return name or "node"
