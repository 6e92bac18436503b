"""The object that a client applies: checked against its type, and the set of fields that it names.

Source: KEP-555; what may be in an applied object, and the errors for what may not, is that of
``structured-merge-diff``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tiphys.api.apply.fieldset import SELF, FieldSet, FieldSetError, element_text
from tiphys.api.apply.shapes import DEDUCED, ENTRIES, ITEMS, LEAF, STRUCT, TypePlan, element_of, plan_of, shape_of
from tiphys.api.gotext import quote, value_text
from tiphys.api.schema import ARRAY, BOOLEAN, BYTES, INTEGER, MAP, NUMBER, OBJECT, RAW, STRING, Schema

_UNTYPED = "expected any scalar, got "


def check(obj: dict[str, Any], schema: Schema) -> None:
    """Raises ``FieldSetError`` with all that does not fit the type."""
    errors = list(_errors(obj, plan_of(schema), ""))
    if len(errors) == 1:
        raise FieldSetError(errors[0])
    if errors:
        raise FieldSetError("errors:\n" + "\n".join(f"  {error}" for error in errors))


def _told(path: str, message: str) -> str:
    return f"{path}: {message}" if path else message


def _errors(value: Any, plan: TypePlan, path: str) -> Iterator[str]:
    if value is None:
        return
    kind = plan.schema.kind
    if plan.shape == DEDUCED:
        if isinstance(value, dict):
            for name in sorted(value):
                yield from _errors(value[name], plan.items or plan, f"{path}.{name}")
    elif kind in (OBJECT, MAP):
        yield from _map_errors(value, plan, path)
    elif kind == ARRAY:
        yield from _list_errors(value, plan, path)
    elif message := _scalar_error(value, plan.schema):
        yield _told(path, message)


def _map_errors(value: Any, plan: TypePlan, path: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield _told(path, f"expected map, got {_go_value(value)}")
        return
    schema = plan.schema
    for name in sorted(value):
        here = f"{path}.{name}"
        if schema.kind == MAP:
            yield from _errors(value[name], plan_of(schema.items) if schema.items else plan, here)
        elif name in schema.fields:
            yield from _errors(value[name], plan_of(schema.fields[name].schema), here)
        elif not schema.preserve_unknown:
            yield _told(here, "field not declared in schema")
            return


def _list_errors(value: Any, plan: TypePlan, path: str) -> Iterator[str]:
    if not isinstance(value, list):
        yield _told(path, f"expected list, got {_go_value(value)}")
        return
    items = plan_of(plan.schema.items) if plan.schema.items else plan
    seen: set[str] = set()
    for index, item in enumerate(value):
        if plan.shape != ITEMS:
            yield from _errors(item, items, f"{path}[{index}]")
            continue
        try:
            element = element_of(plan, item)
        except FieldSetError as error:
            yield _told(path, f"element {index}: {error}")
            return
        if element in seen:
            yield _told(path, f"duplicate entries for key {element_text(element)}")
        seen.add(element)
        yield from _errors(item, items, path + element_text(element))


def _scalar_error(value: Any, schema: Schema) -> str:
    kind = schema.kind
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind in (INTEGER, NUMBER):
        return "" if number else f"expected numeric (int or float), got {_go_type(value)}"
    if kind in (STRING, BYTES):
        return (
            ""
            if isinstance(value, str)
            else f"expected string, got &value.valueUnstructured{{Value:{_go_syntax(value)}}}"
        )
    if kind == BOOLEAN:
        return "" if isinstance(value, bool) else f"expected boolean, got {_go_value(value)}"
    # A raw value is of another type, which nobody looks into here.
    return "" if kind == RAW or isinstance(value, (str, int, float)) else f"{_UNTYPED}{_go_value(value)}"


def _go_type(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, str):
        return "string"
    return "map[string]interface {}" if isinstance(value, dict) else "[]interface {}"


def _go_value(value: Any) -> str:
    """As ``%v`` prints the wrapper around it."""
    return f"&{{{value_text(value)}}}"


def _go_syntax(value: Any) -> str:
    """As ``%#v`` prints it."""
    if isinstance(value, str):
        return quote(value)
    if isinstance(value, dict):
        inner = ", ".join(f"{quote(name)}:{_go_syntax(value[name])}" for name in sorted(value))
        return f"map[string]interface {{}}{{{inner}}}"
    if isinstance(value, list):
        return f"[]interface {{}}{{{', '.join(_go_syntax(item) for item in value)}}}"
    return "interface {}(nil)" if value is None else value_text(value)


def to_set(obj: dict[str, Any], schema: Schema) -> FieldSet:
    """The fields that an object names: its leaves, its list items and map entries, but not the structs around them."""
    return _to_set(obj, plan_of(schema)) or {}


def _to_set(value: Any, plan: TypePlan) -> FieldSet | None:
    """The node of a value: {} if it is a member itself, None if there is nothing."""
    shape = shape_of(plan, value)
    if shape == LEAF:
        return {}
    if not value:
        return None
    if shape == ITEMS:
        return _list_set(value, plan)
    fields: FieldSet = {}
    for name in sorted(value):
        known = plan.children.get(name)
        element, below = known if known is not None else (f"f:{name}", plan.items or plan)
        item = value[name]
        node = _to_set(item, below)
        if item is None or item == {} or (known is None and shape in (STRUCT, ENTRIES)):
            node = _member(node)
        if node is not None:
            fields[element] = node
    return fields or None


def _list_set(value: list[Any], plan: TypePlan) -> FieldSet:
    fields: FieldSet = {}
    items = plan.items or plan
    counts: dict[str, int] = {}
    elements = [element_of(plan, item) for item in value]
    for element in elements:
        counts[element] = counts.get(element, 0) + 1
    for element, item in zip(elements, value, strict=True):
        fields[element] = {} if counts[element] > 1 else _member(_to_set(item, items))
    return fields


def _member(node: FieldSet | None) -> FieldSet:
    return {SELF: {}, **node} if node else {}


def with_named_members(fields: FieldSet, schema: Schema) -> FieldSet:
    """The set with the structs around its members added: those are owned with what is in them."""
    return _with_named(fields, plan_of(schema))


def _with_named(node: FieldSet, plan: TypePlan) -> FieldSet:
    merged: FieldSet = {}
    for element, below in node.items():
        known = plan.children.get(element[2:]) if element[0] == "f" else None
        inner = known[1] if known is not None else plan.items
        if not below or element == SELF:
            merged[element] = below
            continue
        fuller = _with_named(below, inner) if inner is not None else below
        merged[element] = {SELF: {}, **fuller} if known is not None else fuller
    return merged
