"""Types with fields and sizes: what a schema says about a value, as far as expressions need it.

The sizes bound the cost of an expression before it ever runs: how many elements a value can have at most, and how few
bytes it takes at least in a request of at most 3 MiB.

Source: https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#validation-rules
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from tiphys.cel import types
from tiphys.cel.parsing.escaping import RESERVED
from tiphys.cel.types import Type


@dataclass(frozen=True)
class DeclType:
    """A type; ``fields`` are there for objects, ``element`` for lists and maps, ``key`` for maps."""

    name: str
    type: Type
    min_size: int = 1
    """The fewest bytes it takes as JSON."""
    max_elements: int = 0
    fields: Mapping[str, DeclType] | None = None
    key: DeclType | None = None
    element: DeclType | None = None

    @property
    def is_map(self) -> bool:
        return self.key is not None

    def named(self, name: str) -> DeclType:
        """With names for the objects that have none, after the path to them."""
        if self.fields is not None:
            name = name if self.name == "object" else self.name
            fields = {key: value.named(f"{name}.{key}") for key, value in self.fields.items()}
            return replace(self, name=name, type=types.struct(name), fields=fields)
        if self.element is None:
            return self
        if self.key is not None:
            return map_type(self.key, self.element.named(f"{name}.@elem"), self.max_elements)
        return list_type(self.element.named(f"{name}.@idx"), self.max_elements)

    def objects(self) -> Iterator[DeclType]:
        """All object types in it, this one included."""
        if self.fields is not None:
            yield self
            for value in self.fields.values():
                yield from value.objects()
        elif self.element is not None:
            yield from self.element.objects()

    def at(self, path: list[str]) -> DeclType | None:
        """What the steps of a path lead to; ``@items``, ``@values`` and ``@keys`` go into lists and maps."""
        decl: DeclType | None = self
        for step in path:
            if decl is None:
                return None
            if step in ("@items", "@values"):
                decl = decl.element
            elif step == "@keys":
                decl = decl.key
            else:
                decl = (decl.fields or {}).get(step)
        return decl


def list_type(element: DeclType, max_items: int = -1) -> DeclType:
    return DeclType("list", types.list_of(element.type), 2, max_items, element=element)


def map_type(key: DeclType, element: DeclType, max_properties: int = -1) -> DeclType:
    return DeclType("map", types.map_of(key.type, element.type), 2, max_properties, key=key, element=element)


def object_type(name: str, fields: Mapping[str, DeclType], min_size: int = 2) -> DeclType:
    return DeclType(name, types.struct(name), min_size, fields=fields)


BOOL = DeclType("bool", types.BOOL, 4)
BYTES = DeclType("bytes", types.BYTES, 2)
DOUBLE = DeclType("double", types.DOUBLE, 1)
DURATION = DeclType("duration", types.DURATION, 3)
DYN = DeclType("dyn", types.DYN, 1)
INT = DeclType("int", types.INT, 1)
NULL = DeclType("null_type", types.NULL, 4)
STRING = DeclType("string", types.STRING, 2)
TIMESTAMP = DeclType("timestamp", types.TIMESTAMP, 12)
UINT = DeclType("uint", types.UINT, 1)
_SCALARS = {decl.name: decl.type for decl in (BOOL, BYTES, DOUBLE, DURATION, INT, NULL, STRING, TIMESTAMP, UINT)}


class Messages:
    """The message types that an environment knows, by name."""

    def __init__(self, roots: tuple[DeclType, ...] = (), *, patches: bool = False) -> None:
        self.known = {decl.name: decl for root in roots for decl in root.objects()}
        self.scalars = bool(roots)
        self.patches = patches
        """Whether ``Object`` and what is below it, of any fields, and ``JSONPatch`` are known."""

    def extend(self, roots: tuple[DeclType, ...], *, patches: bool = False) -> Messages:
        extended = Messages(roots, patches=patches or self.patches)
        extended.known = {**self.known, **extended.known}
        extended.scalars = self.scalars or extended.scalars
        return extended

    def type_named(self, name: str) -> Type | None:
        if self.patches and is_patch_type(name):
            return types.struct(name)
        if name in self.known:
            return self.known[name].type
        if self.scalars and name in _SCALARS:
            return _SCALARS[name]
        return types.WELL_KNOWN.get(name)

    def field_type(self, message: str, name: str) -> Type | None:
        if self.patches and is_patch_type(message):
            return _patch_field(message, name)
        wrapped = types.WELL_KNOWN.get(message)
        if wrapped is not None and wrapped.nullable and name == "value":
            return Type(wrapped.kind, wrapped.name)
        fields = self.known[message].fields if message in self.known else None
        if fields is None:
            return None
        field = fields.get(name)
        if field is None and name in RESERVED:
            field = fields.get(f"__{name}__")
        return None if field is None else field.type


def is_patch_type(name: str) -> bool:
    return name in ("Object", "JSONPatch") or name.startswith("Object.")


def _patch_field(message: str, name: str) -> Type:
    if message != "JSONPatch" or name == "value":
        return types.DYN
    return types.STRING if name in ("op", "path", "from") else types.UNSPECIFIED
