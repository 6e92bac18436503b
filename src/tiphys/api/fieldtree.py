"""The nodes of field trees: what a type is, and what is to be known about each field. A leaf: imports nothing of ours.

``tiphys.api.schema`` builds the trees of built-in types, ``tiphys.api.structural`` those of custom resources.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

OBJECT, MAP, ARRAY = "object", "map", "array"
STRING, INTEGER, NUMBER, BOOLEAN, BYTES = "string", "integer", "number", "boolean", "bytes"
QUANTITY, INT_OR_STRING, TIME, MICRO_TIME = "quantity", "int-or-string", "time", "micro-time"
ANY = "any"
"""Any value; maps in it are granular for apply, lists atomic."""
RAW = "raw"
"""Any value, as one piece: an object of another type."""
SCHEMA_OR_ARRAY, SCHEMA_OR_BOOL, SCHEMA_OR_STRINGS = "schema-or-array", "schema-or-bool", "schema-or-strings"
"""The three places in a JSON schema where a schema stands beside another type; ``items`` is the schema's tree."""

ATOMIC, GRANULAR, SET = "atomic", "granular", "set"


@dataclass(slots=True, eq=False)
class Schema:
    """One node of the tree."""

    kind: str
    go: str = ""
    """The Go type, as messages about values of a wrong type name it: ``v1.Container``, ``[]string``, ``int32``."""
    name: str = ""
    """The published definition's name; only of objects."""
    fields: dict[str, Field] = field(default_factory=dict, repr=False)
    """Of objects, in the order in which upstream writes them."""
    items: Schema | None = field(default=None, repr=False)
    """The type of an array's items or a map's values."""
    list_type: str = ATOMIC
    """Of arrays, for apply: ``atomic``, ``set`` or ``map``."""
    list_keys: tuple[str, ...] = ()
    """The key fields of a ``map`` list's items, in the published order."""
    map_type: str = GRANULAR
    """Of objects and maps, for apply: ``granular`` or ``atomic``."""
    preserve_unknown: bool = False
    """Objects keep fields that they do not declare (custom resources)."""
    nullable: bool = False
    """A null stays a null (custom resources)."""
    plan: Any = field(default=None, repr=False)
    """Room for what a walker compiles out of this node."""

    def with_map_type(self, map_type: str) -> Schema:
        """The same type with another map type; fields stay shared."""
        return Schema(self.kind, self.go, self.name, self.fields, self.items, self.list_type, self.list_keys, map_type)


@dataclass(slots=True, eq=False)
class Field:
    """One field of an object."""

    name: str
    schema: Schema
    omit_empty: bool = True
    """Empty values (false, 0, "", no items, absent pointers) are left out on the wire."""
    omit_zero: bool = False
    """Zero values of struct types are left out too."""
    pointer: bool = True
    """Absent and empty are two values."""
    keeps_empty: bool = False
    """An empty list is refused where an absent one gets defaults, so it must not be lost on the way there."""
    embedded: str = ""
    """Go's names of the embedded structs that hold the field, as error messages show them: ``VolumeSource``."""
    default: Any = None
    """The published default; only there for keys of lists and few others."""
    patch_strategy: tuple[str, ...] = ()
    """Of strategic merge patch: ``merge``, ``replace``, ``retainKeys``."""
    merge_key: str = ""
