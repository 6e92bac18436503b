"""JSON Patch, RFC 6902.

As upstream's library has it: a negative index counts from the end, ``replace`` adds a key that is not there,
``test`` distinguishes 1 from 1.0, and a path without a leading slash names a field of the whole.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import orjson

from tiphys.api.codec.jsontext import Number
from tiphys.api.gotext import json_text
from tiphys.api.meta.copying import copy
from tiphys.api.patch.failures import PatchError

MAX_OPERATIONS = 10_000
MAX_COPIED = 3 * 1024 * 1024
"""So many bytes may the copies of one patch add up to, as in upstream: what is copied again and again doubles."""

_INDEX = re.compile(r"[+-]?[0-9]{1,9}").fullmatch


class _Missing:
    """Stands for no value."""


_MISSING = _Missing()


def json_patch(obj: Any, operations: list[Any]) -> Any:
    """The patched copy. Raises ``PatchError``; the document itself stays as it was."""
    return JSONPatch(copy(obj)).run(operations)


class JSONPatch:
    """One run. ``touched`` are the containers that the patch went into, by id: those are written with sorted keys."""

    def __init__(self, document: Any) -> None:
        self.document = document
        self.touched: set[int] = {id(document)}
        self._copied = 0

    def run(self, operations: list[Any]) -> Any:
        for operation in operations:
            self._apply(operation if isinstance(operation, dict) else {})
        return self.document

    def _apply(self, operation: dict[str, Any]) -> None:
        kind = operation.get("op")
        if kind == "add":
            self._add(self._text(operation, "path"), operation.get("value"))
        elif kind == "remove":
            self._remove(self._text(operation, "path"))
        elif kind == "replace":
            self._replace(self._text(operation, "path"), operation.get("value"))
        elif kind == "move":
            self._move(self._text(operation, "from"), operation)
        elif kind == "copy":
            self._duplicate(self._text(operation, "from"), operation)
        elif kind == "test":
            self._test(self._text(operation, "path"), operation.get("value"))
        else:
            raise PatchError(f"Unexpected kind: {kind if isinstance(kind, str) else 'unknown'}")

    def _text(self, operation: dict[str, Any], name: str) -> str:
        value = operation.get(name)
        if not isinstance(value, str):
            raise PatchError(f"operation missing {name} field: missing value")
        return value

    def _copy(self, value: Any) -> Any:
        if not isinstance(value, (dict, list)):
            self._copied += len(value) + 2 if isinstance(value, str) else 4
        else:
            self._copied += _text_size(value)
        if self._copied > MAX_COPIED:
            raise PatchError(
                f"Unable to complete the copy, the accumulated size increase of copy is {self._copied}, "
                f"exceeding the limit {MAX_COPIED}"
            )
        return self._as_written(value)

    def _as_written(self, value: Any) -> Any:
        """A copy is made by way of text, in which what was touched has its keys sorted."""
        if isinstance(value, dict):
            names = sorted(value) if id(value) in self.touched else list(value)
            return {name: self._as_written(value[name]) for name in names}
        return [self._as_written(item) for item in value] if isinstance(value, list) else value

    def _find(self, path: str, otherwise: str) -> tuple[Any, str]:
        """The container that holds what the path names, and the last part of the path."""
        parts = path.split("/")
        if len(parts) < 2:
            raise PatchError(f"{otherwise}: missing value")
        container = self.document
        for part in parts[1:-1]:
            container = self._child(container, _unescape(part))
            if not isinstance(container, (dict, list)):
                raise PatchError(f"{otherwise}: missing value")
            self.touched.add(id(container))
        return container, _unescape(parts[-1])

    def _child(self, container: Any, key: str) -> Any:
        if isinstance(container, dict):
            return container.get(key, _MISSING)
        return container[_position(container, key)] if _in_range(container, key) else _MISSING

    def _move(self, source: str, operation: dict[str, Any]) -> None:
        container, key = self._find(source, f"move operation does not apply: doc is missing from path: {source}")
        with _within(f"error in move for path: '{key}'"):
            value = _get(container, key)
            _remove(container, key)
        path = self._text(operation, "path")
        target, key = self._find(path, f"move operation does not apply: doc is missing destination path: {path}")
        with _within(f"error in move for path: '{path}'"):
            _add(target, key, None if value is _MISSING else value)

    def _duplicate(self, source: str, operation: dict[str, Any]) -> None:
        container, key = self._find(source, f"copy operation does not apply: doc is missing from path: {source}")
        with _within(f"error in copy for from: '{source}'"):
            value = _get(container, key)
        path = self._text(operation, "path")
        target, key = self._find(path, f"copy operation does not apply: doc is missing destination path: {path}")
        _add(target, key, None if value is _MISSING else self._copy(value))

    def _add(self, path: str, value: Any) -> None:
        container, key = self._find(path, f'add operation does not apply: doc is missing path: "{path}"')
        with _within(f"error in add for path: '{path}'"):
            _add(container, key, value)

    def _remove(self, path: str) -> None:
        container, key = self._find(path, f'remove operation does not apply: doc is missing path: "{path}"')
        with _within(f"error in remove for path: '{path}'"):
            _remove(container, key)

    def _replace(self, path: str, value: Any) -> None:
        if not path:
            if not isinstance(value, (dict, list)):
                raise PatchError("replace operation value must be object or array")
            self.document = value
            self.touched.add(id(value))
            return
        container, key = self._find(path, f"replace operation does not apply: doc is missing path: {path}")
        if isinstance(container, dict):
            container[key] = value
            return
        try:
            container[_index(container, key)] = value
        except PatchError:
            message = f"replace operation does not apply: doc is missing key: {path}: missing value"
            raise PatchError(message) from None

    def _test(self, path: str, value: Any) -> None:
        current = self.document
        if path:
            container, key = self._find(path, f"test operation does not apply: is missing path: {path}")
            with _within(f"error in test for path: '{path}'"):
                current = _get(container, key)
        if not _equal(None if current is _MISSING else current, value):
            raise PatchError(f"testing value {path} failed: test failed")
        self._touch(current)

    def _touch(self, value: Any) -> None:
        """What is compared is read, too, down to its last value."""
        if isinstance(value, (dict, list)):
            self.touched.add(id(value))
            for item in value.values() if isinstance(value, dict) else value:
                self._touch(item)


@contextmanager
def _within(message: str) -> Iterator[None]:
    try:
        yield
    except PatchError as wrong:
        raise PatchError(f"{message}: {wrong}") from None


def _get(container: Any, key: str) -> Any:
    return container.get(key, _MISSING) if isinstance(container, dict) else container[_index(container, key)]


def _add(container: Any, key: str, value: Any) -> None:
    if isinstance(container, dict):
        container[key] = value
    elif key == "-":
        container.append(value)
    else:
        container.insert(_index(container, key, extra=1), value)


def _remove(container: Any, key: str) -> None:
    if isinstance(container, list):
        del container[_index(container, key)]
    elif key in container:
        del container[key]
    else:
        raise PatchError(f"Unable to remove nonexistent key: {key}: missing value")


def _unescape(part: str) -> str:
    return re.sub("~[01]", lambda m: "/" if m[0] == "~1" else "~", part)


def _in_range(items: list[Any], key: str) -> bool:
    return bool(_INDEX(key)) and -len(items) <= int(key) < len(items)


def _position(items: list[Any], key: str) -> int:
    return int(key) % len(items)


def _index(items: list[Any], key: str, extra: int = 0) -> int:
    """The place in the list, or with ``extra`` also the one behind its end."""
    if not _INDEX(key):
        raise PatchError(f"value was not a proper array index: '{key}'")
    index, size = int(key), len(items) + extra
    if not -size <= index < size:
        raise PatchError(f"Unable to access invalid index: {index}: invalid index referenced")
    return index + size if index < 0 else index


def _equal(left: Any, right: Any) -> bool:
    if isinstance(left, Number) or isinstance(right, Number):
        # Numbers are compared as they are written.
        return _number_text(left) == _number_text(right)
    if type(left) is not type(right):
        return False
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(_equal(value, right[key]) for key, value in left.items())
    if isinstance(left, list):
        return len(left) == len(right) and all(map(_equal, left, right))
    return bool(left == right)


def _number_text(value: Any) -> str:
    if isinstance(value, Number):
        return value.text
    return json_text(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else ""


def _text_size(value: Any) -> int:
    try:
        return len(orjson.dumps(value, default=_written_number))
    except TypeError:
        raise PatchError("exceeded max depth") from None


def _written_number(value: Any) -> orjson.Fragment:
    return orjson.Fragment(_number_text(value).encode())
