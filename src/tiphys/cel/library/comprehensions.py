"""Folds with two variables, and what their macros call.

Source: https://pkg.go.dev/github.com/google/cel-go/ext#TwoVarComprehensions
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tiphys.cel.checking.declarations import Library, overload
from tiphys.cel.parsing import macros
from tiphys.cel.values import CelError, shown


def insert(target: Mapping[Any, Any], *more: Any) -> dict[Any, Any]:
    """A map with an entry, or with those of another map; a key may not be there yet."""
    entries = more[0] if len(more) == 1 else {more[0]: more[1]}
    for key in entries:
        if key in target:
            raise CelError(f"insert failed: key {shown(key)} already exists")
    return {**target, **entries}


LIBRARY = Library(
    [
        overload("@mapInsert_map_key_value", macros.MAP_INSERT, "map(K, V), K, V -> map(K, V)", insert),
        overload("@mapInsert_map_map", macros.MAP_INSERT, "map(K, V), map(K, V) -> map(K, V)", insert),
    ],
    macros.TWO_VARIABLES,
)
BINDINGS = Library(macros=macros.BINDINGS)
