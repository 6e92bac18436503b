"""JSON Merge Patch, RFC 7386."""

from __future__ import annotations

from typing import Any


def merge_patch(obj: Any, patch: Any) -> Any:
    """The patched object; shares unchanged parts with the original."""
    return merged(obj, patch, set())


def merged(obj: Any, patch: Any, touched: set[int]) -> Any:
    """``touched`` collects the containers that the patch went into, by id: those are written with sorted keys."""
    if not isinstance(obj, dict):
        return without_nulls(patch, touched)
    if not isinstance(patch, dict):
        return patch
    found = dict(obj)
    touched.add(id(found))
    for key, value in patch.items():
        if value is None:
            found.pop(key, None)
        elif found.get(key) is None:
            found[key] = without_nulls(value, touched)
        else:
            found[key] = merged(found[key], value, touched)
    return found


def without_nulls(value: Any, touched: set[int]) -> Any:
    """A value that is new: nulls in its objects say that there is nothing; those in its lists stay."""
    found: Any
    if isinstance(value, dict):
        found = {key: without_nulls(item, touched) for key, item in value.items() if item is not None}
    elif isinstance(value, list):
        found = [without_nulls(item, touched) for item in value]
    else:
        return value
    touched.add(id(found))
    return found
