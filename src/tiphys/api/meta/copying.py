"""Deep copies of API objects.

Objects are trees of dicts, lists and immutable scalars, so a copy needs none of what ``copy.deepcopy`` cares for.
"""

from __future__ import annotations

from typing import Any, TypeVar

T = TypeVar("T")


def copy(value: T) -> T:
    """A copy that shares no dict and no list with the original."""
    found: Any = value
    if value.__class__ is dict:
        found = {k: (v if v.__class__ is str else copy(v)) for k, v in value.items()}  # type: ignore[attr-defined]
    elif value.__class__ is list:
        found = [(v if v.__class__ is str else copy(v)) for v in value]  # type: ignore[attr-defined]
    return found  # type: ignore[no-any-return]
