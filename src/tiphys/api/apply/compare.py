"""What a write changed: which fields it removed, modified and added, as sets.

A field's container counts as added or removed with it, if it was not there before or is not there any more. A null, an
empty map and an empty list are values of their own: they are owned as one piece.
Source: KEP-555; the comparison behind it is that of ``structured-merge-diff``.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from tiphys.api.apply.fieldset import EMPTY, SELF, FieldSet, FieldSetError, Filter, ordered_level
from tiphys.api.apply.shapes import DEDUCED, ENTRIES, ITEMS, LEAF, STRUCT, TypePlan, element_of, plan_of, shape_of
from tiphys.api.schema import Schema

Node = FieldSet | None
_Triple = tuple[Node, Node, Node]
_NOTHING: _Triple = (None, None, None)


class Comparison(NamedTuple):
    removed: FieldSet
    modified: FieldSet
    added: FieldSet

    def filtered(self, keep: Filter | None) -> Comparison:
        return self if keep is None else Comparison(keep(self.removed), keep(self.modified), keep(self.added))


def compare(old: dict[str, Any], new: dict[str, Any], schema: Schema) -> Comparison:
    """Raises ``FieldSetError`` if an item of a keyed list has no key."""
    removed, modified, added = _both(old, new, plan_of(schema))
    return Comparison(removed or EMPTY, modified or EMPTY, added or EMPTY)


def whole(value: Any, plan: TypePlan) -> FieldSet:
    """The set of a value that is entirely new or removed, itself included."""
    if not value:
        return {}
    shape = plan.shape
    _check_type(value, shape)
    if shape == STRUCT:
        leaves, children = plan.leaves, plan.children
        fields: FieldSet = {SELF: {}}
        for name in sorted(value):
            leaf = leaves.get(name)
            if leaf is not None:
                fields[leaf] = {}
                continue
            child = children.get(name)
            if child is None:
                _whole_unknown(fields, name, value[name], plan)
                continue
            fields[child[0]] = whole(value[name], child[1])
        return fields
    if shape == LEAF or (shape == DEDUCED and not isinstance(value, dict)):
        return {}
    items = plan.items
    assert items is not None
    if shape == ITEMS:
        return _whole_list(value, plan, items)
    if items.shape == LEAF:
        return {SELF: {}, **{f"f:{name}": {} for name in sorted(value)}}
    return {SELF: {}, **{f"f:{name}": whole(value[name], items) for name in sorted(value)}}


def _check_type(value: Any, shape: int) -> None:
    """Custom resources are compared before they are validated: what is of another type has no fields."""
    wanted = dict if shape in (STRUCT, ENTRIES) else list if shape == ITEMS else object
    if not isinstance(value, wanted):
        raise FieldSetError(f"expected {'map' if wanted is dict else 'list'}, got {type(value).__name__}")


def _whole_unknown(fields: FieldSet, name: str, value: Any, plan: TypePlan) -> None:
    if plan.items is None:
        raise FieldSetError(f".{name}: field not declared in schema")
    fields[f"f:{name}"] = whole(value, plan.items)


def _whole_list(value: list[Any], plan: TypePlan, items: TypePlan) -> FieldSet:
    fields: FieldSet = {SELF: {}}
    for item in value:
        element = element_of(plan, item)
        # Items with the same key are owned together, as one piece.
        fields[element] = {} if element in fields else whole(item, items)
    return ordered_level(fields) if len(fields) > 2 else fields


def _same(old: Any, new: Any) -> bool:
    """Equal, where a boolean is no number."""
    return bool(old == new) and (type(old) is type(new) or (not isinstance(old, bool) and not isinstance(new, bool)))


def _both(old: Any, new: Any, plan: TypePlan) -> _Triple:
    """The change from one value to another; both are there, perhaps as nulls."""
    if _same(old, new):
        return _NOTHING
    before = shape_of(plan, old) if old is not None else shape_of(plan, new)
    after = shape_of(plan, new) if new is not None else before
    if before != after:
        return _changed_shape(old, new, plan, before)
    if after == LEAF or (not old and not new):
        return (None, {}, None)
    for value in (old, new):
        if value is not None:
            _check_type(value, after)
    if after == ITEMS:
        return _lists(old or [], new or [], plan)
    return _maps(old or {}, new or {}, plan)


def _changed_shape(old: Any, new: Any, plan: TypePlan, before: int) -> _Triple:
    """A value of any type became one of another type: what was inside is removed, what is inside is new."""
    if before == ENTRIES:
        return _maps(old, {}, plan)[0], {}, None
    _, _, added = _maps({}, new, plan)
    return None, {}, added


def _maps(old: dict[str, Any], new: dict[str, Any], plan: TypePlan) -> _Triple:
    """The removed, modified and added fields between two maps. Raises ``FieldSetError`` for undeclared fields."""
    removed: FieldSet = {}
    modified: FieldSet = {}
    added: FieldSet = {}
    children, items = plan.children, plan.items
    for name, value in new.items():
        known = children.get(name)
        if known is not None:
            element, below = known
        elif items is not None:
            element, below = f"f:{name}", items
        else:
            raise FieldSetError(f".{name}: field not declared in schema")
        if name not in old:
            added[element] = {} if below.shape == LEAF else whole(value, below)
            continue
        before = old[name]
        if before is value:
            continue
        if below.shape == LEAF:
            if not _same(before, value):
                modified[element] = {}
            continue
        _keep(element, _both(before, value, below), removed, modified, added)
    for name in old:
        if name not in new:
            known = children.get(name)
            element, below = known if known is not None else (f"f:{name}", items or plan)
            removed[element] = whole(old[name], below)
    return _by_name(removed), _by_name(modified), _by_name(added)


def _by_name(node: FieldSet) -> Node:
    """Fields in the order in which upstream writes them, as clients compare the text of the sets."""
    if len(node) > 1:
        return {element: node[element] for element in sorted(node)}
    return node or None


def _in_order(node: FieldSet) -> Node:
    """The same for items of a list."""
    return ordered_level(node) if len(node) > 1 else node or None


def _keep(element: str, triple: _Triple, removed: FieldSet, modified: FieldSet, added: FieldSet) -> None:
    if triple is _NOTHING:
        return
    for node, into in zip(triple, (removed, modified, added), strict=True):
        if node is not None:
            into[element] = node


def _grouped(values: list[Any], plan: TypePlan) -> dict[str, list[Any]]:
    groups: dict[str, list[Any]] = {}
    for value in values:
        groups.setdefault(element_of(plan, value), []).append(value)
    return groups


def _lists(old: list[Any], new: list[Any], plan: TypePlan) -> _Triple:
    removed: FieldSet = {}
    modified: FieldSet = {}
    added: FieldSet = {}
    before, after = _grouped(old, plan), _grouped(new, plan)
    items = plan.items
    assert items is not None
    for element in [*before, *(e for e in after if e not in before)]:
        left, right = before.get(element, []), after.get(element, [])
        if len(left) > 1 or len(right) > 1:
            _duplicates(element, left, right, items, (removed, modified, added))
        elif not left:
            added[element] = whole(right[0], items)
        elif not right:
            removed[element] = whole(left[0], items)
        else:
            _keep(element, _both(left[0], right[0], items), removed, modified, added)
    return _in_order(removed), _in_order(modified), _in_order(added)


def _duplicates(
    element: str, left: list[Any], right: list[Any], items: TypePlan, into: tuple[FieldSet, FieldSet, FieldSet]
) -> None:
    """Items with the same key are compared together; one that becomes several counts as removed, and vice versa."""
    removed, modified, added = into
    if len(left) > 1 and len(right) > 1:
        if not _same(left, right):
            modified[element] = {}
    elif len(left) > 1:
        if right:
            added[element] = whole(right[0], items)
        removed[element] = {}
    else:
        if left:
            removed[element] = whole(left[0], items)
        added[element] = {}
