"""``Glance``: what selectors need of a stored value, without making the object that it holds.

Filling the cache of a resource reads every value that the store has, and nearly all of them are this server's own: they
are kept as they are, and a few fields of them are all that anybody has to know. A value that is anything but what this
server would write is not for a glance, and is read whole.

Source: KEP-2340; https://jcristharif.com/msgspec/perf-tips.html for reading some fields of many
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import attrgetter
from typing import Any

import msgspec
from msgspec import UNSET

from tiphys.apiserver.storage.fields import Field, Fields, text_of

_LINES = (b"\n", b"\t", b"\r")
_WHITE = (b" ", *_LINES)
_BLANKS = (b'": ', b'", ')
_TOGETHER = 50
"""How many values are looked at together for blanks: so few that the processor still has them at hand."""
_UID = b'"uid":"'
_UID_LENGTH = 36
_UID_END = len(_UID) + _UID_LENGTH

Seen = tuple[dict[str, str] | None, Fields, int]
"""What is seen of a value: its labels, the fields for selectors, and where the uid ends in it, its quote included."""


class _Meta(msgspec.Struct, frozen=True, gc=False):
    """What every object must have for a glance to be enough."""

    name: str
    uid: str = ""
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    resourceVersion: Any = UNSET


class Glance:
    """Called with a value it returns what is seen of its object; None if it has to be read whole.

    ``start`` begins the values that this server writes.
    """

    def __init__(self, start: bytes, fields: Sequence[Field]) -> None:
        self._start = start
        self._fields = fields
        wanted = [field for field in fields if field.name]
        others = [field.other for field in wanted if field.other is not None]
        self._decode = msgspec.json.Decoder(_seen(others + wanted)).decode
        self._read = _reader([_path(field) for field in fields])

    def __call__(self, value: bytes) -> Seen | None:
        return next(self.many((value,)))

    def many(self, values: Sequence[bytes]) -> Iterator[Seen | None]:
        """The same for each of many values. In one piece, as a start looks at all that there are."""
        start, decode, read, are_as_written = self._start, self._decode, self._read, False
        for number, value in enumerate(values):
            if number % _TOGETHER == 0:
                are_as_written = _are_as_written(values[number : number + _TOGETHER])
            if not value.startswith(start) or not (are_as_written or _is_as_written(value)):
                yield None
                continue
            try:
                seen: Any = decode(value)
            except msgspec.DecodeError:
                yield None
                continue
            meta = seen.metadata
            end = value.find(_UID) + _UID_END
            if meta.resourceVersion is not UNSET or value[end - _UID_LENGTH : end] != meta.uid.encode():
                yield None
                continue
            fields = read(seen)
            yield meta.labels, fields if _are_texts(fields) else self._as_texts(fields, seen), end + 1

    def _as_texts(self, values: tuple[Any, ...], seen: Any) -> Fields:
        def value_of(field: Field) -> object:
            return attrgetter(_path(field))(seen)

        return tuple([text_of(field, value, value_of) for field, value in zip(self._fields, values, strict=True)])


def _are_texts(fields: tuple[Any, ...]) -> bool:
    try:
        "".join(fields)  # a third of the time that it takes to look at their types
    except TypeError:
        return False
    return True


def _are_as_written(values: Sequence[bytes]) -> bool:
    """Whether all of them certainly are as written, for a small part of what it costs to look at each."""
    text = b"".join(values)
    return text.isascii() and not any(blank in text for blank in _WHITE)


def _is_as_written(value: bytes) -> bool:
    """Whether a value has no blanks between its tokens, and is UTF-8."""
    if any(line in value for line in _LINES):
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


_NEVER = "never_"
"""Stands for a field that is never filled in; an attribute of every type, not a field of it."""


def _path(field: Field) -> str:
    return ".".join((*field.parents, field.name)) if field.name else _NEVER


def _reader(paths: Sequence[str]) -> Callable[[Any], tuple[Any, ...]]:
    """A function that reads the values at some paths."""
    if len(paths) > 1:
        return attrgetter(*paths)
    return lambda seen: tuple([attrgetter(path)(seen) for path in paths])


def _seen(fields: Iterable[Field]) -> type[msgspec.Struct]:
    """The type of an object with some fields, each of any value: absent ones have what stands for them."""
    leaves: dict[str, Any] = {"metadata": (_Meta,)}
    for field in fields:
        place = leaves
        for parent in field.parents:
            place = place.setdefault(parent, {})
        place[field.name] = (Any, field.default if field.other is None else None)
    return _struct("Seen", leaves)


def _struct(name: str, members: dict[str, Any]) -> type[msgspec.Struct]:
    fields: list[tuple[str, Any] | tuple[str, Any, Any]] = []
    for member, kind in members.items():
        if isinstance(kind, dict):
            inner = _struct(member, kind)
            fields.append((member, inner, inner()))
        else:
            fields.append((member, *kind))
    return msgspec.defstruct(name, fields, frozen=True, gc=False, namespace={_NEVER: ""})
