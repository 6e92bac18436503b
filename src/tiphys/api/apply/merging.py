"""An applied object laid over the live one, and fields taken out again that nobody applies any more.

Source: KEP-555, "Merge strategy"; order of list items as in ``structured-merge-diff``: that of the applied object where
it names an item, that of the live one in between.
"""

from __future__ import annotations

from typing import Any

from tiphys.api.apply.fieldset import FieldSet, FieldSetError, is_member
from tiphys.api.apply.shapes import ENTRIES, ITEMS, LEAF, STRUCT, TypePlan, element_of, plan_of, shape_of
from tiphys.api.schema import Schema


class _Absent:
    """Stands for no value."""


ABSENT = _Absent()


def merge(live: dict[str, Any], applied: dict[str, Any], schema: Schema) -> dict[str, Any]:
    """A new object that shares unchanged parts with both. Raises ``FieldSetError``."""
    merged = _merge(live, applied, plan_of(schema))
    return merged if isinstance(merged, dict) else {}


def _merge(left: Any, right: Any, plan: TypePlan) -> Any:
    """Both are there, perhaps as nulls; the result may be ``ABSENT``."""
    shape = shape_of(plan, right if right is not None else left)
    if shape == LEAF or (not left and not right):
        return right
    if shape == ITEMS:
        return _merge_lists(left or [], right or [], plan)
    if left is not None and not isinstance(left, dict):
        return right
    return _merge_maps(left or {}, right or {}, plan)


def _merge_maps(left: dict[str, Any], right: dict[str, Any], plan: TypePlan) -> Any:
    merged_map = dict(left)
    for name, value in right.items():
        if name not in left:
            merged_map[name] = value
            continue
        known = plan.children.get(name)
        below = known[1] if known is not None else plan.items or plan
        merged = _merge(left[name], value, below)
        if merged is ABSENT:
            del merged_map[name]
        else:
            merged_map[name] = merged
    return merged_map or ABSENT


def _merge_lists(left: list[Any], right: list[Any], plan: TypePlan) -> Any:
    items = plan.items or plan
    rights = _by_element(right, plan)
    lefts: dict[str, Any] = {}
    order: list[str] = []
    for item in left:
        element = element_of(plan, item)
        # What occurs several times in the live list is replaced, not merged.
        lefts[element] = ABSENT if element in lefts else item
        order.append(element)
    merged_list: list[Any] = []
    for element, index in _interleave(order, list(rights), set(lefts)):
        if element not in rights:
            merged_list.append(left[index])
            continue
        known = lefts.get(element, ABSENT)
        merged = rights[element] if known is ABSENT else _merge(known, rights[element], items)
        if merged is not ABSENT:
            merged_list.append(merged)
    return merged_list or ABSENT


def _by_element(values: list[Any], plan: TypePlan) -> dict[str, Any]:
    by_element: dict[str, Any] = {}
    for value in values:
        element = element_of(plan, value)
        if element in by_element:
            raise FieldSetError(f"duplicate entries for key {element}")
        by_element[element] = value
    return by_element


def _interleave(left: list[str], right: list[str], known: set[str]) -> list[tuple[str, int]]:
    """The elements of both in the order of the result, each with its index in the left list, if it is from there."""
    applied = set(right)
    shared = [element for element in right if element in known]
    order: list[tuple[str, int]] = []
    done: set[str] = set()
    at = turn = following = 0
    while at < len(left) or turn < len(right):
        wanted = shared[following] if following < len(shared) else None
        if at < len(left) and turn < len(right):
            element = left[at]
            if element == right[turn]:
                order.append((element, at))
                done.add(element)
                at, turn, following = at + 1, turn + 1, following + 1
                continue
            if element in applied and wanted is not None and wanted != element:
                # Shared, but due later, in the order of the applied list.
                at += 1
                continue
        if at < len(left):
            element = left[at]
            if element not in applied:
                order.append((element, at))
                at += 1
                continue
            if element in done:
                at += 1
        if turn < len(right):
            element = right[turn]
            order.append((element, -1))
            done.add(element)
            turn += 1
            if wanted == element:
                following += 1
    return order


# -- removal


def remove(obj: dict[str, Any], fields: FieldSet, schema: Schema) -> dict[str, Any]:
    """A new object without these fields. What becomes empty inside stays, empty."""
    if not fields:
        return obj
    left_over = _remove(obj, fields, plan_of(schema))
    return left_over if isinstance(left_over, dict) else {}


def _remove(value: Any, fields: FieldSet, plan: TypePlan) -> Any:
    shape = shape_of(plan, value)
    if shape == ITEMS and isinstance(value, list):
        return _remove_items(value, fields, plan)
    if shape in (STRUCT, ENTRIES) and isinstance(value, dict):
        return _remove_entries(value, fields, plan)
    return value if plan.schema.kind not in ("object", "map", "array") else None


def _remove_items(value: list[Any], fields: FieldSet, plan: TypePlan) -> Any:
    items_left: list[Any] = []
    matched = False
    for item in value:
        node = fields.get(element_of(plan, item))
        if is_member(node):
            continue
        if node:
            matched = True
            item = _hollow(item, _remove(item, node, plan.items or plan))
        items_left.append(item)
    return items_left if items_left or matched else None


def _remove_entries(value: dict[str, Any], fields: FieldSet, plan: TypePlan) -> Any:
    left_over: dict[str, Any] = {}
    matched = False
    for name, item in value.items():
        node = fields.get(f"f:{name}")
        if is_member(node):
            continue
        if node:
            matched = True
            known = plan.children.get(name)
            item = _hollow(item, _remove(item, node, known[1] if known is not None else plan.items or plan))
        left_over[name] = item
    return left_over if left_over or matched else None


def _hollow(before: Any, after: Any) -> Any:
    """A container that lost all it held is kept as an empty one."""
    if after is None and isinstance(before, dict):
        return {}
    return [] if after is None and isinstance(before, list) else after


__all__ = ["ABSENT", "merge", "remove"]
