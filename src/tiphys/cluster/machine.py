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
from datetime import UTC, datetime
from pathlib import Path

from tiphys.addons.ingress.ports import HTTP_PORT, HTTPS_PORT
from tiphys.cluster.settings import Settings, SettingsError
from tiphys.wire.hostaddress import host_address, routed_address

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

LONGEST_SOCKET_PATH = 104
"""Bytes: containerd refuses longer ones; the kernel's limit is 107."""
LONGEST_NODE_NAME = 64 - len("system:node:")
"""A certificate's common name has at most 64 characters (RFC 5280, ub-common-name)."""
_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_NODE_NAME = re.compile(rf"{_LABEL}(\.{_LABEL})*")

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
            Problem(
                "Tiphys runs containers, and needs root for it, if only root of a user namespace.",
                "Run it as root, for example: sudo tiphys up; or as `tiphys up` does for a user: docs/rootless.md",
            )
        ]
    checks = (_node_name(settings), _paths(settings), _executable(settings), _clock(settings))
    return [
        *_missing_programs(settings),
        *_cgroups(),
        *_ports(settings),
        *(problem for check in checks for problem in check),
    ]


def _missing_programs(settings: Settings) -> Iterator[Problem]:
    needed = PACKAGES | ({"haproxy": "haproxy"} if _runs_haproxy(settings) else {})
    missing = {package for program, package in needed.items() if shutil.which(program) is None}
    if any(not any((folder / plugin).exists() for folder in CNI_DIRECTORIES) for plugin in CNI_PLUGINS):
        missing.add("containernetworking-plugins")
    if missing:
        names = " ".join(sorted(missing))
        yield Problem(f"Programs of these packages are missing: {names}.", f"On Debian: apt-get install {names}")


def _runs_haproxy(settings: Settings) -> bool:
    """For Ingresses, or as the load balancers of this machine as a cloud."""
    if "ingress" in settings.addons.split(","):
        return True
    return bool(settings.cloud_provider) and settings.load_balancer_pool not in ("node", "none")


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
        settings.metrics_port: ("the metrics server", "--metrics-port"),
    }
    if "ingress" in settings.addons.split(","):
        uses |= dict.fromkeys((HTTP_PORT, HTTPS_PORT), ("the ingress proxy", ""))
    for port, (who, flag) in uses.items():
        if not _port_is_free(port):
            yield Problem(
                f"Port {port}, which {who} needs, is taken{_holder(port)}.",
                "Stop what holds it (another cluster?)" + (f", or choose another port with {flag}." if flag else "."),
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
    """`` by NAME (process N)``, if the listener can be found in /proc."""
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
    paths = set()
    with contextlib.suppress(OSError):
        for link in (process / "fd").iterdir():
            with contextlib.suppress(OSError):
                paths.add(os.readlink(link))
    return paths


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


def _node_name(settings: Settings) -> Iterator[Problem]:
    name = settings.node_name
    remedy = "Choose a name for the node with --node-name."
    if _NODE_NAME.fullmatch(name) is None:
        yield Problem(f"The node's name {name!r} is no DNS name of lower-case letters, digits, '-' and '.'.", remedy)
    elif len(name) > LONGEST_NODE_NAME:
        yield Problem(
            f"The node's name has {len(name)} characters; a certificate has room for {LONGEST_NODE_NAME}.", remedy
        )


def _paths(settings: Settings) -> Iterator[Problem]:
    longest = os.fspath(settings.containerd_socket) + ".ttrpc"
    if len(os.fsencode(longest)) > LONGEST_SOCKET_PATH:
        yield Problem(
            f"The path of a socket, {longest}, is longer than {LONGEST_SOCKET_PATH} bytes.",
            "Choose a shorter folder with --data-dir, or one for the sockets alone with --run-dir.",
        )


def _executable(settings: Settings) -> Iterator[Problem]:
    """Images are in the data folder. Below the other one, often a /run without exec, they are mounts of their own."""
    if os.statvfs(existing_part(settings.data_dir)).f_flag & os.ST_NOEXEC:
        yield Problem(
            f"{settings.data_dir} is on a file system that is mounted noexec, and containers run programs from it.",
            "Choose another folder with --data-dir, or mount it so: mount -o remount,exec MOUNTPOINT",
        )


def _clock(settings: Settings) -> Iterator[Problem]:
    """Of a cluster that was made before: its certificates must be good at the time that this machine thinks it is."""
    if not (settings.pki / "ca.crt").exists():
        return
    from cryptography import x509

    try:
        authority = x509.load_pem_x509_certificate((settings.pki / "ca.crt").read_bytes())
    except (OSError, ValueError):  # one that is damaged is named when it is used
        return
    now, start, end = datetime.now(UTC), authority.not_valid_before_utc, authority.not_valid_after_utc
    if now < start:
        yield Problem(
            f"This machine's clock says {now:%Y-%m-%d %H:%M} UTC; the cluster's certificates start at"
            f" {start:%Y-%m-%d %H:%M} UTC.",
            "Set the clock, for example: timedatectl set-ntp true",
        )
    elif now > end:
        yield Problem(
            f"The cluster's certificate authority ended at {end:%Y-%m-%d %H:%M} UTC; this machine's clock says"
            f" {now:%Y-%m-%d %H:%M} UTC.",
            "If the clock is wrong, set it; if not, recreate the cluster: tiphys reset",
        )


def remarks(settings: Settings) -> list[Problem]:
    """What a cluster can live with, and its user should know."""
    notes = []
    if (host := socket.gethostname()) != settings.node_name and settings.node_name == node_name():
        notes.append(
            Problem(
                f"This host's name {host!r} is no DNS name, so the node is called {settings.node_name}.",
                "Another name can be chosen with --node-name.",
            )
        )
    if _is_overlay(settings.data_dir):
        notes.append(
            Problem(
                f"{settings.data_dir} is on overlayfs, which cannot hold another: each container copies its image.",
                "A folder on a disk is faster; choose one with --data-dir.",
            )
        )
    return notes


def _is_overlay(folder: Path) -> bool:
    """Whether the mount that holds a folder is an overlayfs, as in a container."""
    device = os.stat(existing_part(folder)).st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in Path("/proc/self/mountinfo").read_text(errors="replace").splitlines():
        words = line.split()
        if words[2] == wanted:
            return words[words.index("-") + 1] == "overlay"
    return False


def existing_part(path: Path) -> Path:
    """The folder itself, or the nearest one above it that is there."""
    return next(part for part in (path, *path.parents) if part.exists())


def address_of(version: int) -> str | None:
    """The machine's address of one IP family (4 or 6), if packets to the outside have one."""
    return routed_address(socket.AF_INET6 if version == 6 else socket.AF_INET)


def node_address() -> str:
    """The address that the machine's IPv4 default route uses.

    Raises ``SettingsError`` if none exists: which of several addresses is the node's, its user has to say then.
    """
    if address := routed_address():
        return address
    if address := host_address():
        raise SettingsError(
            "this machine has no IPv4 default route, which would say which address is the node's; add one"
            f" (ip route add default via GATEWAY), or name an address, for example --node-ip {address}"
        )
    raise SettingsError(
        "this machine has no IPv4 address but loopback; set up an interface, or name an address with --node-ip"
    )


def node_name() -> str:
    """The host's name as a node's name: lower case, and only what a DNS name may have."""
    labels = (re.sub(r"[^a-z0-9-]+", "-", label).strip("-") for label in socket.gethostname().lower().split("."))
    return ".".join(label for label in labels if label) or "node"
