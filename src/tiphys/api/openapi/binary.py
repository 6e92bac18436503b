"""OpenAPI documents in protobuf form, which kubectl asks for: a document of JSON, written as gnostic's messages.

Both versions of the specification have one table of messages each (``messages``), from which a writer per message is
made on first use. Parts that may be one of several things (a schema or a reference to one) are distinguished here.

Source: https://kubernetes.io/docs/concepts/overview/kubernetes-api/#openapi-interface-definition
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any

import orjson

from tiphys.api.codec.yamltext import from_json
from tiphys.api.object import Object
from tiphys.api.openapi.messages import OPENAPI, SWAGGER
from tiphys.runtime.binary.varint import varint

Write = Callable[[Any], bytes]
"""From a value of JSON to the content of its message."""
Field = Callable[[Any], bytes]
"""From a value of JSON to a whole field, tag included; empty if the value is the type's zero."""
Chosen = tuple[int, str]
"""Which field of a message of alternatives is set, and the message in it."""


def encode_v2(document: Object) -> bytes:
    """A Swagger 2.0 document: 0.1 s for the built-in kinds. What Swagger cannot say is left out."""
    return _writer("v2")(document)


def encode_v3(document: Object) -> bytes:
    """An OpenAPI 3.0 document."""
    return _writer("v3")(document)


def pieces_v2(document: Object) -> Iterator[bytes]:
    """A Swagger 2.0 document bit by bit. Joined, the pieces are the document: protobuf merges messages in parts."""
    return _pieces(document, encode_v2, ("paths", "definitions"))


def pieces_v3(document: Object) -> Iterator[bytes]:
    """An OpenAPI 3.0 document bit by bit."""
    components = document.get("components", {})
    schemas = components.get("schemas", {})
    rest = {name: value for name, value in components.items() if name != "schemas"}
    yield from _pieces({**document, "components": rest}, encode_v3, ("paths",))
    for name, schema in schemas.items():
        yield encode_v3({"components": {"schemas": {name: schema}}})


def _pieces(document: Object, encode: Write, large: tuple[str, ...]) -> Iterator[bytes]:
    yield encode({name: value for name, value in document.items() if name not in large})
    for name in large:
        for key, value in document.get(name, {}).items():
            yield encode({name: {key: value}})


@lru_cache(maxsize=2)
def _writer(version: str) -> Write:
    table, choices = (SWAGGER, _CHOICES_V2) if version == "v2" else (OPENAPI, _CHOICES_V3)
    return _Writers(table, choices).of("Document")


class _Writers:
    """The writers of one version's messages, by name."""

    def __init__(self, table: str, choices: Mapping[str, Callable[[Any], Chosen]]) -> None:
        self._rows = {name: fields.split() for name, _, fields in (r.partition(" ") for r in table.strip().split("\n"))}
        self._choices = choices
        self._made: dict[str, Write] = {"any": _any, "s": str.encode, **_VALUES}

    def of(self, name: str) -> Write:
        """Messages hold each other, so a writer is found by name when it is first needed."""
        if name not in self._made:
            self._made[name] = self._make(name)
        return self._made[name]

    def _make(self, name: str) -> Write:
        if name.startswith("{"):
            return self._named(name[1:-1])
        if name in self._choices:
            return self._alternatives(self._choices[name])
        if name.endswith("OrReference"):
            whole = name.removesuffix("OrReference")
            return self._alternatives(lambda value: (2, "Reference") if "$ref" in value else (1, whole))
        return self._message(self._rows[name])

    def _message(self, fields: list[str]) -> Write:
        """The writer of a message whose fields are described as ``name:number:type``."""
        by_name: dict[str, tuple[int, Field]] = {}
        extension = other = None
        for field in fields:
            name, number, type = field.split(":", 2)
            row = (
                int(number.rstrip("*")),
                self._field(int(number.rstrip("*")), type, repeated=number.endswith("*"), name=name),
            )
            if name == "x-":
                extension = row
            elif name == "/":
                other = row
            else:
                by_name[name] = row

        def write(value: Object) -> bytes:
            parts: list[tuple[int, bytes]] = []
            for key, item in value.items():
                if (row := by_name.get(key)) is not None:
                    parts.append((row[0], row[1](item)))
                elif (row := extension if key.startswith("x-") else other) is not None:
                    parts.append((row[0], row[1]((key, item))))
            parts.sort(key=_number)
            return b"".join([data for _, data in parts])

        return write

    def _field(self, number: int, type: str, name: str, *, repeated: bool) -> Field:
        if type in _SCALARS:
            return _scalar(number, type)
        if type == "named" or name == "/":
            return self._pair(number, "any" if type == "named" else type)
        tag = varint(number << 3 | 2)

        def one(value: Any) -> bytes:
            data = self.of(type)(value)
            return b"%b%b%b" % (tag, varint(len(data)), data)

        if repeated:
            return lambda values: b"".join([one(value) for value in values])
        if type == "s":
            return lambda value: one(value) if value else b""
        return one

    def _pair(self, number: int, type: str) -> Callable[[tuple[str, Any]], bytes]:
        """A field of a name and a value."""
        return lambda pair: _length_field(
            number, _length_field(1, pair[0].encode()) + _length_field(2, self.of(type)(pair[1]))
        )

    def _named(self, type: str) -> Write:
        """A message that is a map."""
        pair = self._pair(1, type)
        return lambda value: b"".join([pair(entry) for entry in value.items()])

    def _alternatives(self, choose: Callable[[Any], Chosen]) -> Write:
        def write(value: Any) -> bytes:
            number, type = choose(value)
            return _ALWAYS[type](number, value) if type in _ALWAYS else _length_field(number, self.of(type)(value))

        return write


def _number(part: tuple[int, bytes]) -> int:
    return part[0]


# Which of several things a value is.

_PLACES: dict[str, Chosen] = {
    "header": (1, "HeaderParameterSubSchema"),
    "formData": (2, "FormDataParameterSubSchema"),
    "query": (3, "QueryParameterSubSchema"),
    "path": (4, "PathParameterSubSchema"),
}


def _additional(schema: str) -> Callable[[Any], Chosen]:
    return lambda value: (2, "b") if isinstance(value, bool) else (1, schema)


_CHOICES_V2: dict[str, Callable[[Any], Chosen]] = {
    "ParametersItem": lambda value: (2, "JsonReference") if "$ref" in value else (1, "Parameter"),
    "Parameter": lambda value: (1, "BodyParameter") if value["in"] == "body" else (2, "NonBodyParameter"),
    "NonBodyParameter": lambda value: _PLACES[value["in"]],
    "ResponseValue": lambda value: (2, "JsonReference") if "$ref" in value else (1, "Response"),
    "SchemaItem": lambda value: (1, "Schema"),
    "ItemsItem": lambda value: (1, "Schema"),
    "AdditionalPropertiesItem": _additional("Schema"),
    "SecurityDefinitionsItem": lambda value: (2, "ApiKeySecurity"),
}
_CHOICES_V3: dict[str, Callable[[Any], Chosen]] = {
    "ItemsItem": lambda value: (1, "SchemaOrReference"),
    "AdditionalPropertiesItem": _additional("SchemaOrReference"),
}


def _strings(values: Any) -> bytes:
    """A message of strings; a lone string stands for a list of one."""
    items = [values] if isinstance(values, str) else values
    return b"".join([_length_field(1, item.encode()) for item in items])


def _default(value: Any) -> bytes:
    """A default of OpenAPI 3.0: a number, a boolean or a text; what is none of these is an empty message."""
    match value:
        case bool():
            return _ALWAYS["b"](2, value)
        case int() | float():
            return varint(1 << 3 | 1) + struct.pack("<d", value)
        case str():
            return _length_field(3, value.encode())
        case _:
            return b""


def _any(value: Any) -> bytes:
    """A value of any kind, as YAML in its own order."""
    return _length_field(2, from_json(orjson.dumps(value), sort=False))


_VALUES: dict[str, Write] = {"StringArray": _strings, "TypeItem": _strings, "DefaultType": _default}


# The wire.


def _length_field(number: int, data: bytes) -> bytes:
    return b"%b%b%b" % (varint(number << 3 | 2), varint(len(data)), data)


def _number_field(number: int, value: Any) -> bytes:
    return varint(number << 3) + varint(int(value))


def _double_field(number: int, value: float) -> bytes:
    return varint(number << 3 | 1) + struct.pack("<d", value)


_ALWAYS: dict[str, Callable[[int, Any], bytes]] = {"b": _number_field, "i": _number_field, "d": _double_field}
"""Fields that are no messages, zero values included."""
_SCALARS = _ALWAYS.keys()


def _scalar(number: int, type: str) -> Field:
    write = _ALWAYS[type]
    return lambda value: write(number, value) if value else b""
