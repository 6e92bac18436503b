"""What the source of an expression calls when it runs: selections, indexes, loops and literals in full generality.

The source itself knows the common case. Where a step may cost or not, the cost is returned beside the value.

Source: https://github.com/google/cel-spec/blob/master/doc/langdef.md
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tiphys.cel import limits
from tiphys.cel.arithmetic import MISSING, find
from tiphys.cel.library.runtimecosts import equality_cost, smaller_cost
from tiphys.cel.parsing.escaping import RESERVED
from tiphys.cel.types import Kind
from tiphys.cel.values import NO_OVERLOAD, NONE, CelError, Message, Optional, equal, shown, type_of

_KEYS = frozenset((Kind.BOOL, Kind.INT, Kind.UINT, Kind.STRING, Kind.DOUBLE))


def absent(name: str) -> CelError:
    return CelError(f"no such attribute(s): {name}")


def no_overload() -> CelError:
    return CelError(NO_OVERLOAD)


def overflow() -> CelError:
    return CelError("integer overflow")


def kept(error: CelError) -> None:
    """An operator or a fold keeps the error. Steps that fail cost nothing, so their number has a bound of its own."""
    error.with_traceback(None)
    limits.keep_error()


# Selections and indexes


def field(holder: Any, name: str) -> Any:
    """MISSING if it is not there, or the holder an optional."""
    if isinstance(holder, dict):
        value = holder.get(name, MISSING)
        if value is MISSING and name in RESERVED:
            return holder.get(f"__{name}__", MISSING)
        return value
    if isinstance(holder, Message):
        return holder.fields.get(name, MISSING)
    return holder.get(name, MISSING) if isinstance(holder, Mapping) else MISSING


def no_field(holder: Any, name: str) -> tuple[Any, int]:
    """What a selection gives that found nothing: a field of an optional, or an error."""
    if type(holder) is Optional:
        return of_optional(holder, name)
    raise CelError(f"no such key: {name}")


def present(holder: Any, name: str) -> bool:
    if type(holder) is Optional:
        holder = holder.value if holder.present else None
    return field(holder, name) is not MISSING


def element(holder: Any, wanted: Any) -> tuple[Any, int]:
    """``list[i]`` or ``map[key]``; raises CelError if it is not there."""
    if type(holder) is Optional:
        return of_optional(holder, wanted)
    value = _element(holder, wanted)
    if value is MISSING:
        what = "index out of bounds" if isinstance(holder, list) else "no such key"
        raise CelError(f"{what}: {shown(wanted)}")
    return value, 1


def _element(holder: Any, key: Any) -> Any:
    if isinstance(holder, list):
        if isinstance(key, bool) or not isinstance(key, int | float) or key != int(key):
            raise CelError(f"unsupported index type '{type_of(key).name}' in list")
        return holder[int(key)] if 0 <= key < len(holder) else MISSING
    if isinstance(holder, Mapping):
        return find(holder, key)
    return field(holder, key) if isinstance(key, str) else MISSING


def of_optional(holder: Any, key: Any) -> tuple[Optional, int]:
    """What the holder, or what is in it, has for the key."""
    if type(holder) is Optional:
        if not holder.present:
            return holder, 0
        holder = holder.value
    value = field(holder, key) if isinstance(key, str) and not isinstance(holder, list) else _element(holder, key)
    return (NONE, 0) if value is MISSING else (Optional(value), 1)


# Folds


def turns(over: Any) -> Iterable[Any]:
    """What a fold goes through: elements, or keys."""
    if isinstance(over, list | Mapping):
        return over
    raise CelError(f"got '{type_of(over).name}', expected iterable type")


def paired_turns(over: Any) -> Iterable[tuple[Any, Any]]:
    if isinstance(over, Mapping):
        return over.items()
    return enumerate(turns(over))


def insert(target: dict[Any, Any], *more: Any) -> None:
    """Into an accumulator, a key and its value or the entries of a map; a key may not be there yet."""
    entries = more[0] if len(more) == 1 else {more[0]: more[1]}
    for key in entries:
        if key in target:
            raise CelError(f"insert failed: key {shown(key)} already exists")
    target.update(entries)


# Literals with parts


def add_optional(items: list[Any], value: Any) -> None:
    if type(value) is not Optional:
        message = "cannot initialize optional list element from non-optional value"
        raise CelError(f"{message} {shown(value)}")
    if value.present:
        items.append(value.value)


def add_entry(entries: dict[Any, Any], key: Any, value: Any, *, optional: bool) -> None:
    """Raises ``CelError`` for repeated keys and keys of other types than CEL allows."""
    if type_of(key).kind not in _KEYS:
        raise CelError(f"unsupported key type: {type_of(key).name}")
    if optional and (value := _initial(key, value)) is MISSING:
        entries.pop(key, None)
        return
    if key in entries:
        raise CelError(f"Failed with repeated key: {shown(key)}")
    entries[key] = value


def add_field(fields: dict[str, Any], name: str, value: Any) -> None:
    """An optional field; left out if there is no value."""
    if (value := _initial(name, value)) is MISSING:
        fields.pop(name, None)
    else:
        fields[name] = value


def _initial(name: Any, value: Any) -> Any:
    """What an optional entry is made with; MISSING if it is left out."""
    if type(value) is not Optional:
        raise CelError(f"cannot initialize optional entry '{shown(name)}' from non-optional value {shown(value)}")
    return value.value if value.present else MISSING


# Equality


def equality(a: Any, b: Any) -> tuple[bool, int]:
    return equal(a, b), equality_cost(a, b)


def inequality(a: Any, b: Any) -> tuple[bool, int]:
    return not equal(a, b), smaller_cost(a, b)
