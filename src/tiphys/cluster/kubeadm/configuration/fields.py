"""Reading a document by a table of its fields: unknown fields and wrong types are collected, each with its path. Pure.

A ``Reader`` takes a value, its path and the list of problems, and returns the value in its final form.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from tiphys.runtime import durations

Problems = list[str]
Reader = Callable[[Any, str, Problems], Any]
Fields = Mapping[str, "Reader"]

TOKEN = re.compile(r"[a-z0-9]{6}\.[a-z0-9]{16}")
TOKEN_FORM = r'"\\A([a-z0-9]{6})\\.([a-z0-9]{16})\\z"'


def text(value: Any, path: str, problems: Problems) -> Any:
    return _typed(str, "a text", value, path, problems)


def flag(value: Any, path: str, problems: Problems) -> Any:
    return _typed(bool, "true or false", value, path, problems)


def number(value: Any, path: str, problems: Problems) -> Any:
    if isinstance(value, bool):
        value = str(value).lower()
    return _typed(int, "a whole number", value, path, problems)


def duration(value: Any, path: str, problems: Problems) -> Any:
    """Go's form of a duration; kept as the shortest exact text."""
    try:
        return durations.to_text(durations.parse(_typed(str, 'a duration such as "4m0s"', value, path, []) or "0"))
    except (durations.DurationError, AttributeError):
        problems.append(f'{path}: {value!r} is not a duration; write for example "4m0s" or "24h"')
        return value


def time(value: Any, path: str, problems: Problems) -> Any:
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%dT%H:%M:%SZ")
    try:
        datetime.fromisoformat(str(value))
    except ValueError:
        problems.append(f'{path}: {value!r} is not a time; write for example "2030-01-31T12:00:00Z"')
    return value


def token(value: Any, path: str, problems: Problems) -> Any:
    if not isinstance(value, str) or not TOKEN.fullmatch(value):
        problems.append(f'{path}: the bootstrap token "{value}" was not of the form {TOKEN_FORM}')
    return value


def anything(value: Any, path: str, problems: Problems) -> Any:
    return value


def listed(of: Reader, hint: str = "") -> Reader:
    def read(value: Any, path: str, problems: Problems) -> Any:
        if not isinstance(value, list):
            problems.append(f"{path}: a list is wanted, not {_kind(value)}{hint and f'; {hint}'}")
            return value
        return [of(item, f"{path}[{position}]", problems) for position, item in enumerate(value)]

    return read


def mapped(of: Reader) -> Reader:
    def read(value: Any, path: str, problems: Problems) -> Any:
        if not isinstance(value, dict):
            problems.append(f"{path}: an object is wanted, not {_kind(value)}")
            return value
        return {str(name): of(item, f"{path}.{name}", problems) for name, item in value.items()}

    return read


def record(fields: Fields) -> Reader:
    """An object with these fields and no others; null counts as absent."""

    def read(value: Any, path: str, problems: Problems) -> Any:
        if not isinstance(value, dict):
            problems.append(f"{path}: an object is wanted, not {_kind(value)}")
            return value
        made = {}
        for name, given in value.items():
            inner = f"{path}.{name}" if path else str(name)
            if name not in fields:
                problems.append(f'unknown field "{inner}"{_similar(str(name), fields)}')
            elif given is not None:
                made[name] = fields[name](given, inner, problems)
        return made

    return read


def _similar(name: str, fields: Fields) -> str:
    """A remark if only the case of a letter is wrong, as YAML's users often have it."""
    alike = [known for known in fields if known.lower() == name.lower()]
    return f' (did you mean "{alike[0]}"?)' if alike else ""


def _typed(kind: type, words: str, value: Any, path: str, problems: Problems) -> Any:
    if not isinstance(value, kind):
        problems.append(f"{path}: {words} is wanted, not {_kind(value)}")
    return value


def _kind(value: Any) -> str:
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list"
    return repr(value)
