"""Values as upstream's error messages print them: the internal form of a structure, and the difference between two.

See ``internaltypes`` for the shapes. All of this runs only when there is an error to report.
"""

from __future__ import annotations

import difflib
import json
from functools import cache
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


def internal_value(struct: str, value: Object | None, parent: Object | None = None) -> dict[str, Any] | None:
    """A wire value in its internal form. ``parent`` is the pod's specification, for its security context."""
    if value is None:
        return None
    shown: dict[str, Any] = {}
    for name, wire, kind in _structs()[struct]:
        if not name:
            if kind != "json":
                shown.update(internal_value(kind, value) or {})
            continue
        if struct == "PodSecurityContext" and name in _FROM_SPEC:
            current = (parent or {}).get(name[0].lower() + name[1:])
        else:
            current = value.get(wire)
        shown[name] = _convert(kind, current, value)
    return shown


def _convert(kind: str, value: Any, parent: Object) -> Any:
    if kind.startswith("*"):
        return None if value is None else _convert(kind[1:], value, parent)
    if kind.startswith("[]"):
        return None if value is None else [_convert(kind[2:], item, parent) for item in value]
    if kind == "map":
        return None if value is None else {key: value[key] for key in sorted(value)}
    if kind in _ZERO:
        return _ZERO[kind] if value is None else value
    if kind == "j":
        return {} if value is None else value
    if kind == "selector":
        return _selector(value or {})
    return internal_value(kind, {} if value is None else value, parent)


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
    return difference(internal_value(struct, old), internal_value(struct, new))


def difference(old: Any, new: Any) -> str:
    return "".join(list(difflib.unified_diff(_lines(old), _lines(new), n=3))[2:])


def _lines(value: Any) -> list[str]:
    text = json.dumps(value, indent=1, ensure_ascii=False, separators=(",", ": ")).translate(_ESCAPED)
    return [line + "\n" for line in text.split("\n")]


def pod_spec_diff(old: Object, new: Object) -> str:
    """The difference of two pod specifications, some of whose fields stand in the security context internally."""
    return difference(pod_spec_value(old), pod_spec_value(new))


def pod_spec_value(spec: Object) -> dict[str, Any]:
    shown = internal_value("PodSpec", spec) or {}
    shown["SecurityContext"] = internal_value("PodSecurityContext", spec.get("securityContext") or {}, spec)
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
