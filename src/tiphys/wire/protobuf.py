"""Protocol buffer messages from a schema text, without generated code.

``Schema(text)`` reads the subset of the proto3 language that the etcd and CRI protocols use (messages, nested messages,
enums, repeated, maps, oneofs, services) and gives message classes of Google's protobuf runtime, encoded in C. Reading
2,000 lines takes some milliseconds, and the schema files stay readable for people.

Source: https://protobuf.dev/reference/protobuf/proto3-spec/ and descriptor.proto.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_TOKEN = re.compile(r"""\s+|//[^\n]*|/\*.*?\*/|("(?:[^"\\]|\\.)*"|[A-Za-z_.][\w.]*|-?\d\w*|[{}=;<>,()\[\]])""", re.S)

_Field = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    "double": _Field.TYPE_DOUBLE,
    "float": _Field.TYPE_FLOAT,
    "int64": _Field.TYPE_INT64,
    "uint64": _Field.TYPE_UINT64,
    "int32": _Field.TYPE_INT32,
    "uint32": _Field.TYPE_UINT32,
    "sint64": _Field.TYPE_SINT64,
    "sint32": _Field.TYPE_SINT32,
    "fixed64": _Field.TYPE_FIXED64,
    "fixed32": _Field.TYPE_FIXED32,
    "bool": _Field.TYPE_BOOL,
    "string": _Field.TYPE_STRING,
    "bytes": _Field.TYPE_BYTES,
}


@dataclass(frozen=True, slots=True)
class Method:
    """One method of a service. ``path`` is its gRPC path, such as ``/etcdserverpb.KV/Range``."""

    name: str
    path: str
    request: Any
    response: Any
    request_stream: bool
    response_stream: bool


class SchemaError(ValueError):
    """The schema text is not in the subset of proto3 that is read here."""


class Schema:
    """Message classes by name: ``Schema(text).Message("RangeRequest")``; services by ``methods("KV")``."""

    def __init__(self, text: str, name: str = "schema.proto") -> None:
        self._tokens = [m[1] for m in _TOKEN.finditer(text) if m[1]]
        self._at = 0
        self._file = descriptor_pb2.FileDescriptorProto(name=name, syntax="proto3")
        self._enums: set[str] = set()
        self._services: dict[str, list[tuple[str, str, bool, str, bool]]] = {}
        self._read_file()
        self._resolve()
        pool = descriptor_pool.DescriptorPool()
        pool.Add(self._file)
        self._pool = pool
        self._prefix = f"{self._file.package}." if self._file.package else ""

    def message(self, name: str) -> Any:
        """The class of a message, such as ``"RangeRequest"`` or ``"WatchCreateRequest.FilterType"``'s parent."""
        return message_factory.GetMessageClass(self._pool.FindMessageTypeByName(self._prefix + name))

    def enum(self, name: str) -> dict[str, int]:
        """The numbers of an enum by name."""
        return {v.name: v.number for v in self._pool.FindEnumTypeByName(self._prefix + name).values}

    def methods(self, service: str) -> dict[str, Method]:
        """The methods of a service by name."""
        return {
            name: Method(
                name, f"/{self._prefix}{service}/{name}", self.message(asks), self.message(gives), many, stream
            )
            for name, asks, many, gives, stream in self._services[service]
        }

    def services(self) -> list[str]:
        return list(self._services)

    # Reading: one token at a time, by recursive descent.

    def _next(self, *wanted: str) -> str:
        if self._at >= len(self._tokens):
            raise SchemaError("the schema ends in the middle of a declaration")
        token = self._tokens[self._at]
        self._at += 1
        if wanted and token not in wanted:
            raise SchemaError(f"expected {' or '.join(wanted)} and found {token!r} (token {self._at})")
        return token

    def _peek(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def _skip_statement(self) -> None:
        while self._next() != ";":
            pass

    def _read_file(self) -> None:
        while self._peek():
            word = self._next()
            if word == "package":
                self._file.package = self._next()
                self._next(";")
            elif word in ("syntax", "option", "import"):
                self._skip_statement()
            elif word == "message":
                self._read_message(self._file.message_type.add(), "")
            elif word == "enum":
                self._read_enum(self._file.enum_type.add(), "")
            elif word == "service":
                self._read_service()
            else:
                raise SchemaError(f"{word!r} is not a declaration")

    def _read_enum(self, enum: Any, scope: str) -> None:
        enum.name = self._next()
        self._enums.add(f"{scope}{enum.name}")
        self._next("{")
        while self._peek() != "}":
            name = self._next()
            if name in ("option", "reserved"):
                self._skip_statement()
                continue
            self._next("=")
            enum.value.add(name=name, number=int(self._next(), 0))
            self._next(";")
        self._next("}")
        if any(v.number == w.number for i, v in enumerate(enum.value) for w in enum.value[:i]):
            enum.options.allow_alias = True

    def _read_message(self, message: Any, scope: str) -> None:
        """Read a message's block into its descriptor."""
        message.name = self._next()
        inner = f"{scope}{message.name}."
        self._next("{")
        while self._peek() != "}":
            word = self._next()
            if word == "message":
                self._read_message(message.nested_type.add(), inner)
            elif word == "enum":
                self._read_enum(message.enum_type.add(), inner)
            elif word in ("option", "reserved"):
                self._skip_statement()
            elif word == "oneof":
                index = len(message.oneof_decl)
                message.oneof_decl.add(name=self._next())
                self._next("{")
                while self._peek() != "}":
                    self._read_field(message, self._next(), oneof=index)
                self._next("}")
            elif word == "map":
                self._read_map(message, inner)
            elif word == "repeated":
                self._read_field(message, self._next(), repeated=True)
            elif word == "optional":
                self._read_field(message, self._next(), optional=True)
            else:
                self._read_field(message, word)
        self._next("}")
        self._number_synthetic_oneofs(message)

    def _read_field(
        self, message: Any, kind: str, oneof: int | None = None, *, repeated: bool = False, optional: bool = False
    ) -> Any:
        field = message.field.add(name=self._next())
        self._next("=")
        field.number = int(self._next(), 0)
        if self._peek() == "[":
            while self._next() != "]":
                pass
        self._next(";")
        field.label = _Field.LABEL_REPEATED if repeated else _Field.LABEL_OPTIONAL
        if oneof is not None:
            field.oneof_index = oneof
        field.proto3_optional = optional
        if kind in _SCALARS:
            field.type = _SCALARS[kind]
        else:
            field.type_name = kind
        return field

    def _read_map(self, message: Any, inner: str) -> None:
        self._next("<")
        key, _, value = self._next(), self._next(","), self._next()
        self._next(">")
        field = self._read_field(message, "bytes", repeated=True)
        entry = message.nested_type.add(name="".join(p.capitalize() for p in field.name.split("_")) + "Entry")
        entry.options.map_entry = True
        entry.field.add(name="key", number=1, label=_Field.LABEL_OPTIONAL, type=_SCALARS[key])
        item = entry.field.add(name="value", number=2, label=_Field.LABEL_OPTIONAL)
        if value in _SCALARS:
            item.type = _SCALARS[value]
        else:
            item.type_name = value
        field.ClearField("type")
        field.type_name = f"{inner}{entry.name}"

    def _number_synthetic_oneofs(self, message: Any) -> None:
        for field in message.field:
            if field.proto3_optional:
                field.oneof_index = len(message.oneof_decl)
                message.oneof_decl.add(name=f"_{field.name}")

    def _read_service(self) -> None:
        service = self._next()
        methods = self._services.setdefault(service, [])
        self._next("{")
        while self._peek() != "}":
            self._next("rpc")
            name = self._next()
            asks, many = self._read_type()
            self._next("returns")
            gives, stream = self._read_type()
            methods.append((name, asks, many, gives, stream))
            if self._next("{", ";") == "{":
                self._skip_block()
        self._next("}")

    def _read_type(self) -> tuple[str, bool]:
        self._next("(")
        word = self._next()
        streamed = word == "stream"
        if streamed:
            word = self._next()
        self._next(")")
        return word, streamed

    def _skip_block(self) -> None:
        depth = 1
        while depth:
            depth += {"{": 1, "}": -1}.get(self._next(), 0)

    # Names: a field's type is looked up from the innermost message outwards.

    def _resolve(self) -> None:
        known: dict[str, bool] = dict.fromkeys(self._enums, True)
        for path, _ in self._messages(self._file.message_type, ""):
            known[path] = False
        package = f".{self._file.package}." if self._file.package else "."
        for path, message in self._messages(self._file.message_type, ""):
            for field in message.field:
                if not field.type_name:
                    continue
                scopes = path.split(".")
                names = [".".join([*scopes[:n], field.type_name]) for n in range(len(scopes), -1, -1)]
                resolved = next((name for name in names if name in known), None)
                if resolved is None:
                    raise SchemaError(f"{path}.{field.name}: no message or enum is called {field.type_name!r}")
                field.type_name = package + resolved
                field.type = _Field.TYPE_ENUM if known[resolved] else _Field.TYPE_MESSAGE

    def _messages(self, messages: Any, scope: str) -> Iterator[tuple[str, Any]]:
        for message in messages:
            path = f"{scope}{message.name}"
            yield path, message
            yield from self._messages(message.nested_type, f"{path}.")
