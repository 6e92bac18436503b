"""Lists that are sets or maps hold each item, or each key, once.

Source: KEP-555; https://kubernetes.io/docs/reference/using-api/server-side-apply/#merge-strategy
"""

from __future__ import annotations

from typing import Any

from tiphys.api import fielderrors
from tiphys.api.fielderrors import FieldError
from tiphys.api.gotext import json_text

Errors = list[FieldError]


def repeated(value: Any, schema: Any, path: str = "") -> Errors:
    """An error for every repeated item."""
    if not isinstance(schema, dict):
        return []
    errs: Errors = []
    if isinstance(value, dict):
        properties, more = schema.get("properties") or {}, schema.get("additionalProperties")
        for name, inner in value.items():
            errs += repeated(inner, more, f"{path}[{name}]")
            errs += repeated(inner, properties.get(name), f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        list_type = schema.get("x-kubernetes-list-type")
        if list_type == "set":
            errs += [fielderrors.duplicate(f"{path}[{i}]", value[i]) for i in _again(value)]
        elif list_type == "map":
            errs += _map(value, schema.get("x-kubernetes-list-map-keys") or [], path)
        for i, item in enumerate(value):
            errs += repeated(item, schema.get("items"), f"{path}[{i}]")
    return errs


def _map(value: list[Any], keys: list[str], path: str) -> Errors:
    for i, item in enumerate(value):
        if item is not None and not isinstance(item, dict):
            return [fielderrors.invalid(f"{path}[{i}]", item, "must be an object for an array of list-type map")]
    keys_of_items = [{key: item[key] for key in keys if key in (item or {})} for item in value]
    return [fielderrors.duplicate(f"{path}[{i}]", keys_of_items[i]) for i in _again(keys_of_items)]


def _again(items: list[Any]) -> list[int]:
    """The index of the second occurrence of each repeated item."""
    seen: dict[str, int] = {}
    repeats: list[int] = []
    for i, item in enumerate(items):
        text = json_text(_sorted(item))
        seen[text] = seen.get(text, 0) + 1
        if seen[text] == 2:
            repeats.append(i)
    return repeats


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(item) for item in value] if isinstance(value, list) else value
