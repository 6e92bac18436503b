"""Decoding of a JSON value into a type, as Go does it: the slow path, which explains and repairs.

- Fields that the type does not have are dropped, and reported in strict and warning mode, like repeated ones.
- Values of a wrong type are reported with the Go type and path that upstream reports.
- Nulls and the empty values that the type's wire form leaves out are left out; quantities, times and bytes get their
  canonical form. A repeated field is merged into what is there already.

Source: KEP-2885 (server-side field validation), ``encoding/json``.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any

from tiphys.api.codec.jsontext import Node, Number, Pairs
from tiphys.api.codec.timetext import GoTimeError, parse_micro_time, parse_time
from tiphys.api.gotext import quote
from tiphys.api.meta.quantity import QuantityError, canonical
from tiphys.api.schema import (
    ANY,
    ARRAY,
    BOOLEAN,
    BYTES,
    INT_OR_STRING,
    INTEGER,
    MAP,
    MICRO_TIME,
    NUMBER,
    OBJECT,
    QUANTITY,
    RAW,
    SCHEMA_OR_ARRAY,
    SCHEMA_OR_BOOL,
    SCHEMA_OR_STRINGS,
    STRING,
    TIME,
    Field,
    Schema,
)

MAX_DEPTH = 200
"""Deeper values are refused: what is kept must be written again, and writers have limits of their own."""
MAX_STRICT_ERRORS = 100
_RESET = "metadata.managedFields"
"""An empty list here means something: forget who owns what."""

_INTEGER = re.compile(r"-?[0-9]+").fullmatch
_BASE64 = re.compile(r"[A-Za-z0-9+/]*").match
_RANGES = {"int32": 2**31, "int64": 2**63}


class DecodeError(ValueError):
    """The value does not fit the type; the message is upstream's."""


class _Absent:
    """Stands for a value that is not set."""


_ABSENT = _Absent()


class TypedDecoder:
    """One decoding. ``strict_errors`` lists unknown and duplicate fields, in the order of the text."""

    def __init__(self, path: str = "") -> None:
        """``path`` stands before the paths of unknown and duplicate fields."""
        self.strict_errors: list[str] = []
        self.empties: list[tuple[str, Any]] = []
        """Paths and values of the empty lists and maps that were left out."""
        self._first_error = ""
        self._struct = ""
        self._fields: list[str] = []
        self._path = path
        self._depth = 0
        self._silent = 0

    def decode(self, node: Pairs, schema: Schema) -> dict[str, Any]:
        """Raises ``DecodeError``."""
        obj = self._object(node, schema, None)
        if self._first_error:
            raise DecodeError(self._first_error)
        return obj

    # -- reporting

    def _mismatch(self, value: str, go: str) -> str:
        if self._struct or self._fields:
            return (
                f"json: cannot unmarshal {value} into Go struct field "
                f"{self._struct}.{'.'.join(self._fields)} of type {go}"
            )
        return f"json: cannot unmarshal {value} into Go value of type {go}"

    def _save(self, message: str) -> _Absent:
        """Go reads on after a value of a wrong type, and reports the first at the end."""
        self._first_error = self._first_error or message
        return _ABSENT

    def _strict(self, kind: str, path: str) -> None:
        if self._silent or len(self.strict_errors) >= MAX_STRICT_ERRORS:
            return
        message = f"{kind} {quote(path)}"
        if message not in self.strict_errors:
            self.strict_errors.append(message)

    def _unfit(self, node: Node, schema: Schema) -> object:
        """A value of a wrong type."""
        is_number = isinstance(node, Number) and schema.kind in (INTEGER, NUMBER)
        return self._save(self._mismatch(f"number {node.text}" if is_number else type_name(node), schema.go))  # type: ignore[union-attr]

    # -- containers

    def _value(self, node: Node, schema: Schema, old: Any) -> Any:
        kind = schema.kind
        if kind in _SCALARS:
            return _SCALARS[kind](self, node, schema)
        if kind in (ANY, RAW):
            return self._any(node)
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise DecodeError("exceeded max depth")
        try:
            if kind == OBJECT:
                return self._struct_value(node, schema, old)
            if kind == ARRAY:
                return self._array(node, schema, old)
            if kind == MAP:
                return self._map(node, schema, old)
            return self._schema_or(node, schema)
        finally:
            self._depth -= 1

    def _any(self, node: Node) -> Any:
        if isinstance(node, Number) and real(node.text) is None:
            raise DecodeError(self._mismatch(f"number {node.text}", "float64"))
        return plain(node, self._depth)

    def _struct_value(self, node: Node, schema: Schema, old: Any) -> Any:
        if isinstance(node, Pairs):
            return self._object(node, schema, old)
        return self._unfit(node, schema)

    def _object(self, node: Pairs, schema: Schema, old: Any) -> dict[str, Any]:
        """Decode an object into ``old`` or a new one; unknown and repeated fields go to ``strict_errors``."""
        obj: dict[str, Any] = old if isinstance(old, dict) else {}
        struct, count, path = self._struct, len(self._fields), self._path
        seen: set[str] = set()
        name = schema.go.rpartition(".")[2]
        for key, value in node.pairs:
            field = schema.fields.get(key)
            here = f"{path}.{key}" if path else key
            if field is None:
                if schema.preserve_unknown:
                    obj[key] = plain(value, self._depth)
                else:
                    self._strict("unknown field", here)
                continue
            if key in seen:
                self._strict("duplicate field", here)
            seen.add(key)
            self._struct, self._path = name, here
            if field.embedded:
                self._fields += field.embedded.split(".")
            self._fields.append(key)
            self._set(obj, key, value, field)
            del self._fields[count:]
        self._struct, self._path = struct, path
        for key in seen:
            if key in obj and omitted(obj[key], schema.fields[key]) and f"{path}.{key}" != _RESET:
                if schema.fields[key].schema.kind in (ARRAY, MAP):
                    self.empties.append((f"{path}.{key}" if path else key, obj[key]))
                del obj[key]
        return obj

    def _set(self, obj: dict[str, Any], key: str, node: Node, field: Field) -> None:
        if node is None:
            if field.schema.nullable:
                obj[key] = None
            elif field.pointer or field.schema.kind not in (STRING, INTEGER, NUMBER, BOOLEAN, OBJECT):
                obj.pop(key, None)
            return
        value = self._value(node, field.schema, obj.get(key))
        if value is not _ABSENT:
            obj[key] = value

    def _array(self, node: Node, schema: Schema, old: Any) -> Any:
        if not isinstance(node, list):
            return self._unfit(node, schema)
        items = schema.items
        assert items is not None
        before: list[Any] = old if isinstance(old, list) else []
        items_: list[Any] = []
        path = self._path
        for index, item in enumerate(node):
            self._path = f"{path}[{index}]"
            known = before[index] if index < len(before) else None
            value = zero(items) if item is None else self._value(item, items, known)
            items_.append(zero(items) if value is _ABSENT else value)
        self._path = path
        return items_

    def _map(self, node: Node, schema: Schema, old: Any) -> Any:
        if not isinstance(node, Pairs):
            return self._unfit(node, schema)
        items = schema.items
        assert items is not None
        entries: dict[str, Any] = old if isinstance(old, dict) else {}
        path = self._path
        seen: set[str] = set()
        for key, item in node.pairs:
            self._path = f"{path}.{key}" if path else key
            if key in seen:
                self._strict("duplicate field", self._path)
            seen.add(key)
            value = (None if items.nullable else zero(items)) if item is None else self._value(item, items, None)
            entries[key] = zero(items) if value is _ABSENT else value
        self._path = path
        return entries

    def _schema_or(self, node: Node, schema: Schema) -> Any:
        """A JSON schema, or what may stand in its place. Unknown fields below it are not reported."""
        items = schema.items
        assert items is not None
        self._silent += 1
        try:
            if isinstance(node, Pairs):
                return self._object(node, items, None)
            if schema.kind == SCHEMA_OR_BOOL:
                if isinstance(node, bool):
                    return node
                raise DecodeError("boolean or JSON schema expected")
            if isinstance(node, list):
                inner = items if schema.kind == SCHEMA_OR_ARRAY else Schema(STRING, "string")
                return self._array(node, Schema(ARRAY, f"[]{inner.go}", items=inner), None)
            return _ABSENT
        finally:
            self._silent -= 1

    # -- scalars

    def _string(self, node: Node, schema: Schema) -> Any:
        if isinstance(node, str):
            return node
        return self._unfit(node, schema)

    def _boolean(self, node: Node, schema: Schema) -> Any:
        if isinstance(node, bool):
            return node
        return self._unfit(node, schema)

    def _integer(self, node: Node, schema: Schema) -> Any:
        if not isinstance(node, Number):
            return self._unfit(node, schema)
        value = integer(node.text, _RANGES.get(schema.go, 2**63))
        return self._unfit(node, schema) if value is None else value

    def _number(self, node: Node, schema: Schema) -> Any:
        if not isinstance(node, Number):
            return self._unfit(node, schema)
        value = real(node.text)
        return self._unfit(node, schema) if value is None else value

    def _bytes(self, node: Node, schema: Schema) -> Any:
        if isinstance(node, str):
            try:
                return canonical_base64(node)
            except DecodeError as error:
                return self._save(str(error))
        if isinstance(node, list):
            return self._byte_list(node)
        return self._unfit(node, schema)

    def _byte_list(self, node: list[Node]) -> Any:
        octets = bytearray()
        for item in node:
            value = integer(item.text, 256) if isinstance(item, Number) else None
            if value is None or value < 0:
                name = f"number {item.text}" if isinstance(item, Number) else type_name(item)
                return self._save(self._mismatch(name, "uint8"))
            octets.append(value)
        return base64.b64encode(octets).decode()

    def _quantity(self, node: Node, schema: Schema) -> str:
        text = node.text if isinstance(node, Number) else node.strip() if isinstance(node, str) else "{"
        try:
            return canonical(text)
        except QuantityError as error:
            raise DecodeError(str(error)) from error

    def _int_or_string(self, node: Node, schema: Schema) -> Any:
        if isinstance(node, str):
            return node
        name = f"number {node.text}" if isinstance(node, Number) else type_name(node)
        value = integer(node.text, 2**31) if isinstance(node, Number) else None
        if value is None:
            raise DecodeError(self._mismatch(name, "int32"))
        return value

    def _time(self, node: Node, schema: Schema) -> str | None:
        if not isinstance(node, str):
            raise DecodeError(self._mismatch(type_name(node), "string"))
        try:
            text = parse_time(node) if schema.kind == TIME else parse_micro_time(node)
        except GoTimeError as error:
            raise DecodeError(str(error)) from error
        # Go's zero time, which it writes as null.
        return None if text in _ZERO_TIMES else text


_ZERO_TIMES = ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00.000000Z")
_SCALARS = {
    STRING: TypedDecoder._string,
    BOOLEAN: TypedDecoder._boolean,
    INTEGER: TypedDecoder._integer,
    NUMBER: TypedDecoder._number,
    BYTES: TypedDecoder._bytes,
    QUANTITY: TypedDecoder._quantity,
    INT_OR_STRING: TypedDecoder._int_or_string,
    TIME: TypedDecoder._time,
    MICRO_TIME: TypedDecoder._time,
}
_ZERO = {
    STRING: "",
    BYTES: "",
    BOOLEAN: False,
    INTEGER: 0,
    NUMBER: 0,
    QUANTITY: "0",
    INT_OR_STRING: 0,
    SCHEMA_OR_STRINGS: None,
}


def zero(schema: Schema) -> Any:
    """The value of an item that is null: Go's zero value, on the wire."""
    return {} if schema.kind == OBJECT else _ZERO.get(schema.kind)


def omitted(value: Any, field: Field) -> bool:
    """Whether the wire form leaves the value out."""
    if field.pointer or not field.omit_empty or field.schema.nullable:
        return False
    if field.keeps_empty and value == []:
        return False
    kind = field.schema.kind
    if kind in (STRING, INTEGER, NUMBER, BOOLEAN, BYTES, ARRAY, MAP):
        return not value
    return False


def type_name(node: Node) -> str:
    """How Go calls the value that it met."""
    if isinstance(node, bool):
        return "bool"
    if isinstance(node, str):
        return "string"
    if isinstance(node, Number):
        return "number"
    return "object" if isinstance(node, Pairs) else "array"


def integer(text: str, bound: int) -> int | None:
    """The whole number in ``[-bound, bound)``; None for any other."""
    if len(text) > 20 or not _INTEGER(text):
        return None
    value = int(text)
    return value if -bound <= value < bound else None


def real(text: str) -> float | int | None:
    """A number in a place without a type: whole if it is written without a point and fits 64 bits."""
    whole = integer(text, 2**63)
    if whole is not None:
        return whole
    value = float(text)
    return value if abs(value) != float("inf") else None


def plain(node: Node, depth: int = 0) -> Any:
    """A value of any type; of repeated keys the last counts. Raises ``DecodeError`` if nested too deeply."""
    if depth > MAX_DEPTH:
        raise DecodeError("exceeded max depth")
    if isinstance(node, Number):
        value = real(node.text)
        if value is None:
            raise DecodeError(f"json: cannot unmarshal number {node.text} into Go value of type float64")
        return value
    if isinstance(node, Pairs):
        return {key: plain(value, depth + 1) for key, value in node.pairs}
    if isinstance(node, list):
        return [plain(item, depth + 1) for item in node]
    return node


def whole_numbers(value: Any) -> Any:
    """Numbers such as 1.0 as Go writes them: 1. In place; gives the value."""
    if isinstance(value, dict):
        for name in value:
            value[name] = whole_numbers(value[name])
    elif isinstance(value, list):
        value[:] = map(whole_numbers, value)
    elif isinstance(value, float) and value.is_integer() and abs(value) < 2**63:
        return int(value)
    return value


def canonical_base64(text: str) -> str:
    """Standard base64 with padding; line ends in it are skipped. Raises ``DecodeError`` with Go's message."""
    bare = text.replace("\n", "").replace("\r", "")
    matched = _BASE64(bare)
    data = matched.end() if matched else 0
    padding = bare[data:]
    if (data + len(padding)) % 4 == 0 and padding in ("", "=", "=="):
        try:
            return base64.b64encode(binascii.a2b_base64(bare)).decode()
        except binascii.Error:
            pass
    raise DecodeError(f"illegal base64 data at input byte {_base64_fault(text, bare, data)}")


def _base64_fault(text: str, bare: str, data: int) -> int:
    """Where Go's decoder gives up, counted in the text with its line ends."""
    quantum = data % 4
    if data == len(bare):
        # The input ends inside a group of four: report the group's start.
        at = data - quantum
    elif bare[data] != "=" or quantum < 2:
        at = data
    elif quantum == 2 and bare[data + 1 : data + 2] != "=":
        at = data + 1
    else:
        at = data + (2 if quantum == 2 else 1)
    seen = -1
    for index, character in enumerate(text):
        if character not in "\r\n":
            seen += 1
        if seen == at:
            return index
    return len(text)
