"""Values as upstream's error messages print them: the internal form of a structure, and the difference between two.

See ``internaltypes`` for the shapes. All of this runs only when there is an error to report, and shows the start of
what is larger than anybody reads: an item of two bytes on the wire may have forty fields here.
"""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass
from functools import cache
from itertools import islice
from typing import Any

from tiphys.api.object import Object
from tiphys.validation.shared.internaltypes import TABLE
from tiphys.validation.shared.objectmeta import META_FIELDS

Field = tuple[str, str, str]

_ZERO: dict[str, Any] = {"s": "", "i": 0, "b": False, "q": "0", "t": None, "x": 0, "map": None}
# What Go's JSON escapes and Python's does not; none of it occurs outside of strings.
_ESCAPED = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"})
# In the internal form these stand in the pod's security context.
_FROM_SPEC = ("HostNetwork", "HostPID", "HostIPC", "ShareProcessNamespace", "HostUsers")

_MOST_FIELDS = 20_000
"""A value shows as many; the lists in which they are used up end there."""
_MOST_ITEMS = 300
"""Of two longer lists or maps, a difference shows these from the first item on that differs."""
_MOST_LINES = 2000
"""So many lines are compared at most: comparing may take the square of them."""


@dataclass(slots=True)
class _Room:
    """For the fields that a value may still show."""

    left: int = _MOST_FIELDS


@cache
def _structs() -> dict[str, list[Field]]:
    """Struct → its fields as (name, name on the wire, kind); an embedded struct has no name."""
    structs: dict[str, list[Field]] = {}
    current: list[Field] = []
    for line in TABLE.strip().splitlines():
        words = line.split()
        if not line.startswith(" "):
            current = structs[words.pop(0)] = []
        for word in words:
            if word.startswith("@"):
                current.append(("", "", word[1:]))
                continue
            names, _, kind = word.partition(":")
            name, _, wire = names.partition("=")
            current.append((name, wire or name[:1].lower() + name[1:], kind))
    return structs


def internal_value(
    struct: str, value: Object | None, parent: Object | None = None, room: _Room | None = None
) -> dict[str, Any] | None:
    """A wire value in its internal form. ``parent`` is the pod's specification, for its security context."""
    if value is None:
        return None
    room = room or _Room()
    fields = _structs()[struct]
    room.left -= len(fields)
    shown: dict[str, Any] = {}
    for name, wire, kind in fields:
        if not name:
            if kind != "json":
                shown.update(internal_value(kind, value, room=room) or {})
            continue
        if struct == "PodSecurityContext" and name in _FROM_SPEC:
            current = (parent or {}).get(name[0].lower() + name[1:])
        else:
            current = value.get(wire)
        shown[name] = _convert(kind, current, value, room)
    return shown


def _convert(kind: str, value: Any, parent: Object, room: _Room) -> Any:
    if kind.startswith("*"):
        return None if value is None else _convert(kind[1:], value, parent, room)
    if kind.startswith("[]"):
        return None if value is None else _list(kind[2:], value, parent, room)
    if kind == "map":
        return None if value is None else {key: value[key] for key in sorted(value)}
    if kind in _ZERO:
        return _ZERO[kind] if value is None else value
    if kind == "j":
        return {} if value is None else value
    if kind == "selector":
        return _selector(value or {})
    return internal_value(kind, {} if value is None else value, parent, room)


def _list(kind: str, value: list[Any], parent: Object, room: _Room) -> list[Any]:
    shown: list[Any] = []
    for item in value:
        if room.left <= 0:
            break
        room.left -= 1
        shown.append(_convert(kind, item, parent, room))
    return shown


def _selector(value: Object) -> Object:
    """A label selector, which looks as on the wire."""
    shown: Object = {}
    if labels := value.get("matchLabels"):
        shown["matchLabels"] = {key: labels[key] for key in sorted(labels)}
    if expressions := value.get("matchExpressions"):
        shown["matchExpressions"] = [
            {"key": "", "operator": "", **{key: e[key] for key in ("key", "operator", "values") if e.get(key)}}
            for e in expressions
        ]
    return shown


def spec_diff(struct: str, old: Object, new: Object) -> str:
    """The unified difference of two structures, as indented JSON with three lines of context."""
    old, new = _narrowed(old, new)
    return difference(internal_value(struct, old), internal_value(struct, new))


def pod_spec_diff(old: Object, new: Object) -> str:
    """The difference of two pod specifications, some of whose fields stand in the security context internally."""
    old, new = _narrowed(old, new)
    return difference(pod_spec_value(old), pod_spec_value(new))


def _narrowed(old: Any, new: Any) -> tuple[Any, Any]:
    """Two values without what a difference need not show: of long lists and maps the part in which they differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        if max(len(old), len(new)) > _MOST_ITEMS:
            differing = (key for key in {**old, **new} if old.get(key) != new.get(key))
            keep = set(islice(differing, _MOST_ITEMS))
            return {key: old[key] for key in old if key in keep}, {key: new[key] for key in new if key in keep}
        pairs = {key: _narrowed(value, new[key]) for key, value in old.items() if key in new}
        return old | {key: pair[0] for key, pair in pairs.items()}, new | {key: pair[1] for key, pair in pairs.items()}
    if isinstance(old, list) and isinstance(new, list):
        if max(len(old), len(new)) > _MOST_ITEMS:
            first = _first_difference(old, new)
            old, new = old[first : first + _MOST_ITEMS], new[first : first + _MOST_ITEMS]
        both = [_narrowed(a, b) for a, b in zip(old, new, strict=False)]
        return [a for a, _ in both] + old[len(both) :], [b for _, b in both] + new[len(both) :]
    return old, new


def _first_difference(old: list[Any], new: list[Any]) -> int:
    unequal = (i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b)
    return next(unequal, min(len(old), len(new)))


def difference(old: Any, new: Any) -> str:
    before, after = _lines(old), _lines(new)
    if max(len(before), len(after)) > _MOST_LINES:
        first = max(_first_difference(before, after) - 3, 0)
        before, after = before[first : first + _MOST_LINES], after[first : first + _MOST_LINES]
    return "".join(list(difflib.unified_diff(before, after, n=3))[2:])


def _lines(value: Any) -> list[str]:
    text = json.dumps(value, indent=1, ensure_ascii=False, separators=(",", ": ")).translate(_ESCAPED)
    return [line + "\n" for line in text.split("\n")]


def pod_spec_value(spec: Object) -> dict[str, Any]:
    room = _Room()
    context = internal_value("PodSecurityContext", spec.get("securityContext") or {}, spec, room)
    shown = internal_value("PodSpec", spec, room=room) or {}
    shown["SecurityContext"] = context
    return shown


def metadata_shown(template: Object) -> dict[str, Any]:
    """Metadata in the internal form of a template: its fields stand beside the specification, empty ones do not."""
    meta = template.get("metadata") or {}
    shown: dict[str, Any] = {}
    for key in META_FIELDS:
        value = meta.get(key)
        if value:
            shown[key] = {name: value[name] for name in sorted(value)} if isinstance(value, dict) else value
    return shown


def template_value(template: Object) -> dict[str, Any]:
    """A pod template in its internal form."""
    return {**metadata_shown(template), "Spec": pod_spec_value(template.get("spec") or {})}
