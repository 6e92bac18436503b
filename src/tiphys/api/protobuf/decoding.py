"""Reading the protobuf form.

Go messages carry empty strings, zeros and false in fields that JSON leaves out; ``codec`` drops them as it drops them
from JSON. Source: https://kubernetes.io/docs/reference/using-api/api-concepts/#protobuf-encoding
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import orjson

from tiphys.api.meta.timestamps import format_time
from tiphys.api.object import Object
from tiphys.api.protobuf.messages import (
    CONTENT_TYPE,
    MAGIC,
    MAP,
    REPEATED,
    MessageField,
    ProtobufError,
    message_name,
    messages,
)
from tiphys.runtime.binary.varint import read_varint

Value = int | bytes
Reader = Callable[[Value], Any]

_MAX_DEPTH = 100


def decode(data: bytes) -> Object:
    """The object in a body, with its ``apiVersion`` and ``kind``. Raises ``ProtobufError``."""
    if not data.startswith(MAGIC):
        raise ProtobufError("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")
    envelope = dict(_fields(data[len(MAGIC) :]))
    type_meta = dict(_fields(_bytes(envelope.get(1, b""))))
    api_version, kind = (_text(type_meta.get(number, b"")) for number in (1, 2))
    if _bytes(envelope.get(3, b"")) or _text(envelope.get(4, b"")) not in ("", CONTENT_TYPE):
        raise ProtobufError("the object within the protobuf message is encoded in another way")
    message = message_name(api_version, kind)
    return {"apiVersion": api_version, "kind": kind, **_read_message(message, _bytes(envelope.get(2, b"")), 0)}


@cache
def _fields_of(message: str) -> dict[int, MessageField]:
    return {field.number: field for field in messages()[message]}


def _read_message(message: str, data: bytes, depth: int) -> Any:
    """One message as an object; unknown fields are skipped. Raises ``ProtobufError``."""
    special = _SPECIAL.get(message.rpartition(".")[2])
    if special is not None:
        return special(data)
    if depth > _MAX_DEPTH:
        raise ProtobufError(f"the object is nested more than {_MAX_DEPTH} deep")
    fields = _fields_of(message)
    obj: Object = {}
    for number, value in _fields(data):
        if number not in fields:  # a newer client's field: upstream passes over it, too
            continue
        _, name, presence, type = fields[number]
        if presence == MAP:
            key, item = _read_entry(type, _bytes(value), depth)
            obj.setdefault(name, {})[key] = item
        elif presence == REPEATED:
            obj.setdefault(name, []).extend(_read_items(type, value, depth))
        elif name:
            obj[name] = _read(type, value, depth)
        else:
            obj.update(_read(type, value, depth))
    return obj


def _read(type: str, value: Value, depth: int) -> Any:
    scalar = _SCALARS.get(type)
    return scalar(value) if scalar is not None else _read_message(type, _bytes(value), depth + 1)


def _read_items(type: str, value: Value, depth: int) -> Iterator[Any]:
    """One item, or several numbers packed into one field."""
    if type in _PACKED and isinstance(value, bytes):
        at = 0
        while at < len(value):
            number, at = _varint(value, at)
            yield _SCALARS[type](number)
    else:
        yield _read(type, value, depth)


def _read_entry(type: str, data: bytes, depth: int) -> tuple[str, Any]:
    entry = dict(_fields(data))
    default: Value = b"" if type not in _PACKED else 0
    return _text(entry.get(1, b"")), _read(type, entry.get(2, default), depth)


# The wire: tag, then a number, or as many bytes as the length says.


def _fields(data: bytes) -> Iterator[tuple[int, Value]]:
    at, end = 0, len(data)
    while at < end:
        tag, at = _varint(data, at)
        number, wire = tag >> 3, tag & 7
        if number == 0:
            raise ProtobufError("illegal field number 0")
        if wire == 0:
            value, at = _varint(data, at)
            yield number, value
            continue
        if wire == 2:
            size, at = _varint(data, at)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise ProtobufError(f"illegal wire type {wire}")
        if at + size > end:
            raise ProtobufError("unexpected EOF")
        yield number, data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    try:
        return read_varint(data, at)
    except ValueError as error:
        raise ProtobufError(str(error)) from error


def _bytes(value: Value) -> bytes:
    if not isinstance(value, bytes):
        raise ProtobufError("a number stands where a message was expected")
    return value


def _text(value: Value) -> str:
    try:
        return _bytes(value).decode()
    except UnicodeDecodeError as error:
        raise ProtobufError(f"a string is not UTF-8: {error.reason}") from error


def _signed(bits: int) -> Reader:
    def read(value: Value) -> int:
        if not isinstance(value, int):
            raise ProtobufError("bytes stand where a number was expected")
        number = value & ((1 << bits) - 1)
        return number - (1 << bits) if number >> (bits - 1) else number

    return read


def _double(value: Value) -> float:
    data = _bytes(value)
    if len(data) != 8:
        raise ProtobufError("a double has 8 bytes")
    number: float = struct.unpack("<d", data)[0]
    return number


_SCALARS: dict[str, Reader] = {
    "string": _text,
    "bytes": lambda value: base64.b64encode(_bytes(value)).decode(),
    "bool": lambda value: bool(_signed(64)(value)),
    "int32": _signed(32),
    "int64": _signed(64),
    "double": _double,
}
_PACKED = frozenset(("bool", "int32", "int64"))


# Types that JSON writes in their own way


def _by_number(data: bytes) -> dict[int, Value]:
    return dict(_fields(data))


def _time(data: bytes) -> str | None:
    fields = _by_number(data)
    seconds = _signed(64)(fields.get(1, 0))
    return format_time(seconds) if seconds or 1 in fields else None


def _micro_time(data: bytes) -> str | None:
    fields = _by_number(data)
    seconds, nanos = _signed(64)(fields.get(1, 0)), _signed(32)(fields.get(2, 0))
    if not seconds and 1 not in fields:
        return None
    return f"{format_time(seconds)[:-1]}.{nanos // 1000:06d}Z"


def _int_or_string(data: bytes) -> int | str:
    fields = _by_number(data)
    return _text(fields.get(3, b"")) if fields.get(1, 0) else int(_signed(32)(fields.get(2, 0)))


def _raw(data: bytes) -> Any:
    """An object that is JSON within the message."""
    text = _bytes(_by_number(data).get(1, b""))
    if not text:
        return None
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise ProtobufError(f"an embedded object is not JSON: {error}") from error


def _strings(data: bytes) -> list[str]:
    return [_text(value) for number, value in _fields(data) if number == 1]


_APIEXTENSIONS = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1."


def _schema(value: Value) -> Any:
    return _read_message(_APIEXTENSIONS + "JSONSchemaProps", _bytes(value), 1)


def _schema_or_array(data: bytes) -> Any:
    fields = list(_fields(data))
    several: Any = [_schema(value) for number, value in fields if number == 2]
    return several or next((_schema(value) for number, value in fields if number == 1), None)


def _schema_or_bool(data: bytes) -> Any:
    fields = _by_number(data)
    return _schema(fields[2]) if 2 in fields else bool(fields.get(1, 0))


def _schema_or_strings(data: bytes) -> Any:
    fields = list(_fields(data))
    strings: Any = [_text(value) for number, value in fields if number == 2]
    return strings or next((_schema(value) for number, value in fields if number == 1), None)


_SPECIAL: dict[str, Callable[[bytes], Any]] = {
    "Time": _time,
    "MicroTime": _micro_time,
    "Quantity": lambda data: _text(_by_number(data).get(1, b"")),
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
