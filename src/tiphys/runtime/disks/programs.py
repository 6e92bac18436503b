"""Programs of the system that make and grow file systems and loop devices.

Source: blkid(8), mkfs.ext4(8), resize2fs(8), ext4(5), losetup(8), fsfreeze(8), cp(1)
"""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from pathlib import Path

_TIMEOUT = 600
_SUPERBLOCK = 1024
_LEAST_GROWTH = 64 * 1024


class ProgramFailure(Exception):
    """A program ended badly; the message has its last words."""


def run(*argv: str | Path, good: tuple[int, ...] = (0,)) -> str:
    """What the program says. Raises ``ProgramFailure`` if its exit status is not ``good``."""
    words = [str(word) for word in argv]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=_TIMEOUT, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ProgramFailure(f"{words[0]}: {error}") from error
    if done.returncode not in good:
        raise ProgramFailure(f"{' '.join(words)}: {(done.stderr or done.stdout).strip()[-500:]}")
    return done.stdout


def missing(*names: str) -> list[str]:
    """Those of the programs that this machine does not have."""
    return [name for name in names if shutil.which(name) is None]


def make_filesystem(image: Path) -> None:
    """Nothing is discarded or zeroed, as the file is all holes; root keeps no share: a claim asks for its size."""
    run("mkfs.ext4", "-q", "-F", "-m", "0", "-E", "nodiscard,lazy_itable_init=1,lazy_journal_init=1", image)


def content_of(device: Path) -> str:
    """What ``blkid`` sees on a device: ``ext4``, another file system, a partition table; empty if it is blank."""
    seen = run("blkid", "-p", "-s", "TYPE", "-s", "PTTYPE", "-o", "value", device, good=(0, 2))
    return " ".join(seen.split())


def mount_device(device: Path, target: Path, options: str) -> None:
    run("mount", "-t", "ext4", *(("-o", options) if options else ()), device, target)


def attach_loop(image: Path) -> str:
    """The loop device of an image, made if it has none."""
    return loop_of(image) or run("losetup", "--find", "--show", image).strip()


def loop_of(image: Path) -> str:
    """Empty if the image has no loop device."""
    devices = run("losetup", "--noheadings", "--output", "NAME", "--associated", image).split()
    return devices[0] if devices else ""


def detach_loop(device: str) -> None:
    run("losetup", "--detach", device)


def see_new_size(device: str) -> None:
    run("losetup", "--set-capacity", device)


def grow_mounted(device: str) -> None:
    """Needs CAP_SYS_RESOURCE."""
    run("resize2fs", device)


def grow_unmounted(image: Path) -> None:
    """Let the file system in an image fill it; nothing is done if it does."""
    if not is_full_size(image):
        run("e2fsck", "-f", "-p", image, good=(0, 1))
        run("resize2fs", image)


def is_full_size(image: Path) -> bool:
    """Whether the file system in an image, or on a device, fills it."""
    with image.open("rb") as file:
        return filesystem_size(image) + _LEAST_GROWTH > file.seek(0, os.SEEK_END)


def filesystem_size(image: Path) -> int:
    """Bytes of the ext4 file system in an image, by its superblock."""
    with image.open("rb") as file:
        file.seek(_SUPERBLOCK)
        block = file.read(_SUPERBLOCK)
    low, (log_size,) = struct.unpack_from("<I", block, 4)[0], struct.unpack_from("<I", block, 24)
    (high,) = struct.unpack_from("<I", block, 0x150)
    return int((high << 32 | low) << (10 + log_size))


def mount_image(image: Path, target: Path, options: str) -> None:
    """The loop device goes with the last of its mounts."""
    run("mount", "-t", "ext4", "-o", ",".join(part for part in ("loop", options) if part), image, target)


def freeze(folder: Path) -> None:
    run("fsfreeze", "--freeze", folder)


def thaw(folder: Path) -> None:
    run("fsfreeze", "--unfreeze", folder)


def copy_file(source: Path, target: Path) -> None:
    """By sharing blocks if the file system can; else byte by byte, with the holes left out."""
    run("cp", "--reflink=auto", "--sparse=always", source, target)


def copy_folder(source: Path, target: Path) -> None:
    """Links are copied as links."""
    run("cp", "--archive", "--reflink=auto", "--no-target-directory", source, target)
