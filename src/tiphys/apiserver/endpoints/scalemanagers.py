"""Who owns ``spec.replicas``: the managed fields of a workload as its scale shows them, and back.

Source: KEP-2155 and server-side apply of the scale subresource.
"""

from __future__ import annotations

from typing import Any

Object = dict[str, Any]
Entries = list[Object]

_SCALE = "autoscaling/v1"
_REPLICAS: Object = {"f:spec": {"f:replicas": {}}}


def to_scale(entries: Entries | None) -> Entries:
    """The entries that own the number of replicas, as owners of the scale's."""
    return [{**entry, "apiVersion": _SCALE, "fieldsV1": _REPLICAS} for entry in entries or () if _owns(entry)]


def to_parent(parent: Entries | None, scale: Entries | None, api_version: str) -> Entries:
    """The workload's entries after a write of its scale: who lost the number of replicas there loses it here."""
    owners = {_identity(entry): entry for entry in scale or () if _owns(entry)}
    found: Entries = []
    for entry in parent or ():
        if not _owns(entry):
            found.append(entry)
        elif _identity(entry) in owners:
            found.append({**entry, "time": owners.pop(_identity(entry)).get("time", entry.get("time"))})
        elif rest := _without_replicas(entry["fieldsV1"]):
            found.append({**entry, "fieldsV1": rest})
    found += [{**entry, "apiVersion": api_version, "fieldsV1": _REPLICAS} for entry in owners.values()]
    return found


def _identity(entry: Object) -> tuple[Any, ...]:
    return entry.get("manager"), entry.get("operation"), entry.get("subresource", "")


def _owns(entry: Object) -> bool:
    return "f:replicas" in ((entry.get("fieldsV1") or {}).get("f:spec") or {})


def _without_replicas(fields: Object) -> Object:
    spec = {key: value for key, value in fields["f:spec"].items() if key != "f:replicas"}
    rest = {key: value for key, value in fields.items() if key != "f:spec"}
    return rest | ({"f:spec": spec} if spec and set(spec) != {"."} else {})
