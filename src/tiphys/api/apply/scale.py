"""Managed fields of an object as its scale subresource shows them, and back.

Who owns the replicas of the object owns ``spec.replicas`` of its Scale, and the reverse.
Source: KEP-2115 (server-side apply and subresources such as scale).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tiphys.api.apply.fieldset import FieldSet, Path, difference, has, of_paths
from tiphys.api.apply.managers import ManagedEntry, Managers, read, write

Entries = list[dict[str, Any]] | None

SCALE_VERSION = "autoscaling/v1"
REPLICAS: Path = ("f:spec", "f:replicas")
_IN_SCALE = of_paths("spec.replicas")
Paths = Mapping[str, Path | None]
"""By API version, where an object holds its replicas; None for a version without a scale subresource."""


def to_scale(entries: Entries, paths: Paths) -> list[dict[str, Any]]:
    """The entries of those who own the replicas. Raises ``FieldSetError``."""
    managers: Managers = {}
    for identity, entry in read(entries, trusted=True).items():
        path = paths.get(entry.api_version)
        if path is not None and has(entry.fields, path):
            managers[identity] = ManagedEntry(_IN_SCALE, SCALE_VERSION, entry.time)
    return write(managers)


def from_scale(entries: Entries, scale_entries: Entries, api_version: str, paths: Paths) -> list[dict[str, Any]]:
    """The object's entries after a write to its scale, whose entries are given. Raises ``FieldSetError``."""
    scale = read(scale_entries, trusted=True)
    managers: Managers = {}
    before = read(entries, trusted=True)
    for identity, entry in before.items():
        if entry.api_version not in paths:
            continue
        path = paths[entry.api_version]
        if path is None or not has(entry.fields, path):
            managers[identity] = entry
        elif identity in scale:
            managers[identity] = entry
            del scale[identity]
        else:
            rest = difference(entry.fields, _set_of(path))
            if rest:
                managers[identity] = entry.with_fields(rest)
    own_path = paths.get(api_version)
    for identity, entry in scale.items():
        if own_path is not None and has(entry.fields, REPLICAS):
            time = before[identity].time if identity in before else ""
            managers[identity] = ManagedEntry(_set_of(own_path), api_version, time)
    return write(managers)


def _set_of(path: Path) -> FieldSet:
    node: FieldSet = {}
    for element in reversed(path):
        node = {element: node}
    return node
