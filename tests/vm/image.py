"""Builds the disk of a virtual machine: Debian with systemd, a kernel, what a node needs, our wheel, and the tests.

Needs root, and Debian's mmdebstrap and e2fsprogs. Nothing is mounted: the file system is made of the folder.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
HERE = Path(__file__).parent
PACKAGES = (
    *("systemd", "systemd-sysv", "dbus", "udev", "kmod", "linux-image-cloud-amd64", "initramfs-tools"),
    *("python3", "python3-venv", "procps", "curl", "ca-certificates", "e2fsprogs", "xfsprogs", "iproute2"),
    *("containerd", "runc", "containernetworking-plugins", "nftables", "iptables", "conntrack"),
    *("busybox-static", "kubernetes-client"),
)
TESTED_WITH = ("pytest>=8.3", "pytest-timeout>=2.3", "hypothesis>=6.112")
SIZE = "12G"
"""A sparse file."""


@dataclass(frozen=True, slots=True)
class Image:
    disk: Path
    kernel: Path
    initrd: Path


def build(folder: Path) -> Image:
    """Made anew, but for the Debian system itself, which is kept in ``folder``."""
    wheels, root = folder / "wheels", folder / "root"
    _wheels(wheels)
    system = folder / "debian.tar"
    if not system.exists():
        _run("mmdebstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", "bookworm", system)
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    _run("tar", "-C", root, "-xf", system)
    _install(root, wheels)
    image = left(folder)
    image.disk.unlink(missing_ok=True)
    _run("mke2fs", "-q", "-t", "ext4", "-d", root, image.disk, SIZE)
    [kernel], [initrd] = root.glob("boot/vmlinuz-*"), root.glob("boot/initrd.img-*")
    shutil.copy(kernel, image.kernel)
    shutil.copy(initrd, image.initrd)
    shutil.rmtree(root)
    return image


def left(folder: Path) -> Image:
    """What the last ``build`` in ``folder`` made, with what its machine wrote to it since."""
    return Image(folder / "disk.img", folder / "vmlinuz", folder / "initrd")


def _wheels(folder: Path) -> None:
    """The package's wheel, and those of what it needs, for the same Python as here."""
    shutil.rmtree(folder, ignore_errors=True)
    _run(sys.executable, "-m", "pip", "-q", "wheel", "--no-deps", "-w", folder, ROOT)
    [own] = folder.glob("tiphys-*.whl")
    _run(sys.executable, "-m", "pip", "-q", "download", "-d", folder, own, *TESTED_WITH)


def _install(root: Path, wheels: Path) -> None:
    """The wheel into the system's own Python, the tests beside it, and a service that runs them when it boots."""
    shutil.copytree(wheels, root / "wheels")
    shutil.copytree(ROOT / "tests", root / "srv/tiphys/tests", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "bench", root / "srv/tiphys/bench", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", root / "srv/tiphys")
    _run("chroot", root, "python3", "-m", "venv", "/opt/tiphys")
    pip = ("chroot", root, "/opt/tiphys/bin/pip", "-q", "install", "--no-index", "--find-links", "/wheels")
    names = [name.partition(">")[0] for name in TESTED_WITH]
    _run(*pip, "tiphys", *names)
    shutil.rmtree(root / "wheels")
    (root / "etc/hostname").write_text("vm\n")
    (root / "etc/fstab").write_text("/dev/vda / ext4 defaults 0 1\n")
    (root / "etc/systemd/system/guest.service").write_text((HERE / "guest.service").read_text())
    wanted = root / "etc/systemd/system/multi-user.target.wants"
    (wanted / "guest.service").symlink_to("/etc/systemd/system/guest.service")
    for unit in ("containerd.service", "getty@tty1.service"):  # the cluster has a containerd of its own
        (wanted / unit).unlink(missing_ok=True)


def _run(*words: str | Path) -> None:
    subprocess.run(list(map(str, words)), check=True, stdin=subprocess.DEVNULL)
