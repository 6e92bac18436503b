"""The order of a merged list: what the patch names in its order, and what only the server has, in between.

Source: the design "Preserve order in strategic merge patch" of the community repository.
"""

from __future__ import annotations

from typing import Any

from tiphys.api.gotext import value_text
from tiphys.api.patch.failures import PatchError
from tiphys.api.patch.gotypes import same_value


def index_of(items: list[Any], wanted: Any, merge_key: str) -> int:
    """The place of the item with the same key (or value, without a merge key); -1 where there is none."""
    if not merge_key:
        return next((i for i, item in enumerate(items) if same_value(item, wanted)), -1)
    value = wanted.get(merge_key)
    for index, item in enumerate(items):
        if not isinstance(item, dict):
            raise PatchError(f"value for key {index} is not a map")
        if merge_key in item and same_value(item[merge_key], value):
            return index
    return -1


def partition(items: list[Any], named: list[Any], merge_key: str) -> tuple[list[Any], list[Any]]:
    """The items that ``named`` names, and the others."""
    ours: list[Any] = []
    theirs: list[Any] = []
    for item in items:
        if merge_key and merge_key not in item:
            raise PatchError(f"map: {value_text(item)} does not contain declared merge key: {merge_key}")
        (ours if index_of(named, item, merge_key) >= 0 else theirs).append(item)
    return ours, theirs


def normalized(
    ours: list[Any], theirs: list[Any], order: list[Any], server_order: list[Any], merge_key: str
) -> list[Any]:
    """Both lists interleaved: each in its own order, and among each other as the server had them."""
    for items in (ours, order, theirs, server_order):
        for item in items:
            if merge_key and merge_key not in item:
                raise PatchError(f"map: {value_text(item)} does not contain declared merge key: {merge_key}")
    left = sorted(theirs, key=lambda item: index_of(server_order, item, merge_key))
    right = sorted(ours, key=lambda item: index_of(order, item, merge_key))
    found: list[Any] = []
    i = j = 0
    while i < len(left) and j < len(right):
        before = index_of(server_order, left[i], merge_key)
        after = index_of(server_order, right[j], merge_key)
        if 0 <= before < after:
            found.append(left[i])
            i += 1
        else:
            found.append(right[j])
            j += 1
    return [*found, *left[i:], *right[j:]]
