"""Strategic merge patch: a merge that knows which lists are keyed.

Directives: ``$patch: replace | delete | merge``, ``$retainKeys``, ``$setElementOrder/FIELD``,
``$deleteFromPrimitiveList/FIELD``. Lists with the strategy ``merge`` are merged by their merge key, others replaced.
Source: https://kubernetes.io/docs/tasks/manage-kubernetes-objects/update-api-object-kubectl-patch/ and the design
"Strategic Merge Patch" of the community repository.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from tiphys.api.gotext import quote, value_text
from tiphys.api.object import Object
from tiphys.api.patch.elementorder import Places, after_deletions, deduplicated, normalized, partition, token
from tiphys.api.patch.failures import BadPatch, PatchError
from tiphys.api.patch.gotypes import go_name, kind_name, same_type, same_value, type_name
from tiphys.api.schema import ARRAY, OBJECT, Field, Schema

DIRECTIVE, DELETE, REPLACE, MERGE = "$patch", "delete", "replace", "merge"
RETAIN_KEYS = "$retainKeys"
DELETE_FROM = "$deleteFromPrimitiveList"
SET_ORDER = "$setElementOrder"

BAD_DELETE_LIST = "invalid patch format of primitive list"
BAD_RETAIN_KEYS = "invalid patch format of retainKeys"
BAD_ORDER = "invalid patch format of setElementOrder list"


def strategic_merge_patch(obj: Object, patch: Object, schema: Schema) -> Object:
    """The patched object; shares unchanged parts with ``obj``. Raises ``PatchError``.

    ``patch`` is used up: what is left of it is what upstream shows in messages.
    """
    return _merge_map(obj, patch, schema)


def _merge_map(original: Object | None, patch: Object, schema: Schema | None) -> Object:
    """Merge a patch into a map; the result shares unchanged parts with ``original``."""
    if DIRECTIVE in patch:
        return _directive(patch)
    merged = dict(original or {})
    _retain_keys(merged, patch)
    _merge_ordered(merged, patch, schema)
    for name, value in patch.items():
        deleting = name.startswith(DELETE_FROM)
        key = _field_of(name, DELETE_FROM, BAD_DELETE_LIST) if deleting else name
        if value is None:
            merged.pop(key, None)
        elif key not in merged or not same_type(merged[key], value):
            if not deleting:
                _take(merged, key, value)
        elif isinstance(value, dict):
            field, inner = _lookup(schema, key)
            replaced = field is not None and _strategy(field) == REPLACE
            merged[key] = value if replaced else _merge_map(merged[key], value, inner)
        elif isinstance(value, list):
            merged[key] = _merge_list_field(merged[key], value, key, schema, deleting=deleting)
        else:
            merged[key] = value
    return merged


def _directive(patch: Object) -> Object:
    directive = patch[DIRECTIVE]
    if directive == REPLACE:
        del patch[DIRECTIVE]
        return patch
    if directive == DELETE:
        return {}
    raise _bad_directive(directive, patch)


def _bad_directive(directive: Any, patch: Object) -> PatchError:
    shown = directive
    if not isinstance(directive, str):
        shown = type_name(None) if directive is None else f"%!s({go_name(directive)}={value_text(directive)})"
    return PatchError(f"unknown patch type: {shown} in map: {value_text(patch)}")


def _take(merged: Object, key: str, value: Any) -> None:
    """The patch's value becomes the field's, without nulls and directives."""
    _drop_nulls(value)
    kept, keep = _without_directives(value)
    if keep:
        merged[key] = kept
    else:
        merged.pop(key, None)


def _drop_nulls(value: Any) -> None:
    if isinstance(value, dict):
        for key in [key for key, item in value.items() if item is None]:
            del value[key]
        for item in value.values():
            _drop_nulls(item)
    elif isinstance(value, list):
        for item in value:
            _drop_nulls(item)


def _without_directives(value: Any) -> tuple[Any, bool]:
    """The value, and whether it is to be kept at all."""
    if isinstance(value, dict):
        if DIRECTIVE in value:
            return None, False
        pairs = [(key, _without_directives(item)) for key, item in value.items()]
        return {key: item for key, (item, keep) in pairs if keep}, True
    if isinstance(value, list):
        return [item for item, keep in map(_without_directives, value) if keep], True
    return value, True


def _field_of(name: str, prefix: str, message: str) -> str:
    start, slash, field = name.partition("/")
    if not slash or start != prefix:
        raise BadPatch(message)
    return field


def _retain_keys(merged: Object, patch: Object) -> None:
    if RETAIN_KEYS not in patch:
        return
    keys = patch.pop(RETAIN_KEYS)
    if not isinstance(keys, list):
        raise BadPatch(BAD_RETAIN_KEYS)
    retained = {key for key in keys if isinstance(key, str)}
    for key, value in patch.items():
        if value is not None and not key.startswith((DELETE_FROM, SET_ORDER)) and key not in retained:
            raise BadPatch(BAD_RETAIN_KEYS)
    for key in [key for key in merged if key not in retained]:
        del merged[key]


def _lookup(schema: Schema | None, name: str) -> tuple[Field | None, Schema | None]:
    """The field of a type, and the type with which a merge into it continues."""
    if schema is None or schema.kind != OBJECT:
        kind = schema.kind if schema is not None else "interface"
        raise PatchError(f"merging an object in json but data type is not struct, instead is: {kind}")
    field = schema.fields.get(name)
    if field is None:
        struct = schema.go.rpartition(".")[2]
        raise PatchError(f"unable to find api field in struct {struct} for the json field {quote(name)}")
    return field, field.schema


def _lookup_list(schema: Schema | None, name: str) -> tuple[Field, Schema]:
    field, inner = _lookup(schema, name)
    assert field is not None
    if inner is None or inner.kind != ARRAY or inner.items is None:
        raise PatchError("expected slice or array type, but got: struct")
    return field, inner.items


def _strategy(field: Field) -> str:
    return next((strategy for strategy in field.patch_strategy if strategy != "retainKeys"), "")


# -- lists


def _merge_list_field(original: list[Any], patch: list[Any], key: str, schema: Schema | None, *, deleting: bool) -> Any:
    field, items = _lookup_list(schema, key)
    if _strategy(field) == MERGE or deleting:
        return _merge_list(original, patch, items, field.merge_key, deleting=deleting)
    return patch


def _merge_list(original: list[Any], patch: list[Any], items: Schema, merge_key: str, *, deleting: bool) -> list[Any]:
    if not original and not patch:
        return original
    if not isinstance(_element_type(original, patch), dict):
        if deleting:
            gone = set(map(token, patch))
            return [item for item in original if token(item) not in gone]
        result = deduplicated([*original, *patch])
        ours, theirs = partition(result, patch, "")
        return normalized(ours, theirs, patch, original, "")
    if not merge_key:
        raise PatchError(f"cannot merge lists without merge key for {kind_name(items)}")
    original, patch = _special_items(original, patch, merge_key)
    result = _merge_items(original, patch, merge_key, items)
    ours, theirs = partition(result, patch, merge_key)
    return normalized(ours, theirs, patch, original, merge_key)


def _element_type(*lists: list[Any]) -> Any:
    """One element, which stands for the type of all. Raises if they differ."""
    first: Any = None
    seen = False
    for item in (item for items in lists for item in items):
        if not seen:
            if isinstance(item, list):
                raise PatchError("lists of lists are not supported")
            first, seen = item, True
        elif not same_type(first, item):
            raise PatchError(f"list element types are not identical: {value_text(list(lists))}")
    if not seen:
        raise PatchError("no elements in any of the given slices")
    return first


def _special_items(original: list[Any], patch: list[Any], merge_key: str) -> tuple[list[Any], list[Any]]:
    """Carry out the directives among the patch's items; gives what is left of both lists."""
    plain: list[Any] = []
    gone = set[Hashable]()
    replace = False
    for item in patch:
        if DIRECTIVE not in item:
            plain.append(item)
            continue
        directive = item[DIRECTIVE]
        if directive == DELETE:
            if merge_key not in item:
                raise _no_merge_key(item, merge_key)
            gone.add(token(item[merge_key]))
        elif directive == REPLACE:
            replace = True
        elif directive == MERGE:
            raise PatchError("merging lists cannot yet be specified in the patch")
        else:
            raise _bad_directive(directive, item)
    if replace:
        return plain, []
    return [item for item in original if merge_key not in item or token(item[merge_key]) not in gone], plain


def _no_merge_key(item: Object, merge_key: str) -> PatchError:
    return PatchError(f"map: {value_text(item)} does not contain declared merge key: {merge_key}")


def _merge_items(original: list[Any], patch: list[Any], merge_key: str, items: Schema) -> list[Any]:
    merged, places = list(original), Places(original, merge_key)
    for item in patch:
        if merge_key not in item:
            raise _no_merge_key(item, merge_key)
        at = places.of(item)
        if at < 0:
            merged.append(item)
            places.add(item)
            continue
        merged[at] = _merge_map(merged[at], item, items)
        if merge_key not in merged[at]:
            places.forget(item)
    return merged


# -- the order of elements


def _merge_ordered(merged: Object, patch: Object, schema: Schema | None) -> None:
    """Merge the lists for which the patch gives the order; they are removed from the patch."""
    for name in [name for name in patch if name.startswith(SET_ORDER)]:
        order = patch.pop(name)
        if not isinstance(order, list):
            raise PatchError(f"expected a []interface {{}}, but received a {type_name(order)}")
        key = _field_of(name, SET_ORDER, BAD_ORDER)
        for side in (merged, patch):
            if key in side and not isinstance(side[key], list):
                raise PatchError(f"expected a []interface {{}}, but received a {type_name(side[key])}")
        field, items = _lookup_list(schema, key)
        before: list[Any] = merged.get(key, [])
        changes: list[Any] = patch.get(key, [])
        _check_order(changes, order, field.merge_key)
        if key not in merged and key not in patch:
            continue
        result = _merge_for_order(merged, patch, key, field, items)
        _element_type(before, changes)
        ours, theirs = partition(result, order, field.merge_key)
        if field.merge_key and key in patch and _strategy(field) == MERGE:
            before = _server_order(before, changes, field.merge_key)
        merged[key] = normalized(ours, theirs, order, before, field.merge_key)
        patch.pop(key, None)


def _server_order(before: list[Any], changes: list[Any], merge_key: str) -> list[Any]:
    """The live order as upstream looks at it after it deleted and added items in the same array.

    Items behind a deleted one have moved up, and new ones stand in the places that became free at the end.
    """
    if any(item.get(DIRECTIVE) == REPLACE for item in changes):
        return list(before)
    deleted = [item for item in changes if item.get(DIRECTIVE) == DELETE]
    seen, length = after_deletions(before, deleted, merge_key)
    places = Places(seen[:length], merge_key)
    for item in changes:
        if DIRECTIVE in item or places.of(item) >= 0:
            continue
        if length == len(seen):
            break
        seen[length] = item
        places.add(item)
        length += 1
    return seen


def _merge_for_order(merged: Object, patch: Object, key: str, field: Field, items: Schema) -> list[Any]:
    if key not in patch:
        return list(merged[key])
    if key not in merged:
        kept: list[Any] = _without_directives(patch[key])[0]
        return kept
    if _strategy(field) == MERGE:
        return _merge_list(merged[key], patch[key], items, field.merge_key, deleting=False)
    return list(patch[key])


def _check_order(changes: list[Any], order: list[Any], merge_key: str) -> None:
    """The patch's items must be in the given order, all of them listed there, unless they are deletions."""
    if not order or not changes:
        return
    kept = [item for item in changes if not (merge_key and item.get(DIRECTIVE) == DELETE)]
    at = turn = 0
    while at < len(kept) and turn < len(order):
        if isinstance(kept[at], dict) and DIRECTIVE in kept[at]:
            at += 1
            continue
        if _same_key(kept[at], order[turn], merge_key):
            at += 1
        turn += 1
    if at < len(kept) and turn >= len(order):
        raise PatchError(
            f"The order in patch list:\n{value_text(changes)}\n doesn't match {SET_ORDER} list:\n{value_text(order)}\n"
        )


def _same_key(left: Any, right: Any, merge_key: str) -> bool:
    if not merge_key:
        return same_value(left, right)
    for side in (left, right):
        if not isinstance(side, dict):
            raise PatchError(f"expected a map[string]interface {{}}, but received a {type_name(side)}")
        if merge_key not in side:
            raise _no_merge_key(side, merge_key)
    return same_value(left[merge_key], right[merge_key])
