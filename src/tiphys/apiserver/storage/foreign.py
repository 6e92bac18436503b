"""Values that other API servers have written: those of a Go server, of another release, or under another version.

A Go server keeps its own kinds as protobuf, in an envelope that names version and kind, and some kinds, such as
definitions, as JSON of a version that it no longer serves. Both are read into the version in which this server keeps
the kind; what is written back is JSON of that version, which a Go server reads as well.
Source: apiserver's --storage-media-type, and
https://kubernetes.io/docs/tasks/administer-cluster/encrypt-data/ for the prefix of encrypted values.
"""

from __future__ import annotations

import orjson

from tiphys.api import codec, conversion, protobuf
from tiphys.api.codec import jsontext
from tiphys.api.codec.typed import DecodeError
from tiphys.api.defaults import apply_defaults
from tiphys.api.object import Object
from tiphys.api.schema import schema_for
from tiphys.api.scheme import GroupVersionKind

_TEXT = {str}
_ENCRYPTED = b"k8s:enc:"


class CannotRead(ValueError):
    """The value is no object of the kind; the message says why not."""


def read_value(value: bytes) -> Object:
    """The object in a value, JSON or protobuf, as it was written. Raises ``CannotRead``."""
    if value.startswith(_ENCRYPTED):
        provider = value.split(b":", 4)[2:4]
        raise CannotRead(f"it is encrypted ({b':'.join(provider).decode(errors='replace')}), and there is no such key")
    try:
        obj = protobuf.decode(value) if value.startswith(protobuf.MAGIC) else orjson.loads(value)
    except orjson.JSONDecodeError:
        raise CannotRead(jsontext.problem(value)) from None
    except protobuf.ProtobufError as error:
        raise CannotRead(str(error)) from error
    if not isinstance(obj, dict) or not isinstance(obj.get("metadata", {}), dict):
        raise CannotRead("it is not an object")
    return obj


def in_version(obj: Object, target: GroupVersionKind) -> Object:
    """What another server has written of a built-in kind, in the version ``target``. Raises ``CannotRead``."""
    group, _, version = str(obj.get("apiVersion", "")).rpartition("/")
    source = GroupVersionKind(group, version, str(obj.get("kind", "")))
    if source.kind != target.kind:
        raise CannotRead(f"it is a {source.kind or 'thing without a kind'}, not a {target.kind}")
    created = (obj.get("metadata") or {}).get("creationTimestamp") or ""
    try:
        converted = conversion.convert(obj, source, target)
        schema = schema_for(target)
        result = codec.normalize(converted, schema)
        apply_defaults(result, target, created)
        return codec.complete(result, schema)
    except (conversion.ConversionError, DecodeError) as error:
        raise CannotRead(str(error)) from error


def check_metadata(obj: Object) -> None:
    """What every list and selector relies on, of whatever kind an object is. Raises ``CannotRead``."""
    meta = obj.get("metadata")
    if not isinstance(meta, dict) or not isinstance(meta.get("name"), str):
        raise CannotRead("it has no name")
    for field in ("labels", "annotations"):
        values = meta.get(field) or {}
        if not isinstance(values, dict) or not set(map(type, values.values())) <= _TEXT:
            raise CannotRead(f"its {field} are not a map of strings")
