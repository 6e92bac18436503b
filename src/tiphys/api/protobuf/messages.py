"""Which fields a message has: the table data/protobuf.txt, and what reading and writing share.

Source: https://kubernetes.io/docs/reference/using-api/api-concepts/#protobuf-encoding
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from importlib.resources import files
from typing import NamedTuple

from tiphys.api.resources import definition_name
from tiphys.api.scheme import GroupVersionKind

CONTENT_TYPE = "application/vnd.kubernetes.protobuf"
MAGIC = b"k8s\0"


_META = "io.k8s.apimachinery.pkg.apis.meta.v1."
ALWAYS, OPTIONAL, REPEATED, MAP = "always", "optional", "repeated", "map"
SCALARS = frozenset(("string", "bytes", "bool", "int32", "int64", "double"))


class ProtobufError(ValueError):
    """The bytes are not an object in protobuf form, or the object has no such form."""


class MessageField(NamedTuple):
    number: int
    name: str
    """The JSON name; empty for a struct whose fields JSON has inline."""
    presence: str
    """``always``: an absent value is written as its zero value; ``optional``, ``repeated``, or ``map`` from strings."""
    type: str
    """A scalar's name or a message's full name; of a map, the type of its values."""


@lru_cache(maxsize=1)
def messages() -> Mapping[str, tuple[MessageField, ...]]:
    """Every message by its full name, such as ``io.k8s.api.core.v1.Pod``, with its fields in order of number."""
    table: dict[str, list[MessageField]] = {}
    name = package = ""
    for line in files("tiphys.api").joinpath("data/protobuf.txt").read_text().splitlines():
        if line.startswith("#"):
            continue
        if not line.startswith(" "):
            name, package = line, line[: line.rindex(".") + 1]
            table[name] = []
            continue
        number, json_name, presence, type = line.split()
        full = type if type in SCALARS or "." in type else package + type
        table[name].append(MessageField(int(number), "" if json_name == "-" else json_name, presence, full))
    return {name: tuple(fields) for name, fields in table.items()}


def message_name(api_version: str, kind: str) -> str:
    """The message of a kind. Raises ``ProtobufError`` if the kind has none, as custom resources."""
    group, _, version = api_version.rpartition("/")
    name = definition_name(GroupVersionKind(group, version, kind))
    for candidate in (name, _META + kind):
        if candidate in messages():
            return candidate
    raise ProtobufError(f'no kind "{kind}" is registered for version "{api_version}"')


def has_message(api_version: str, kind: str) -> bool:
    try:
        message_name(api_version, kind)
    except ProtobufError:
        return False
    return True
