"""``Glance``: what selectors need of a stored value, without making the object that it holds.

Filling the cache of a resource reads every value that the store has, and nearly all of them are this server's own: they
are kept as they are, and a few fields of them are all that anybody has to know. A value that is anything but what this
server would write is not for a glance, and is read whole.

Source: KEP-2340; https://jcristharif.com/msgspec/perf-tips.html for reading some fields of many
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypedDict

import msgspec

from tiphys.api.object import Object

_SELECTED_ALWAYS = {("metadata", name) for name in ("name", "uid", "resourceVersion")}
_BLANKS = (b'": ', b'", ')


class _Texts(TypedDict, total=False):
    labels: dict[str, str] | None
    annotations: dict[str, str] | None


class Glance:
    """Called with a value it returns the object with those ``fields`` (paths) alone, labels and annotations; None if
    the value has to be read whole. ``start`` begins the values that this server writes."""

    def __init__(self, start: bytes, fields: Iterable[tuple[str, ...]]) -> None:
        self._start = start
        self._decode = msgspec.json.Decoder(_type_of(_SELECTED_ALWAYS | set(fields))).decode

    def __call__(self, value: bytes) -> Object | None:
        if not value.startswith(self._start) or not _is_as_written(value):
            return None
        try:
            obj: Object = self._decode(value)
        except msgspec.DecodeError:
            return None
        meta = obj["metadata"]
        if type(meta.get("name")) is not str or "resourceVersion" in meta:
            return None
        at = value.find(b'"uid":"')
        return obj if value[at + 7 : at + 43].decode() == meta.get("uid") else None


def _is_as_written(value: bytes) -> bool:
    """Whether a value has no blanks between its tokens, and is UTF-8."""
    if b"\n" in value or b"\t" in value or b"\r" in value:
        return False
    if b" " in value and any(blank in value for blank in _BLANKS):
        return False
    return value.isascii() or _is_text(value)


def _is_text(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def _type_of(fields: Iterable[tuple[str, ...]], name: str = "") -> Any:
    """The type of a dict that has these paths, each of any value."""
    inner: dict[str, set[tuple[str, ...]]] = {}
    for first, *rest in fields:
        inner.setdefault(first, set()).update([tuple(rest)] if rest else [])
    types = {first: _type_of(rest, first) if rest else Any for first, rest in inner.items()}
    if name == "metadata":
        types |= _Texts.__annotations__
    return TypedDict(f"Some{name}", types, total=False)  # type: ignore[operator]
