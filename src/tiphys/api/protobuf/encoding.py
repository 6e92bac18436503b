"""Writing the protobuf form, byte for byte as upstream's generated code does.

A message is compiled once into a list of field writers. Fields stand in order of their numbers; a field that is no
pointer in Go is written even if it is absent, as its zero value; keys of maps are sorted.

Source: https://kubernetes.io/docs/reference/using-api/api-concepts/#protobuf-encoding
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import orjson

from tiphys.api.meta.timestamps import parse_time
from tiphys.api.object import Object
from tiphys.api.protobuf.messages import (
    ALWAYS,
    MAGIC,
    MAP,
    REPEATED,
    SCALARS,
    MessageField,
    message_name,
    messages,
)
from tiphys.runtime.binary.varint import read_varint, varint

Parts = list[bytes]
Encoder = Callable[[Any], bytes]
"""A JSON value to the content of a length-delimited field."""
Writer = Callable[[Parts, Any], None]

_VARINT, _FIXED64, _DELIMITED = 0, 1, 2
_LIST_META = "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta"
_ITEM = b"\x12"
"""The tag of a list's items: field 2, delimited."""


def encode(obj: Object) -> bytes:
    """A body: the object with its envelope. Raises ``ProtobufError`` if its kind has no protobuf form."""
    api_version, kind = obj.get("apiVersion", ""), obj["kind"]
    return wrap(api_version, kind, message_of(message_name(api_version, kind), obj))


def message_of(message: str, obj: Object) -> bytes:
    """The object's own message, without envelope; ``message`` is its full name."""
    return _encoder(message)(obj)


def wrap(api_version: str, kind: str, raw: bytes) -> bytes:
    """The envelope around an object's message: ``k8s\\0`` and a ``runtime.Unknown``."""
    type_meta = _delimited(1, api_version.encode()) + _delimited(2, kind.encode())
    return b"".join((MAGIC, _delimited(1, type_meta), _tag(2, _DELIMITED), varint(len(raw)), raw, b'\x1a\x00"\x00'))


def unwrap(body: bytes) -> bytes:
    """The object's message in a body that ``wrap`` made, without a copy of what is around it."""
    at = len(MAGIC) + 1
    size, at = read_varint(body, at)
    size, at = read_varint(body, at + size + 1)
    return body[at : at + size]


def join(api_version: str, list_kind: str, metadata: Object, items: Iterable[bytes]) -> list[bytes]:
    """A list's body, in pieces, out of the messages of its items."""
    pieces = items_of(items)
    start, end = around(api_version, list_kind, metadata, sum(map(len, pieces)))
    return [start, *pieces, end]


def items_of(messages: Iterable[bytes]) -> list[bytes]:
    """Messages as items of a list, in pieces: of each what stands before it, and itself."""
    pieces: Parts = []
    for message in messages:
        pieces += (_ITEM + varint(len(message)), message)
    return pieces


def around(api_version: str, list_kind: str, metadata: Object, size: int) -> tuple[bytes, bytes]:
    """What stands before and behind the items of a list, which take ``size`` bytes."""
    head = _delimited(1, message_of(_LIST_META, metadata))
    type_meta = _delimited(1, api_version.encode()) + _delimited(2, list_kind.encode())
    start = MAGIC + _delimited(1, type_meta) + _tag(2, _DELIMITED) + varint(len(head) + size) + head
    return start, b'\x1a\x00"\x00'


def watch_event(type: str, body: bytes) -> bytes:
    """A framed ``meta.v1.WatchEvent`` with an object's body, as ``;stream=watch`` sends it."""
    return frame(_delimited(1, type.encode()) + _delimited(2, _delimited(1, body)))


def frame(message: bytes) -> bytes:
    """The message behind its length, four bytes, big-endian."""
    return struct.pack(">I", len(message)) + message


# The wire.


def _tag(number: int, wire: int) -> bytes:
    return varint(number << 3 | wire)


def _delimited(number: int, content: bytes) -> bytes:
    return _tag(number, _DELIMITED) + varint(len(content)) + content


# Messages.


@cache
def _encoder(message: str) -> Encoder:
    special = _SPECIAL.get(message.rpartition(".")[2])
    if special is not None:
        return special
    rows: list[tuple[str, bytes, Writer]] | None = None

    def encode_message(obj: Object) -> bytes:
        nonlocal rows
        if rows is None:  # compiled at the first use, as messages may hold themselves
            rows = [(field.name, _absent(field), _writer(field)) for field in messages()[message]]
        parts: Parts = []
        for name, absent, write in rows:
            value = obj.get(name) if name else obj
            if value is not None:
                write(parts, value)
            elif absent:
                parts.append(absent)
        return b"".join(parts)

    return encode_message


def _absent(field: MessageField) -> bytes:
    """What stands for a field that is absent."""
    if field.presence != ALWAYS or not field.name:
        return b""
    if field.type in _NUMBERS:
        return _tag(field.number, _VARINT) + b"\0"
    if field.type == "double":
        return _tag(field.number, _FIXED64) + bytes(8)
    if field.type in SCALARS:
        return _tag(field.number, _DELIMITED) + b"\0"
    zero = _ZERO.get(field.type.rpartition(".")[2])
    return _delimited(field.number, _encoder(field.type)({}) if zero is None else zero)


def _writer(field: MessageField) -> Writer:
    if field.presence == MAP:
        return _map_writer(field)
    write = _value_writer(field)
    if field.presence != REPEATED:
        return write

    def write_items(parts: Parts, items: Any) -> None:
        for item in items:
            write(parts, item)

    return write_items


def _value_writer(field: MessageField) -> Writer:
    if field.type in _NUMBERS:
        tag = _tag(field.number, _VARINT)
        return lambda parts, value: parts.append(tag + varint(int(value)))
    if field.type == "double":
        tag = _tag(field.number, _FIXED64)
        return lambda parts, value: parts.append(tag + struct.pack("<d", value))
    tag = _tag(field.number, _DELIMITED)
    encode_value = _TEXTS.get(field.type) or _encoder(field.type)

    def write(parts: Parts, value: Any) -> None:
        content = encode_value(value)
        size = len(content)
        parts.append(tag + varint(size) + content)

    return write


def _map_writer(field: MessageField) -> Writer:
    tag = _tag(field.number, _DELIMITED)
    value_field = field._replace(number=2, presence=ALWAYS)
    write_value = _value_writer(value_field)

    def write(parts: Parts, values: Any) -> None:
        for key in sorted(values, key=str.encode):
            entry: Parts = [_delimited(1, key.encode())]
            if values[key] is None:
                entry.append(b"" if field.type == "bytes" else _absent(value_field))
            else:
                write_value(entry, values[key])
            parts.append(tag + varint(sum(map(len, entry))))
            parts += entry

    return write


_NUMBERS = frozenset(("bool", "int32", "int64"))
_TEXTS: dict[str, Encoder] = {"string": str.encode, "bytes": base64.b64decode}


# Types that JSON writes in their own way.


def _time(text: str) -> bytes:
    return b"\x08" + varint(int(parse_time(text).timestamp())) + b"\x10\0" if text else b""


def _micro_time(text: str) -> bytes:
    if not text:
        return b""
    moment = parse_time(text)
    seconds = int(moment.replace(microsecond=0).timestamp())
    return b"\x08" + varint(seconds) + b"\x10" + varint(moment.microsecond * 1000)


def _int_or_string(value: int | str) -> bytes:
    if isinstance(value, str):
        return b"\x08\x01\x10\0" + _delimited(3, value.encode())
    return b"\x08\0\x10" + varint(value) + b"\x1a\0"


def _raw(value: Any) -> bytes:
    return _delimited(1, orjson.dumps(value))


def _strings(values: list[str]) -> bytes:
    return b"".join(_delimited(1, value.encode()) for value in values)


_SCHEMA = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps"


def _schema_or_array(value: Any) -> bytes:
    if isinstance(value, list):
        return b"".join(_delimited(2, _encoder(_SCHEMA)(item)) for item in value)
    return _delimited(1, _encoder(_SCHEMA)(value))


def _schema_or_bool(value: Any) -> bytes:
    if isinstance(value, bool):
        return b"\x08" + varint(value)
    return b"\x08\x01" + _delimited(2, _encoder(_SCHEMA)(value))


def _schema_or_strings(value: Any) -> bytes:
    if isinstance(value, list):
        return b"".join(_delimited(2, item.encode()) for item in value)
    return _delimited(1, _encoder(_SCHEMA)(value))


_SPECIAL: dict[str, Encoder] = {
    "Time": _time,
    "MicroTime": _micro_time,
    "Quantity": lambda value: _delimited(1, str(value).encode()),
    "IntOrString": _int_or_string,
    "RawExtension": _raw,
    "FieldsV1": _raw,
    "JSON": _raw,
    "JSONSchemaPropsOrArray": _schema_or_array,
    "JSONSchemaPropsOrBool": _schema_or_bool,
    "JSONSchemaPropsOrStringArray": _schema_or_strings,
    "ExtraValue": _strings,
    "Verbs": _strings,
}
_ZERO = {
    "Time": b"",
    "MicroTime": b"",
    "Quantity": b"\n\x010",
    "IntOrString": b"\x08\0\x10\0\x1a\0",
    "RawExtension": b"",
}
"""Zero values of those that are written when absent."""
