"""JSON Merge Patch, RFC 7386."""

from __future__ import annotations

from typing import Any


def merge_patch(obj: Any, patch: Any) -> Any:
    """The patched object; shares unchanged parts with ``obj``."""
    return merged(obj, patch, set())


def merged(obj: Any, patch: Any, touched: set[int]) -> Any:
    """``touched`` collects the containers that the patch went into, by id: those are written with sorted keys."""
    if not isinstance(obj, dict):
        return without_nulls(patch, touched)
    if not isinstance(patch, dict):
        return patch
    result = dict(obj)
    touched.add(id(result))
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        elif result.get(key) is None:
            result[key] = without_nulls(value, touched)
        else:
            result[key] = merged(result[key], value, touched)
    return result


def without_nulls(value: Any, touched: set[int]) -> Any:
    """A value that is new: nulls in its objects say that there is nothing; those in its lists stay."""
    result: Any
    if isinstance(value, dict):
        result = {key: without_nulls(item, touched) for key, item in value.items() if item is not None}
    elif isinstance(value, list):
        result = [without_nulls(item, touched) for item in value]
    else:
        return value
    touched.add(id(result))
    return result
