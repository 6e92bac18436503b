"""Literals that cannot work, found before anything runs: durations, timestamps, patterns, mixed lists, formats.

Source: https://kubernetes.io/docs/reference/using-api/cel/#cluster-cost-limits
"""

from __future__ import annotations

from tiphys.api.meta import regexp
from tiphys.cel import types
from tiphys.cel.library import formatting, times
from tiphys.cel.parsing.source import Problems
from tiphys.cel.syntax import Call, ListNode, Literal, MapNode, Node, walk
from tiphys.cel.types import Type
from tiphys.cel.values import CelError, Timestamp


def validate(tree: Node, problems: Problems) -> None:
    calls = [node for node in walk(tree) if isinstance(node, Call)]
    for name, works in (("duration", _is_duration), ("timestamp", _is_timestamp), ("matches", _is_pattern)):
        for call in calls:
            arg = call.args[0] if call.function == name and call.args else None
            if isinstance(arg, Literal) and not works(arg.value):
                problems.add(arg.pos, f"invalid {name} argument")
    _alike(tree, problems)
    for call in calls:
        _formats(call, problems)


def _is_duration(value: object) -> bool:
    try:
        times.to_duration(value)
    except CelError:
        return False
    return True


def _is_timestamp(value: object) -> bool:
    try:
        if isinstance(value, int):
            Timestamp(value * 10**9)
        else:
            times.to_timestamp(value)
    except CelError:
        return False
    return True


def _is_pattern(value: object) -> bool:
    return isinstance(value, str) and not regexp.problem(value)


def first_bad_pattern(tree: Node) -> str:
    """Why no program can be made: a literal that is no valid pattern. Empty if all are valid."""
    for node in walk(tree):
        if isinstance(node, Call) and node.function in ("matches", "find", "findAll"):
            args = node.args if node.target is None else [node.target, *node.args]
            pattern = args[1] if len(args) > 1 else None
            if isinstance(pattern, Literal) and isinstance(pattern.value, str):
                wrong = regexp.problem(pattern.value)
                if wrong:
                    return wrong
    return ""


def _alike(node: Node, problems: Problems) -> None:
    """Elements of a literal are of one type, but for the arguments of ``format``."""
    if isinstance(node, Call) and node.function == "format":
        return
    if isinstance(node, ListNode):
        _alike_list(node, problems)
    elif isinstance(node, MapNode):
        _alike_map(node, problems)
    for child in node.children():
        _alike(child, problems)


def _differs(node: Node, expected: Type, actual: Type, problems: Problems) -> bool:
    if expected.equivalent(actual):
        return False
    problems.add(node.pos, f"expected type '{expected}' but found '{actual}'")
    return True


def _alike_list(node: ListNode, problems: Problems) -> None:
    expected: Type | None = None
    for i, element in enumerate(node.elements):
        actual = types.unwrap_optional(element.type) if i in node.optional else element.type
        if expected is None:
            expected = actual
        elif _differs(element, expected, actual, problems):
            return


def _alike_map(node: MapNode, problems: Problems) -> None:
    expected: tuple[Type, Type] | None = None
    for entry in node.entries:
        value = types.unwrap_optional(entry.value.type) if entry.optional else entry.value.type
        if expected is None:
            expected = entry.key.type, value
            continue
        _differs(entry.key, expected[0], entry.key.type, problems)
        _differs(entry.value, expected[1], value, problems)


def _formats(call: Call, problems: Problems) -> None:
    target = call.target
    if call.function != "format" or not isinstance(target, Literal) or not isinstance(target.value, str):
        return
    if len(call.args) != 1 or not isinstance(call.args[0], ListNode):
        return
    formatting.check(call, target.value, call.args[0].elements, problems)
