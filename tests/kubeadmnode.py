"""Machines for clusters that last: each a network, mount and host-name namespace of its own, with containerd in it.

Paths are upstream's: below /etc, /var/lib, /var/log and /run each machine sees folders of its own. All machines are on
one bridge, in a network namespace of their own. Needs root, iproute2, util-linux and containerd.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.machine import wait_for

TOOL = Path(sys.executable).parent / "tiphys"
_OWN = ("/etc", "/var/lib", "/var/log", "/run")
_CONTAINERD = """
import asyncio, sys
from pathlib import Path
from tiphys.cluster import containerd, images
root = Path("/var/lib/containerd")
config = containerd.ContainerdConfig(
    root=root, state=Path("/run/containerd"), socket=Path("/run/containerd/containerd.sock"),
    cni_conf_dir=Path("/etc/cni/net.d"), cni_bin_dir=Path("/run/cni-bin"), certs_dir=Path("/etc/containerd/certs.d"),
    snapshotter="overlayfs" if containerd.overlay_works(root) else "native",
    restrict_oom_score_adj=not containerd.has_capability(24),
)
made = containerd.Containerd(config)
made.write_files()
"""
_IMAGES = """
import asyncio
from pathlib import Path
from tiphys.cluster import images
asyncio.run(images.ensure_images(Path("/run/containerd/containerd.sock")))
"""


@dataclass
class Node:
    """One machine. ``holder`` is the process whose namespaces it is."""

    name: str
    address: str
    folder: Path
    netns: str
    holder: subprocess.Popen[bytes]
    containerd: subprocess.Popen[bytes] | None = None
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def cgroup_root(self) -> str:
        """Where the pods' cgroups of this machine are: all machines share one hierarchy. A kubelet's --cgroup-root."""
        return f"/{self.netns}"

    def argv(self, *argv: str | Path) -> list[str]:
        return ["nsenter", f"--target={self.holder.pid}", "--net", "--mount", "--uts", *map(str, argv)]

    def run(
        self, *argv: str | Path, check: bool = True, timeout: float = 300, stdin: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            self.argv(*argv),
            env=self.environment,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if check and done.returncode != 0:
            raise AssertionError(f"{' '.join(map(str, argv))} gave {done.returncode}:\n{done.stdout}\n{done.stderr}")
        return done

    def tiphys(self, *words: str, **options: object) -> subprocess.CompletedProcess[str]:
        return self.run(TOOL, *words, **options)  # type: ignore[arg-type]

    def kubectl(self, *words: str, **options: object) -> str:
        return self.run("kubectl", "--kubeconfig=/etc/kubernetes/admin.conf", *words, **options).stdout  # type: ignore[arg-type]

    def file(self, path: str) -> Path:
        """A file of the machine, as this process sees it."""
        own = next(own for own in _OWN if path.startswith(f"{own}/"))
        return self.folder / own[1:].replace("/", "-") / path.removeprefix(f"{own}/")

    def pids(self) -> list[int]:
        """Every process in the machine's network, containers included, but for the holder."""
        inode = os.stat(f"/proc/{self.holder.pid}/ns/net").st_ino
        found = []
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and os.stat(entry / "ns/net").st_ino == inode:
                    found.append(int(entry.name))
            except OSError:
                continue
        return [pid for pid in found if pid != self.holder.pid]

    def mount_pids(self) -> list[int]:
        """Every process that sees the machine's files: those of other networks too."""
        inode = os.stat(f"/proc/{self.holder.pid}/ns/mnt").st_ino
        found = []
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and os.stat(entry / "ns/mnt").st_ino == inode:
                    found.append(int(entry.name))
            except OSError:
                continue
        return [pid for pid in found if pid != self.holder.pid]

    def pod_pids(self) -> list[int]:
        """Every process in the cgroups of the machine's pods: of those with a network of their own, too."""
        listed: set[int] = set()
        for top in cgroups(self.netns):
            for folder, _, _ in os.walk(top):
                with suppress(OSError):
                    listed |= {int(word) for word in Path(folder, "cgroup.procs").read_text().split()}
        return sorted(listed)

    def start_containerd(self) -> None:
        """Start containerd, also on a machine whose processes were all killed."""
        if self.containerd is not None:
            self.containerd.wait()
        self.run(sys.executable, "-c", _CONTAINERD)
        log = (self.folder / "containerd.log").open("ab")
        with log:
            self.containerd = subprocess.Popen(
                self.argv("containerd", "--config", "/var/lib/containerd.toml"),
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_for(lambda: self.file("/run/containerd/containerd.sock").exists(), 30, "containerd")
        wait_for(lambda: self.run("ctr", "version", check=False).returncode == 0, 30, "containerd")
        self.run(sys.executable, "-c", _IMAGES)

    def import_image(self) -> None:
        """Put the components' image into the machine's containerd; it is assembled once for all."""
        self.tiphys("image", "import", "--address", "/run/containerd/containerd.sock")

    def kill_everything(self) -> None:
        """kill -9 of all that runs on the machine, containers included: what a power cut leaves."""
        for _ in range(50):
            left = {*self.pids(), *self.mount_pids(), *self.pod_pids()}
            if not left:
                return
            for pid in left:
                kill_quietly(pid)
            time.sleep(0.05)


def kill_quietly(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


@dataclass
class Machines:
    """Machines on one wire."""

    folder: Path
    wire: str
    nodes: dict[str, Node] = field(default_factory=dict)
    made: int = 0
    """How many machines there were, those that are gone included."""

    def add(self, name: str) -> Node:
        """A new machine with containerd running on it."""
        address = f"198.18.7.{10 + self.made}"
        self.made += 1
        netns = f"{self.wire}-{name}"
        folder = self.folder / name
        for own in _OWN:
            (folder / own[1:].replace("/", "-")).mkdir(parents=True)
        shutil.copytree("/etc", folder / "etc", symlinks=True, dirs_exist_ok=True, ignore=_clean)
        (folder / "etc/hosts").write_text(f"127.0.0.1 localhost\n{address} {name}\n")
        self._network(netns, name, address)
        binds = "; ".join(f"mount --bind {folder / own[1:].replace('/', '-')} {own}" for own in _OWN)
        script = f"mount --make-rprivate /; {binds}; hostname {name}; exec sleep infinity"
        holder = subprocess.Popen(
            ["nsenter", f"--net=/run/netns/{netns}", "unshare", "--mount", "--uts", "sh", "-c", script],
            start_new_session=True,
        )
        environment = {**os.environ, "HOME": "/var/lib"}
        node = Node(name, address, folder, netns, holder, environment=environment)
        self.nodes[name] = node
        wait_for(lambda: node.run("hostname", check=False).stdout.strip() == name, 10, "the machine")
        node.start_containerd()
        return node

    def _network(self, netns: str, name: str, address: str) -> None:
        far = f"p-{name}"[:15]
        for command in (
            ["ip", "netns", "add", netns],
            ["ip", "-n", netns, "link", "set", "lo", "up"],
            ["ip", "-n", self.wire, "link", "add", far, "type", "veth", "peer", "name", "eth0", "netns", netns],
            ["ip", "-n", self.wire, "link", "set", far, "master", "wire", "up"],
            ["ip", "-n", netns, "address", "add", f"{address}/24", "dev", "eth0"],
            ["ip", "-n", netns, "link", "set", "eth0", "up"],
            ["ip", "-n", netns, "route", "add", "default", "dev", "eth0"],
            ["ip", "netns", "exec", netns, "sysctl", "-qw", "net.ipv4.ip_forward=1"],
        ):
            subprocess.run(command, check=True, capture_output=True)

    def remove(self, name: str) -> None:
        """Destroy a machine: what ran on it is dead, and its network is gone. Its address is not given again."""
        node = self.nodes.pop(name)
        node.kill_everything()
        node.holder.kill()
        node.holder.wait()
        if node.containerd is not None:
            node.containerd.wait()
        subprocess.run(["ip", "netns", "delete", node.netns], check=False, capture_output=True)
        remove_cgroups(node.netns)

    def close(self) -> None:
        for name in list(self.nodes):
            self.remove(name)
        subprocess.run(["ip", "netns", "delete", self.wire], check=False, capture_output=True)


def cgroups(name: str) -> list[Path]:
    """The cgroups of a name at the top of each hierarchy."""
    mount = Path("/sys/fs/cgroup")
    return [*mount.glob(name), *mount.glob(f"*/{name}")]


def remove_cgroups(name: str) -> None:
    """Remove the cgroups of a machine whose processes have ended, in every hierarchy."""
    for top in cgroups(name):
        for folder, _, _ in os.walk(top, topdown=False):
            with suppress(OSError):
                os.rmdir(folder)


def _clean(_: str, names: list[str]) -> list[str]:
    """What of /etc the machines do not share: what Kubernetes, CNI and containerd of this machine have there."""
    return [name for name in names if name in ("kubernetes", "cni", "containerd")]


@contextmanager
def machines(prefix: str = "kubeadm") -> Iterator[Machines]:
    """Machines that never saw the project; what is on them is gone at the end."""
    wire = f"{prefix}-{os.getpid()}"
    folder = Path(tempfile.mkdtemp(prefix=f"{prefix}-"))
    made = Machines(folder, wire)
    try:
        for command in (
            ["ip", "netns", "add", wire],
            ["ip", "-n", wire, "link", "add", "wire", "type", "bridge"],
            ["ip", "-n", wire, "link", "set", "wire", "up"],
        ):
            subprocess.run(command, check=True, capture_output=True)
        yield made
    finally:
        made.close()
        shutil.rmtree(folder, ignore_errors=True)
