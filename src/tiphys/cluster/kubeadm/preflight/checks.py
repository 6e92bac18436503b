"""The checks, one function for each kind: a name, and what is wrong. They look at the machine and change nothing.

Source: https://kubernetes.io/docs/reference/setup-tools/kubeadm/implementation-details/#preflight-checks
"""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from tiphys.cluster.kubeadm.layout import HostRoot
from tiphys.kubelet.node.machine import memory_total
from tiphys.kubelet.runtime.cri import CRIClient
from tiphys.kubelet.runtime.service import RuntimeFailure

LEAST_CPUS, LEAST_MEGABYTES = 2, 1700
_CGROUP_CONTROLLERS = ("cpu", "memory", "pids")
_NEEDED, _USEFUL = ("mount", "ip"), ("nft", "iptables", "conntrack", "crictl")


@dataclass(slots=True)
class Findings:
    warnings: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Check:
    """One check. ``name`` is what --ignore-preflight-errors calls it."""

    name: str
    look: Callable[[], Awaitable[Findings]]


def check(name: str, look: Callable[[], Findings]) -> Check:
    """A check that only looks, and waits for nothing."""

    async def run() -> Findings:
        return look()

    return Check(name, run)


def privileged() -> Check:
    def look() -> Findings:
        return Findings() if os.geteuid() == 0 else Findings(errors=["user is not running as root; use sudo"])

    return check("IsPrivilegedUser", look)


def cpus() -> Check:
    def look() -> Findings:
        count = len(os.sched_getaffinity(0))
        few = f"the number of available CPUs {count} is less than the required {LEAST_CPUS}"
        return Findings(errors=[few] if count < LEAST_CPUS else [])

    return check("NumCPU", look)


def memory() -> Check:
    def look() -> Findings:
        megabytes = memory_total() >> 20
        little = f"the system RAM ({megabytes} MB) is less than the minimum {LEAST_MEGABYTES} MB"
        return Findings(errors=[little] if megabytes < LEAST_MEGABYTES else [])

    return check("Mem", look)


def port(number: int, *, expected: bool = False) -> Check:
    """Whether a port is free. ``expected``: what listens there is what an earlier run has started."""

    def look() -> Findings:
        if expected:
            return Findings()
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("", number))
            except OSError:
                hint = f"`ss -ltnp 'sport = :{number}'` shows by what; end it, or run `tiphys reset` first"
                return Findings(errors=[f"Port {number} is in use; {hint}"])
        return Findings()

    return check(f"Port-{number}", look)


def file_available(places: HostRoot, path: str, wanted: bytes | None = None) -> Check:
    """Whether a file is not there yet, or is what we would write: then an earlier run wrote it."""

    def look() -> Findings:
        file = places.on_disk(path)
        if not file.exists() or (wanted is not None and file.read_bytes() == wanted):
            return Findings()
        hint = "it is of another configuration" if wanted is not None else "a node was set up here before"
        return Findings(errors=[f"{path} already exists; {hint}: run `tiphys reset` first, or move it away"])

    return check(f"FileAvailable-{_dashed(path)}", look)


def directory_available(places: HostRoot, path: str, *, expected: bool = False) -> Check:
    def look() -> Findings:
        folder = places.on_disk(path)
        if expected or not folder.exists() or not any(folder.iterdir()):
            return Findings()
        return Findings(errors=[f"{path} is not empty; run `tiphys reset` and remove what is in it, or move it away"])

    return check(f"DirAvailable-{_dashed(path)}", look)


def file_content(path: str, wanted: str, remedy: str) -> Check:
    def look() -> Findings:
        try:
            content = Path(path).read_text()
        except OSError:
            return Findings(errors=[f"{path} does not exist; {remedy}"])
        bad = f"{path} contents are not set to {wanted}; {remedy}"
        return Findings(errors=[] if content.startswith(wanted) else [bad])

    return check(f"FileContent-{_dashed(path)}", look)


def programs() -> list[Check]:
    """Those that a node cannot do without, and those that an administrator will miss."""

    def needed(name: str) -> Findings:
        missing = f"{name} not found in system path; install the package that has it"
        return Findings(errors=[] if shutil.which(name) else [missing])

    def useful(name: str) -> Findings:
        return Findings(warnings=[] if shutil.which(name) else [f"{name} not found in system path"])

    return [
        *(check(f"FileExisting-{name}", lambda name=name: needed(name)) for name in _NEEDED),  # type: ignore[misc]
        *(check(f"FileExisting-{name}", lambda name=name: useful(name)) for name in _USEFUL),  # type: ignore[misc]
    ]


def swap() -> Check:
    def look() -> Findings:
        try:
            used = len(Path("/proc/swaps").read_text().splitlines()) > 1
        except OSError:
            used = False
        words = "swap is on, which the kubelet does not account for: `swapoff -a`, and take it out of /etc/fstab"
        return Findings(warnings=[words] if used else [])

    return check("Swap", look)


def hostname(name: str) -> Check:
    def look() -> Findings:
        try:
            socket.getaddrinfo(name, None)
        except OSError as error:
            hint = "add it to /etc/hosts or to the DNS"
            return Findings(warnings=[f'hostname "{name}" could not be reached', f'hostname "{name}": {error}; {hint}'])
        return Findings()

    return check("Hostname", look)


def system() -> Check:
    """Cgroups with the controllers that a kubelet needs."""

    def look() -> Findings:
        listed = Path("/sys/fs/cgroup/cgroup.controllers")
        if listed.exists():
            present = listed.read_text().split()
        else:
            lines = Path("/proc/cgroups").read_text().splitlines()[1:]
            present = [line.split()[0] for line in lines if line.split()[3] == "1"]
        missing = [name for name in _CGROUP_CONTROLLERS if name not in present]
        words = (
            f"missing required cgroups: {' '.join(missing)}; boot with cgroup_enable={' cgroup_enable='.join(missing)}"
        )
        return Findings(errors=[words] if missing else [])

    return check("SystemVerification", look)


def proxy(host: str, environment: Mapping[str, str]) -> Check:
    """Whether what goes to the API server would go by a proxy."""

    def look() -> Findings:
        given = environment.get("HTTPS_PROXY") or environment.get("https_proxy")
        exempt = (environment.get("NO_PROXY") or environment.get("no_proxy") or "").split(",")
        if not given or host in [name.strip() for name in exempt]:
            return Findings()
        words = (
            f'Connection to "https://{host}" uses proxy "{given}". If that is not intended, adjust your proxy settings'
        )
        return Findings(warnings=[words])

    return check("HTTPProxy", look)


def runtime(url: str) -> Check:
    """Whether the container runtime answers."""

    async def look() -> Findings:
        client = CRIClient(urlsplit(url).path)
        try:
            await client.version()
        except RuntimeFailure as error:
            hint = "start it (`systemctl start containerd`), or name its socket: --cri-socket"
            return Findings(errors=[f"could not connect to the container runtime at {url}: {error}; {hint}"])
        finally:
            await client.close()
        return Findings()

    return Check("CRI", look)


def _dashed(path: str) -> str:
    return path.replace("/", "-")
