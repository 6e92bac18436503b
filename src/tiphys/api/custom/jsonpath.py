"""JSONPath as columns of custom resources use it: ``.status.conditions[?(@.type=="Ready")].status``.

A path is a list of steps, each of which turns a list of values into another. Fields that are not there are no failure.
Source: https://kubernetes.io/docs/reference/kubectl/jsonpath/
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from tiphys.runtime.remembering import remembered

MOST_VALUES = 10_000
"""So many values a step may lead to: a descent below a descent finds the same values again and again."""

Values = list[Any]
Step = Callable[[Values], Values]

_FIELD = re.compile(r"(?:\\.|[^\s.,\[\]$@{}\\])*")
_KEY = re.compile(r"'([^']|\\')*'")
_SLICE = re.compile(r"(-?[0-9]*)(:-?[0-9]*)?(:-?[0-9]*)?")
_COMPARISON = re.compile(r"([^!<>=]+)([!<>=]+)(.+?)", re.DOTALL)
_NUMBER = re.compile(r"[+-]?[0-9.]+")
_WORD = re.compile(r"[^\s.,\[\]$@{}]+")


class PathError(ValueError):
    """The path makes no sense, or not for this value."""


@remembered(1024, longest=1024)
def parse(text: str) -> tuple[Step, ...]:
    """The steps of a path. Raises ``PathError``."""
    return tuple(_Parser(text).steps())


def find(text: str, obj: Any) -> Values:
    """All that a path leads to. Raises ``PathError``."""
    return _run(parse(text), [obj])


def _run(steps: tuple[Step, ...] | list[Step], values: Values) -> Values:
    for step in steps:
        values = step(values)
        if len(values) > MOST_VALUES:
            raise _too_many()
    return values


def _too_many() -> PathError:
    return PathError(f"finds more than {MOST_VALUES} values")


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def steps(self) -> list[Step]:
        result: list[Step] = []
        while self._at < len(self._text):
            result += self._next()
        return result

    def _next(self) -> list[Step]:
        """The steps for the next piece of the path. Raises ``PathError``."""
        text = self._text[self._at :]
        if text.startswith("[?("):
            return [self._filter()]
        if text.startswith(".."):
            self._at += 2
            following = self._text[self._at : self._at + 1]
            return [_descend, *([self._field()] if following.isalnum() or following == "_" else [])]
        first = text[0]
        if first in " @$":
            self._at += 1
            return []
        if first == "[":
            return self._brackets()
        if first in "\"'":
            return [_constant(self._quoted(first))]
        if first == ".":
            self._at += 1
            return [self._field()]
        if number := _NUMBER.match(text):
            self._at += number.end()
            return [_constant(_number(number[0]))]
        word = _WORD.match(text)
        if word is not None and word[0] in ("true", "false"):
            self._at += word.end()
            return [_constant(word[0] == "true")]
        raise PathError(f"unrecognized character in action: {first!r}")

    def _field(self) -> Step:
        name = _FIELD.match(self._text, self._at)
        assert name is not None
        self._at = name.end()
        return _wildcard if name[0] == "*" else _field(name[0].replace("\\", ""))

    def _quoted(self, quote: str) -> str:
        end = self._at + 1
        while end < len(self._text) and (self._text[end] != quote or self._text[end - 1] == "\\"):
            end += 1
        if end >= len(self._text):
            raise PathError("unterminated quoted string")
        text = self._text[self._at + 1 : end]
        self._at = end + 1
        return re.sub(r"\\(.)", r"\1", text)

    def _brackets(self) -> list[Step]:
        end = self._text.find("]", self._at)
        if end < 0:
            raise PathError("unterminated array")
        inner = self._text[self._at + 1 : end]
        self._at = end + 1
        if "," in inner:
            parts = [_Parser(f"[{part.strip(' ')}]").steps() for part in inner.split(",")]
            return [lambda values: [result for part in parts for result in _run(part, values)]]
        if _KEY.fullmatch(inner):
            return _Parser(f".{inner[1:-1]}").steps()
        return [_slice(":" if inner == "*" else inner)]

    def _filter(self) -> Step:
        start = self._at + len("[?(")
        end, quote = start, ""
        while end < len(self._text):
            character = self._text[end]
            if quote:
                quote = "" if character == quote and self._text[end - 1] != "\\" else quote
            elif character in "\"'":
                quote = character
            elif character == ")":
                break
            end += 1
        if self._text[end : end + 2] != ")]":
            raise PathError("unterminated filter")
        self._at = end + 2
        return _filter(self._text[start:end])


def _constant(value: Any) -> Step:
    return lambda values: [value] * len(values)


def _number(text: str) -> float:
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        raise PathError(f"cannot parse number {text}") from None


def _field(name: str) -> Step:
    return lambda values: [value[name] for value in values if isinstance(value, dict) and name in value]


def _children(value: Any) -> Values:
    if isinstance(value, dict):
        return list(value.values())
    return list(value) if isinstance(value, list) else []


def _wildcard(values: Values) -> Values:
    if sum(len(value) for value in values if isinstance(value, (dict, list))) > MOST_VALUES:
        raise _too_many()
    return [child for value in values for child in _children(value)]


def _descend(values: Values) -> Values:
    """All containers at any depth, each before those in it."""
    containers: Values = []
    waiting = values[::-1]
    while waiting:
        value = waiting.pop()
        if children := _children(value):
            containers.append(value)
            waiting += reversed(children)
            if len(containers) > MOST_VALUES:
                raise _too_many()
    return containers


def _slice(text: str) -> Step:
    """A step for ``[first:last:step]`` or one index; out of bounds it raises ``PathError``."""
    parts = _SLICE.fullmatch(text)
    if parts is None:
        raise PathError(f"invalid array index {text}")
    first, last, step = parts[1], parts[2], parts[3]
    size = int(step[1:]) if step and step[1:] else 1
    if size <= 0:
        raise PathError("step must be > 0")

    def take(values: Values) -> Values:
        selected: Values = []
        for value in values:
            if value is None:
                continue
            if not isinstance(value, list):
                raise PathError("not an array or slice")
            start = int(first) if first else 0
            start += len(value) if start < 0 else 0
            if last is None:
                end = start + 1
            else:
                end = int(last[1:]) if last[1:] else len(value)
                end += len(value) if end < 0 else 0
            if end == start:
                return []
            if not (0 <= start < len(value) and start < end <= len(value)):
                raise PathError("array index out of bounds")
            selected += value[start:end:size]
        return selected

    return take


_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "==": lambda left, right: left == right,
    "!=": lambda left, right: left != right,
    "<": lambda left, right: left < right,
    "<=": lambda left, right: left <= right,
    ">": lambda left, right: left > right,
    ">=": lambda left, right: left >= right,
}


def _filter(text: str) -> Step:
    comparison = _COMPARISON.fullmatch(text)
    if comparison is None:
        steps = _Parser(text).steps()
        return lambda values: [item for item in _items(values) if _run(steps, [item])]
    left, operator, right = _Parser(comparison[1]).steps(), comparison[2], _Parser(comparison[3]).steps()
    compare = _COMPARE.get(operator)
    if compare is None:
        raise PathError(f"unrecognized filter operator {operator}")

    def passes(item: Any) -> bool:
        one, other = _run(left, [item]), _run(right, [item])
        if len(one) > 1 or len(other) > 1:
            raise PathError("can only compare one element at a time")
        if not one or not other:
            return False
        if _basic(one[0]) != _basic(other[0]):
            raise PathError("incompatible types for comparison")
        return compare(one[0], other[0])

    return lambda values: [item for item in _items(values) if passes(item)]


def _basic(value: Any) -> str:
    if isinstance(value, (dict, list)) or value is None:
        raise PathError("invalid type for comparison")
    return type(value).__name__


def _items(values: Values) -> Values:
    members: Values = []
    for value in values:
        if not isinstance(value, list):
            raise PathError("not an array or slice, and cannot be filtered")
        members += value
    return members
