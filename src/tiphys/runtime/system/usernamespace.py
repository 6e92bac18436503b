"""Whether this process is root of a user namespace only (user_namespaces(7)), and what it has of the machine then."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

_ALL = ["0", "0", "4294967295"]
"""Every id stands for itself."""


def is_rootless(ids: Path = Path("/proc/self/uid_map")) -> bool:
    """Whether root is an ordinary user of the machine's here: much is refused to it whatever its capabilities say."""
    try:
        return ids.read_text().split() != _ALL
    except FileNotFoundError:  # a kernel without user namespaces
        return False


def cgroups_are_ours(root: Path = Path("/sys/fs/cgroup")) -> bool:
    """Whether this process may make cgroups: the machine has handed it the whole tree, or each controller's."""
    return all(os.access(folder, os.W_OK) for folder in _trees(root))


def _trees(root: Path) -> Iterable[Path]:
    if (root / "cgroup.controllers").exists():
        return (root,)
    return [root / name for name in ("cpu", "memory", "pids")]
