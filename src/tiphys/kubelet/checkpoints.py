"""Checkpoints: small JSON files in which the kubelet keeps what it has assigned, with upstream's checksums.

Upstream hashes how Go's ``spew`` prints the structure, names of types included, so that text is made here by hand: thus
a kubelet of upstream's reads our files, and ours reads its.

Source: https://kubernetes.io/docs/tasks/administer-cluster/cpu-management-policies/ and
https://kubernetes.io/docs/concepts/extend-kubernetes/compute-storage-net/device-plugins/
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

_T = TypeVar("_T")
_K = TypeVar("_K", str, int)
_FNV_OFFSET, _FNV_PRIME = 0x811C9DC5, 0x01000193


class CheckpointCorrupt(Exception):
    """A checkpoint that cannot be used."""


def checksum(text: str) -> int:
    """FNV-1a of 32 bits."""
    digest = _FNV_OFFSET
    for byte in text.encode():
        digest = (digest ^ byte) * _FNV_PRIME & 0xFFFFFFFF
    return digest


def spewed_struct(fields: Mapping[str, str]) -> str:
    return "{" + " ".join(f"{name}:{text}" for name, text in fields.items()) + "}"


def spewed_list(items: Iterable[_T] | None, item: Callable[[_T], str] = str) -> str:
    return "<nil>" if items is None else "[" + " ".join(map(item, items)) + "]"


def spewed_map(entries: Mapping[_K, _T] | None, value: Callable[[_T], str] = str) -> str:
    if entries is None:
        return "<nil>"
    return "map[" + " ".join(f"{key}:{value(entries[key])}" for key in sorted(entries)) + "]"


def read(path: Path) -> Any:
    """The document in a checkpoint; None if there is no such file. Raises ``CheckpointCorrupt``, ``OSError``."""
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise CheckpointCorrupt(f"{path}: {error}") from error


def write(path: Path, document: Any) -> None:
    """Replace the file as a whole; it is on the disk when this returns. Raises ``OSError``."""
    path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(document, file, separators=(",", ":"))
        file.flush()
        os.fsync(descriptor)
    temporary.replace(path)
