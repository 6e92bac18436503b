"""The entries of ``metadata.managedFields``: read, written, ordered, and kept from growing without end.

Source: KEP-555, and https://kubernetes.io/docs/reference/using-api/server-side-apply/#field-management
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from tiphys.api.apply.fieldset import FieldSet, FieldSetError, canonical, difference, of_paths, union
from tiphys.api.gotext import json_text, quote

MAX_UPDATE_MANAGERS = 10
UPDATE, APPLY = "Update", "Apply"
ANCIENT = "ancient-changes"
"""The manager under which the oldest updates are put together when there are too many."""

METADATA = of_paths(
    "apiVersion",
    "kind",
    "metadata",
    "metadata.name",
    "metadata.namespace",
    "metadata.creationTimestamp",
    "metadata.selfLink",
    "metadata.uid",
    "metadata.clusterName",
    "metadata.generation",
    "metadata.managedFields",
    "metadata.resourceVersion",
)
"""What nobody owns: the object's name, and what only the server sets."""


class ManagerIdentity(NamedTuple):
    """The identity of an entry. An applier has one entry, whichever version it applies in."""

    manager: str
    operation: str
    api_version: str
    subresource: str

    @classmethod
    def of(cls, manager: str, operation: str, api_version: str, subresource: str) -> ManagerIdentity:
        return cls(manager, operation, "" if operation == APPLY else api_version, subresource)

    @property
    def text(self) -> str:
        """As upstream spells it, to sort by."""
        parts = {
            "manager": self.manager,
            "operation": self.operation,
            "apiVersion": self.api_version,
            "subresource": self.subresource,
        }
        return json_text({name: value for name, value in parts.items() if value})

    def __str__(self) -> str:
        """As a conflict names the manager."""
        text_ = quote(self.manager)
        if self.subresource:
            text_ += f" with subresource {quote(self.subresource)}"
        return f"{text_} using {self.api_version}" if self.operation == UPDATE else text_


@dataclass(frozen=True, slots=True)
class ManagedEntry:
    fields: FieldSet
    api_version: str
    time: str = ""

    def with_fields(self, fields: FieldSet) -> ManagedEntry:
        return replace(self, fields=fields)


Managers = dict[ManagerIdentity, ManagedEntry]


def read(entries: list[dict[str, Any]] | None, *, trusted: bool = False) -> Managers:
    """Raises ``FieldSetError``. ``trusted`` are entries that the server wrote itself."""
    managers: Managers = {}
    for index, entry in enumerate(entries or ()):
        operation, api_version = entry.get("operation", ""), entry.get("apiVersion", "")
        if operation not in (UPDATE, APPLY):
            raise FieldSetError("operation must be `Apply` or `Update`")
        if not api_version:
            raise FieldSetError("apiVersion must not be empty")
        fields_type = entry.get("fieldsType", "")
        if not fields_type:
            raise FieldSetError(f"missing fieldsType in managed fields entry {index}")
        if fields_type != "FieldsV1":
            raise FieldSetError(f"invalid fieldsType {quote(fields_type)} in managed fields entry {index}")
        fields = entry.get("fieldsV1")
        fields = {} if fields is None else fields
        identity = ManagerIdentity.of(entry.get("manager", ""), operation, api_version, entry.get("subresource", ""))
        managers[identity] = ManagedEntry(
            fields if trusted else canonical(fields), api_version, entry.get("time") or ""
        )
    return managers


def write(managers: Managers) -> list[dict[str, Any]]:
    """The entries in order: appliers first, then by time, name, version and subresource."""
    rows = []
    for identity in sorted(managers, key=lambda i: _rank(i, managers[i])):
        entry = managers[identity]
        row: dict[str, Any] = {}
        if identity.manager:
            row["manager"] = identity.manager
        row["operation"] = identity.operation
        row["apiVersion"] = entry.api_version
        if entry.time:
            row["time"] = entry.time
        row["fieldsType"] = "FieldsV1"
        row["fieldsV1"] = entry.fields
        if identity.subresource:
            row["subresource"] = identity.subresource
        rows.append(row)
    return rows


def _rank(identity: ManagerIdentity, entry: ManagedEntry) -> tuple[str, ...]:
    return (identity.operation, entry.time, identity.manager, entry.api_version, identity.subresource)


def strip(fields: FieldSet) -> FieldSet:
    """Without what nobody owns."""
    if "f:metadata" in fields or "f:kind" in fields or "f:apiVersion" in fields:
        return difference(fields, METADATA)
    return fields


def cap(managers: Managers) -> None:
    """Put the oldest updates together, in place, until there are no more than ten."""
    updaters = [identity for identity in managers if identity.operation == UPDATE]
    count = len(updaters)
    if count <= MAX_UPDATE_MANAGERS:
        return
    updaters.sort(key=lambda i: (managers[i].time, i.text))
    first_of: dict[str, ManagerIdentity] = {}
    for identity in updaters:
        if count <= MAX_UPDATE_MANAGERS:
            return
        entry = managers[identity]
        version = entry.api_version
        if version not in first_of:
            first_of[version] = identity
            continue
        bucket = ManagerIdentity(ANCIENT, UPDATE, version, "")
        if bucket not in managers:
            managers[bucket] = managers.pop(first_of[version])
        merged = union(entry.fields, managers[bucket].fields)
        if identity != bucket:
            del managers[identity]
        managers[bucket] = ManagedEntry(merged, version, entry.time)
        count -= 1
