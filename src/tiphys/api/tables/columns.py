"""Columns of each kind, from columns.txt.

Source: https://kubernetes.io/docs/reference/using-api/api-concepts/#receiving-resources-as-tables
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

from tiphys.api.definitions import definitions, description
from tiphys.api.scheme import GroupKind

OBJECT_META = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"


@dataclass(frozen=True, slots=True)
class Column:
    """One column. ``priority`` 0 is always shown, 1 in wide output. ``doc`` is the description or, after ``=``, where
    it stands in the published definitions."""

    name: str
    type: str
    format: str
    priority: int
    doc: str

    def definition(self) -> dict[str, str | int]:
        """The TableColumnDefinition of the API."""
        return {
            "name": self.name,
            "type": self.type,
            "format": self.format,
            "description": _text(self.doc),
            "priority": self.priority,
        }


DEFAULT = (
    Column("Name", "string", "name", 0, "=meta.v1.ObjectMeta.name"),
    Column("Created At", "date", "", 0, "=meta.v1.ObjectMeta.creationTimestamp"),
)


def columns_of(group: str, kind: str) -> tuple[Column, ...]:
    """The columns of a kind; the generic object columns if it defines none."""
    return _all().get(GroupKind(group, kind), DEFAULT)


@lru_cache(maxsize=1)
def _all() -> dict[GroupKind, tuple[Column, ...]]:
    columns: dict[GroupKind, tuple[Column, ...]] = {}
    kind = GroupKind("", "")
    for line in files("tiphys.api.tables").joinpath("columns.txt").read_text().splitlines():
        if line.startswith("["):
            kind = GroupKind.parse(line.strip("[]"))
            columns[kind] = ()
        elif line and not line.startswith("#"):
            name, type, priority, doc = (part.strip() for part in line.split("|", 3))
            type, _, format = type.partition("/")
            columns[kind] += (Column(name, type, format, int(priority), doc.replace("\\n", "\n")),)
    return columns


def _text(doc: str) -> str:
    if not doc.startswith("="):
        return doc
    package, field = doc[1:].rsplit(".", 1)
    for prefix in ("io.k8s.api.", "io.k8s.apimachinery.pkg.apis."):
        if prefix + package in definitions():
            return description(prefix + package, field)
    raise LookupError(f"columns.txt names {doc[1:]}, which is not among the published definitions")
