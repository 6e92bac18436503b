"""Who owns the number of replicas: the managed fields of a workload as its scale shows them, and back.

In a scale the number is at ``spec.replicas``; in the workload it may be elsewhere, where that is a custom resource.
Source: KEP-2155 and server-side apply of the scale subresource.
"""

from __future__ import annotations

from typing import Any

Object = dict[str, Any]
Entries = list[Object]
Path = tuple[str, ...]

_SCALE = "autoscaling/v1"
REPLICAS: Path = ("spec", "replicas")


def to_scale(entries: Entries | None, path: Path = REPLICAS) -> Entries:
    """The entries that own the number of replicas, as owners of the scale's."""
    return [
        {**entry, "apiVersion": _SCALE, "fieldsV1": _fields(REPLICAS)} for entry in entries or () if _owns(entry, path)
    ]


def to_parent(parent: Entries | None, scale: Entries | None, api_version: str, path: Path = REPLICAS) -> Entries:
    """The workload's entries after a write of its scale: who lost the number of replicas there loses it here."""
    owners = {_identity(entry): entry for entry in scale or () if _owns(entry, REPLICAS)}
    found: Entries = []
    for entry in parent or ():
        if not _owns(entry, path):
            found.append(entry)
        elif _identity(entry) in owners:
            found.append({**entry, "time": owners.pop(_identity(entry)).get("time", entry.get("time"))})
        elif rest := _without(entry["fieldsV1"], path):
            found.append({**entry, "fieldsV1": rest})
    found += [{**entry, "apiVersion": api_version, "fieldsV1": _fields(path)} for entry in owners.values()]
    return found


def _identity(entry: Object) -> tuple[Any, ...]:
    return entry.get("manager"), entry.get("operation"), entry.get("subresource", "")


def _fields(path: Path) -> Object:
    found: Object = {}
    for name in reversed(path):
        found = {f"f:{name}": found}
    return found


def _owns(entry: Object, path: Path) -> bool:
    found = entry.get("fieldsV1")
    for name in path:
        found = (found or {}).get(f"f:{name}")
        if found is None:
            return False
    return True


def _without(fields: Object, path: Path) -> Object:
    """The fields without the one at ``path``, and without what then holds no other."""
    own = f"f:{path[0]}"
    rest = {key: value for key, value in fields.items() if key != own}
    if len(path) == 1:
        return rest
    inner = _without(fields[own], path[1:])
    return rest | ({own: inner} if inner and set(inner) != {"."} else {})
