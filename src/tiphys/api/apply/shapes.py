"""How a value of a type is owned: as one piece, field by field, or item by item.

Source: KEP-555, "Merge strategy": ``x-kubernetes-list-type``, ``x-kubernetes-map-type``.
"""

from __future__ import annotations

from typing import Any

from tiphys.api.apply.fieldset import FieldSetError, key_element, value_element
from tiphys.api.gotext import quote
from tiphys.api.schema import (
    ANY,
    ARRAY,
    ATOMIC,
    BOOLEAN,
    INTEGER,
    MAP,
    OBJECT,
    SCHEMA_OR_ARRAY,
    SCHEMA_OR_BOOL,
    SCHEMA_OR_STRINGS,
    STRING,
    Field,
    Schema,
)
from tiphys.api.schema import MAP as LIST_OF_TYPE_MAP

LEAF, STRUCT, ENTRIES, ITEMS, DEDUCED = range(5)
"""One piece; an object's fields; a map's entries; a list's items; by what the value is."""

ANYTHING = Schema(ANY)
_KEPT_ELEMENTS = 1000
_DEDUCED_KINDS = (ANY, SCHEMA_OR_ARRAY, SCHEMA_OR_BOOL, SCHEMA_OR_STRINGS)


class TypePlan:
    """What the walkers need of a type, worked out once."""

    __slots__ = ("children", "elements", "items", "keys", "leaves", "schema", "shape")

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self.shape = _shape(schema)
        self.children: dict[str, tuple[str, TypePlan]] = {}
        """Of an object: each field's path element and plan. Filled by ``plan_of``."""
        self.leaves: dict[str, str] = {}
        """Of an object: the path elements of the fields that are owned as one piece."""
        self.elements: dict[Any, str] = {}
        """Of a keyed list: elements made before, by the values of their key fields."""
        self.items: TypePlan | None = None
        """Of a map's values and a list's items; of an object's undeclared fields, where it may have some."""
        self.keys: tuple[tuple[str, Any], ...] = ()
        """Of a keyed list: its key fields in order of their names, with their defaults."""


def _shape(schema: Schema) -> int:
    kind = schema.kind
    if kind == OBJECT:
        return LEAF if schema.map_type == ATOMIC else STRUCT
    if kind == MAP:
        return LEAF if schema.map_type == ATOMIC else ENTRIES
    if kind == ARRAY:
        return LEAF if schema.list_type == ATOMIC else ITEMS
    return DEDUCED if kind in _DEDUCED_KINDS else LEAF


def plan_of(schema: Schema) -> TypePlan:
    """The plan of a type; kept with it."""
    result = schema.plan
    if result is None:
        result = schema.plan = TypePlan(schema)
        if result.shape == STRUCT:
            result.children = {name: (f"f:{name}", plan_of(field.schema)) for name, field in schema.fields.items()}
            result.leaves = {name: element for name, (element, plan) in result.children.items() if plan.shape == LEAF}
            result.items = plan_of(ANYTHING) if schema.preserve_unknown else None
        elif result.shape == DEDUCED:
            result.items = plan_of(ANYTHING)
        elif result.shape in (ENTRIES, ITEMS):
            result.items = plan_of(schema.items or ANYTHING)
        if schema.kind == ARRAY and schema.list_type == LIST_OF_TYPE_MAP:
            fields = schema.items.fields if schema.items else {}
            defaults = {name: _default(field) for name, field in fields.items()}
            result.keys = tuple((name, defaults.get(name)) for name in sorted(schema.list_keys))
    return result  # type: ignore[no-any-return]


_ZEROS: dict[str, Any] = {STRING: "", INTEGER: 0, BOOLEAN: False}


def _default(field: Field) -> Any:
    """What an absent key field counts as. Fields that the wire form always shows have the zero value for a default."""
    if field.default is not None or field.omit_empty or field.pointer:
        return field.default
    return _ZEROS.get(field.schema.kind)


def shape_of(plan: TypePlan, value: Any) -> int:
    """The shape that counts for this value."""
    if plan.shape != DEDUCED:
        return plan.shape
    return ENTRIES if isinstance(value, dict) else LEAF


def element_of(plan: TypePlan, item: Any) -> str:
    """The path element of an item of a list. Raises ``FieldSetError``."""
    if plan.keys:
        return _keyed(plan, item)
    if isinstance(item, dict):
        raise FieldSetError("associative list without keys has an element that's a map type")
    if isinstance(item, list):
        raise FieldSetError("not supported: associative list with lists as elements")
    if item is None:
        raise FieldSetError("associative list without keys has an element that's an explicit null")
    return value_element(item)


def _keyed(plan: TypePlan, item: Any) -> str:
    """The element that identifies a list item; cached by key values. Raises ``FieldSetError``."""
    if type(item) is not dict:
        if item is None:
            raise FieldSetError("associative list with keys may not have a null element")
        if not isinstance(item, dict):
            raise FieldSetError("associative list with keys may not have non-map elements")
    keys = plan.keys
    if len(keys) == 1:
        values: Any = item.get(keys[0][0])
        known = plan.elements.get(values) if type(values) is str else None
    else:
        values = tuple([item.get(name, default) for name, default in keys])
        # Numbers and booleans that are equal print differently.
        plain = all(type(value) is str or type(value) is int for value in values)
        known = plan.elements.get(values) if plain else None
        values = values if plain else None
    if known is not None:
        return known
    element = _key_element(plan, item)
    if values is not None and (type(values) is str or type(values) is tuple):
        if len(plan.elements) >= _KEPT_ELEMENTS:
            plan.elements.clear()
        plan.elements[values] = element
    return element


def _key_element(plan: TypePlan, item: Any) -> str:
    pairs = []
    for name, default in plan.keys:
        value = item.get(name, default)
        if value is not None or name in item:
            pairs.append((name, value))
    if not pairs:
        names = " ".join(quote(name) for name in plan.schema.list_keys)
        raise FieldSetError(
            f"associative list with keys has an element that omits all key fields [{names}] "
            "(and doesn't have default values for any key fields)"
        )
    return key_element(pairs)


__all__ = ["DEDUCED", "ENTRIES", "ITEMS", "LEAF", "STRUCT", "TypePlan", "element_of", "plan_of", "shape_of"]
