"""Sets of fields, in the form in which ``managedFields`` keeps them.

A set is a tree of dicts: each key is a path element, and a dict below it is what the set holds beneath that element::

    f:name          a field, or a key of a map
    k:{"name":"c"}  the list item with these key fields
    v:"x"           the item of a set
    i:0             the item at an index
    .               the element above is itself a member

A leaf ``{}`` is a member; a dict with content is one only if it has ``.``. Sets are values: operations return new ones
and share what is unchanged, so nobody may change a set that it did not just build.

Source: KEP-555 (server-side apply) and the documentation of ``fieldsV1``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import orjson

from tiphys.api.gotext import json_text

FieldSet = dict[str, Any]
Path = tuple[str, ...]
Filter = Callable[[FieldSet], FieldSet]
"""Keeps the fields of a set that a manager may own by some endpoint."""

SELF = "."
EMPTY: FieldSet = {}


class FieldSetError(ValueError):
    """The JSON is not a set of fields, or an object does not fit its type; the message is upstream's."""


# -- the algebra; nodes are dicts below an element, where {} is a member, and None stands for nothing


def union(left: FieldSet, right: FieldSet) -> FieldSet:
    """What is in either."""
    if not left:
        return right
    return _union(left, right) if right else left


def _union(left: FieldSet, right: FieldSet) -> FieldSet:
    if left is right:
        return left
    if not left:
        return {SELF: {}, **right} if right else left
    if not right:
        return left if SELF in left else {SELF: {}, **left}
    joined = dict(left)
    for key, node in right.items():
        known = joined.get(key)
        joined[key] = node if known is None else known if key == SELF else _union(known, node)
    return joined


def difference(left: FieldSet, right: FieldSet) -> FieldSet:
    """What is in the left and not in the right; members below an element are taken out one by one."""
    return (_difference(left, right) or {}) if left and right else left


def _difference(left: FieldSet, right: FieldSet) -> FieldSet | None:
    """Below the root: the left has content."""
    left_over: FieldSet = {}
    for key, node in left.items():
        other = right.get(key)
        if other is None:
            left_over[key] = node
        elif key != SELF:
            kept = _node_difference(node, other)
            if kept is not None:
                left_over[key] = kept
    return _tidy(left_over)


def _node_difference(left: FieldSet, right: FieldSet) -> FieldSet | None:
    if not left:
        # A member without children: removed if it is a member there too.
        return None if not right or SELF in right else left
    if not right:
        right = {SELF: {}}
    return _difference(left, right)


def _tidy(node: FieldSet) -> FieldSet | None:
    """A node with nothing but itself is a leaf; one without anything is nothing."""
    if not node:
        return None
    return {} if len(node) == 1 and SELF in node else node


def recursive_difference(left: FieldSet, right: FieldSet) -> FieldSet:
    """Like ``difference``, but a member of the right takes everything below it away too."""
    return (_recursive_difference(left, right) or {}) if left and right else left


def _recursive_difference(left: FieldSet, right: FieldSet) -> FieldSet | None:
    left_over: FieldSet = {}
    for key, node in left.items():
        other = right.get(key)
        if other is None:
            left_over[key] = node
        elif other and SELF not in other:
            kept = _recursive_difference(node, other) if node else node
            if kept is not None:
                left_over[key] = kept
    return _tidy(left_over)


def intersection(left: FieldSet, right: FieldSet) -> FieldSet:
    """What is in both."""
    return _intersection(left, right) or {} if left and right else {}


def _intersection(left: FieldSet, right: FieldSet) -> FieldSet | None:
    shared: FieldSet = {}
    for key, node in left.items():
        other = right.get(key)
        if other is None:
            continue
        if key == SELF:
            shared[key] = node
            continue
        kept = _node_intersection(node, other)
        if kept is not None:
            shared[key] = kept
    return _tidy(shared)


def _node_intersection(left: FieldSet, right: FieldSet) -> FieldSet | None:
    if not left or not right:
        other = left or right
        return {} if not other or SELF in other else None
    return _intersection(left, right)


def is_member(node: FieldSet | None) -> bool:
    """Whether the element above the node belongs to the set."""
    return node is not None and (not node or SELF in node)


def has(fields: FieldSet, path: Path) -> bool:
    node: FieldSet | None = fields
    for element in path:
        if not node:
            return False
        node = node.get(element)
    return bool(path) and is_member(node)


def of_paths(*paths: str) -> FieldSet:
    """A set of fields named with dots: ``of_paths("spec", "metadata.labels")``."""
    fields: FieldSet = {}
    for path in paths:
        fields = union(fields, _of_path([f"f:{name}" for name in path.split(".")]))
    return fields


def _of_path(elements: list[str]) -> FieldSet:
    node: FieldSet = {}
    for element in reversed(elements):
        node = {element: node}
    return node


# -- filters


def excluding(fields: FieldSet) -> Filter:
    """All but these fields and what is below them: what a strategy resets is nobody's."""
    return lambda fields_: recursive_difference(fields_, fields) if fields_ else fields_


def including(*patterns: str) -> Filter:
    """Only what is below one of these paths, where ``*`` is any one element."""
    split = [[part if part == "*" else f"f:{part}" for part in pattern.split(".")] for pattern in patterns]
    return lambda fields_: _include(fields_, split)


def _include(node: FieldSet, patterns: list[list[str]]) -> FieldSet:
    included: FieldSet = {}
    for key, child in node.items():
        rest = [pattern[1:] for pattern in patterns if pattern[0] in ("*", key)]
        if key == SELF or not rest:
            continue
        if not child or any(not pattern for pattern in rest):
            included[key] = child
            continue
        below = _include(child, rest)
        # The elements on the way to a pattern match it too.
        if is_member(child):
            below = {SELF: {}, **below} if below else {}
        if below or is_member(child):
            included[key] = below
    return included


# -- order and text


def ordered(fields: FieldSet) -> FieldSet:
    """The same set with its elements in the order in which upstream writes them."""
    if len(fields) < 2:
        return {key: (ordered(node) if node else node) for key, node in fields.items()}
    keys = sorted(fields, key=_rank) if any(key[0] in "kvi" for key in fields) else sorted(fields)
    return {key: (ordered(fields[key]) if fields[key] else fields[key]) for key in keys}


def ordered_level(node: FieldSet) -> FieldSet:
    """The same node with its own elements in order; what is below stays as it is."""
    numbered = any(_NUMBERED(key) for key in node)
    return {key: node[key] for key in (sorted(node, key=_rank) if numbered else sorted(node))}


_NUMBERED = re.compile(r"i:|v:[-0-9]|k:.*\":[-0-9]").match
"""Elements that may hold numbers, which do not sort as text."""
_KINDS = {".": -1, "f": 0, "k": 1, "v": 2, "i": 3}


def _rank(element: str) -> tuple[Any, ...]:
    kind = _KINDS[element[0]]
    if kind <= 0:
        return (kind, element)
    value = orjson.loads(element[2:])
    if kind == 1:
        return (kind, [(name, _value_rank(value[name])) for name in sorted(value)])
    return (kind, _value_rank(value))


def _value_rank(value: Any) -> tuple[int, Any]:
    """Numbers sort before strings, strings before booleans, null last."""
    if isinstance(value, bool):
        return (2, value)
    if isinstance(value, (int, float)):
        return (0, value)
    return (1, value) if isinstance(value, str) else (3, "")


def paths(fields: FieldSet) -> Iterator[Path]:
    """Each member's path: those of one level in order, then those below."""
    yield from _paths(ordered(fields), ())


def _paths(node: FieldSet, prefix: Path) -> Iterator[Path]:
    for key, child in node.items():
        if key != SELF and is_member(child):
            yield (*prefix, key)
    for key, child in node.items():
        if child and key != SELF:
            yield from _paths(child, (*prefix, key))


def path_text(path: Path) -> str:
    """A path as messages show it: ``.spec.containers[name="c"].image``."""
    return "".join(element_text(element) for element in path)


def element_text(element: str) -> str:
    kind, rest = element[0], element[2:]
    if kind == "f":
        return f".{rest}"
    if kind == "k":
        keys = orjson.loads(rest)
        return "[" + ",".join(f"{name}={json_text(keys[name])}" for name in sorted(keys)) + "]"
    return f"[={json_text(orjson.loads(rest))}]" if kind == "v" else f"[{rest}]"


def key_element(fields: list[tuple[str, Any]]) -> str:
    """The element of a list item with these key fields, already sorted by name."""
    return "k:{" + ",".join(f"{json_text(name)}:{json_text(value)}" for name, value in fields) + "}"


def value_element(value: Any) -> str:
    return f"v:{json_text(value)}"


def canonical(fields: Any) -> FieldSet:
    """A set that came from outside, checked and in the form in which sets are compared. Raises ``FieldSetError``."""
    if not isinstance(fields, dict):
        raise FieldSetError("fieldsV1 is not an object")
    node = _canonical(fields, 0)
    if node is None or node == {SELF: {}}:
        return {}
    node.pop(SELF, None)
    return node


def _canonical(node: dict[str, Any], depth: int) -> FieldSet | None:
    if depth > 100:
        raise FieldSetError("fieldsV1 is too deep")
    result: FieldSet = {}
    for key, child in node.items():
        if key == SELF:
            result[SELF] = {}
            continue
        element = _canonical_element(key)
        if element is None:
            continue
        below = (_canonical(child, depth + 1) or {}) if isinstance(child, dict) else {}
        below = {} if len(below) == 1 and SELF in below else below
        result[element] = _union(result[element], below) if element in result else below
    return result


def _canonical_element(element: str) -> str | None:
    """None for kinds of elements that nobody knows; a later version may."""
    if len(element) < 2:
        raise FieldSetError("key must be 2 characters long:")
    if element[1] != ":":
        raise FieldSetError(f"missing colon: {element}")
    kind, text = element[0], element[2:]
    if kind == "f":
        return element
    try:
        if kind == "i":
            return f"i:{int(text)}" if len(text) < 20 else None
        if kind == "v":
            return value_element(orjson.loads(text))
        if kind == "k":
            keys = orjson.loads(text)
            if not isinstance(keys, dict):
                raise FieldSetError(f"parsing key as path element: {element}")
            return key_element([(name, keys[name]) for name in sorted(keys)])
    except (ValueError, TypeError) as error:
        raise FieldSetError(f"parsing key as path element: {error}") from error
    return None
