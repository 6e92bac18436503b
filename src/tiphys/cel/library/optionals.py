"""Optional values: ``a.?b``, ``a[?b]``, ``optional.of`` and what chains them.

Source: https://github.com/google/cel-spec/wiki/proposal-246
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tiphys.cel import types
from tiphys.cel.checking.declarations import Library, member, overload
from tiphys.cel.parsing import macros
from tiphys.cel.values import NONE, CelError, Duration, Message, Optional, shown


def _is_zero(value: Any) -> bool:
    if isinstance(value, Duration):
        return value.nanos == 0
    if isinstance(value, Message):
        return not value.fields
    if isinstance(value, Optional):
        return not value.present
    if value is None or isinstance(value, bool | int | float | str | bytes | list | Mapping):
        return not value
    return False


def _of_non_zero(value: Any) -> Optional:
    return NONE if _is_zero(value) else Optional(value)


def _unwrap(items: list[Any]) -> list[Any]:
    values = list[Any]()
    for item in items:
        if not isinstance(item, Optional):
            raise CelError(f"value {shown(item)} is not optional")
        if item.present:
            values.append(item.value)
    return values


LIBRARY = Library(
    [
        overload("optional_of", "optional.of", "V -> optional(V)", Optional),
        overload("optional_ofNonZeroValue", "optional.ofNonZeroValue", "V -> optional(V)", _of_non_zero),
        overload("optional_none", "optional.none", "-> optional(V)", lambda: NONE),
        member("optional_value", "value", "optional(V) -> V", Optional.get),
        member("optional_hasValue", "hasValue", "optional(V) -> bool", lambda value: value.present),
        member("optional_or_optional", "or", "optional(V), optional(V) -> optional(V)"),
        member("optional_orValue_value", "orValue", "optional(V), V -> V"),
        overload("select_optional_field", "_?._", "dyn, string -> optional(V)"),
        overload("list_optindex_optional_int", "_[?_]", "list(V), int -> optional(V)"),
        overload("optional_list_optindex_optional_int", "_[?_]", "optional(list(V)), int -> optional(V)"),
        overload("map_optindex_optional_value", "_[?_]", "map(K, V), K -> optional(V)"),
        overload("optional_map_optindex_optional_value", "_[?_]", "optional(map(K, V)), K -> optional(V)"),
        overload("optional_list_index_int", "_[_]", "optional(list(V)), int -> optional(V)"),
        overload("optional_map_index_value", "_[_]", "optional(map(K, V)), K -> optional(V)"),
        member("list_last", "last", "list(V) -> optional(V)", lambda items: Optional(items[-1]) if items else NONE),
        member("list_first", "first", "list(V) -> optional(V)", lambda items: Optional(items[0]) if items else NONE),
        overload("optional_unwrap", "optional.unwrap", "list(optional(V)) -> list(V)", _unwrap),
        member("optional_unwrapOpt", "unwrapOpt", "list(optional(V)) -> list(V)", _unwrap),
    ],
    macros.OPTIONALS,
    [types.opaque(types.OPTIONAL)],
)
