"""Objects of which one list or map is as long as one likes: what the tests of bounds send.

The fields come from the field trees of the kinds. A field that several kinds share (a pod's containers in every
template) is grown in the first kind that has it, unless all are asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.apiserver.baseobjects import BASES, base
from tiphys.api.object import Object
from tiphys.api.resources import builtin_scheme
from tiphys.api.schema import ARRAY, MAP, OBJECT, Schema, schema_for
from tiphys.api.scheme import Resource

_MAX_DEPTH = 9
_SCALARS: dict[str, Any] = {
    "integer": 1,
    "number": 1.5,
    "boolean": True,
    "bytes": "YQ==",
    "quantity": "1",
    "int-or-string": 80,
    "time": "2020-01-01T00:00:00Z",
    "micro-time": "2020-01-01T00:00:00.000001Z",
    "any": {"a": 1},
    "raw": {"a": 1},
}
FORMS = ("distinct", "equal", "empty")
"""Of the items: all different, as far as a name makes them so; all the same; all without content."""


@dataclass(frozen=True, slots=True)
class Place:
    """A list or map of a kind. ``path`` leads to it, ``0`` for the first item of a list or the value of a map."""

    resource: Resource
    version: str
    path: tuple[str, ...]
    schema: Schema

    def __str__(self) -> str:
        return f"{self.resource.group or 'core'}/{self.version} {self.resource.kind}.{'.'.join(self.path)}"

    def grown(self, size: int, form: str) -> Object:
        """An object of the kind with so many items here."""
        obj = base(self.resource, self.version)
        here, shape = obj, schema_for(self.resource.gvk(self.version))
        for name in self.path[:-1]:
            here, shape = _step(here, shape, name)
        here[self.path[-1]] = self.content(size, form)
        return obj

    def content(self, size: int, form: str) -> Any:
        items = self.schema.items
        assert items is not None
        values = [item(items, i, form) for i in range(size)]
        return values if self.schema.kind == ARRAY else {f"k{i}": value for i, value in enumerate(values)}


def _step(here: Any, shape: Schema, name: str) -> tuple[Any, Schema]:
    if shape.kind == OBJECT:
        inner = shape.fields[name].schema
        if not here.get(name):
            here[name] = [item(inner.items, 0, "distinct")] if inner.kind == ARRAY and inner.items else {}
        return here[name], inner
    assert shape.items is not None
    if isinstance(here, list):
        return here[0], shape.items
    return here.setdefault("k", item(shape.items, 0, "distinct")), shape.items


def item(schema: Schema, number: int, form: str) -> Any:
    """One item: of an object its scalar fields, or the few that name it."""
    if schema.kind == "string":
        return "" if form == "empty" else f"a{number}" if form == "distinct" else "a"
    if schema.kind == OBJECT:
        return {} if form == "empty" else dict(_fields(schema, number, form))
    if schema.kind in (ARRAY, MAP):
        return [] if schema.kind == ARRAY else {}
    if schema.kind == "integer" and form == "distinct":
        return number % 30000 + 1
    return _SCALARS.get(schema.kind, {})


def _fields(schema: Schema, number: int, form: str) -> Iterator[tuple[str, Any]]:
    for name, field in schema.fields.items():
        if field.schema.kind not in (OBJECT, ARRAY, MAP) and field.schema.kind in (
            "string",
            "integer",
            "int-or-string",
        ):
            yield name, item(field.schema, number, form)


def places(*, every: bool = False) -> Iterator[Place]:
    """The lists and maps of all kinds; each once, or with ``every`` in each kind that has it."""
    seen: set[tuple[str, str]] = set()
    for resource in builtin_scheme().resources():
        if (resource.group, resource.plural) in BASES:
            version = (
                resource.storage_version if resource.storage_version in resource.versions else resource.versions[0]
            )
            if every:
                seen = set()
            yield from _walk(Place(resource, version, (), schema_for(resource.gvk(version))), seen)


def _walk(place: Place, seen: set[tuple[str, str]]) -> Iterator[Place]:
    shape = place.schema
    if len(place.path) > _MAX_DEPTH * 2:
        return
    if shape.kind == OBJECT:
        for name, field in shape.fields.items():
            if (shape.name, name) not in seen and field.schema.kind in (OBJECT, ARRAY, MAP):
                seen.add((shape.name, name))
                yield from _walk(Place(place.resource, place.version, (*place.path, name), field.schema), seen)
    elif shape.kind in (ARRAY, MAP) and shape.items is not None:
        yield place
        yield from _walk(Place(place.resource, place.version, (*place.path, "0"), shape.items), seen)
