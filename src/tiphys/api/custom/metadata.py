"""``metadata`` of custom resources and of resources inside them: the one part whose type is known.

It is read as Go reads it into its type: what the type does not have is dropped, and reported if requested.

Source: https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/object-meta/
"""

from __future__ import annotations

from typing import Any

import orjson

from tiphys.api import fielderrors
from tiphys.api.codec.jsontext import Pairs, read
from tiphys.api.codec.typed import DecodeError, TypedDecoder, type_name
from tiphys.api.custom.shaping import EMBEDDED
from tiphys.api.object import Object
from tiphys.api.schema import object_meta


def read_metadata(value: Any, path: str = "metadata") -> tuple[Object, list[str]]:
    """The metadata as its type has it, and the messages about fields that it has not. Raises ``DecodeError``."""
    node = read(orjson.dumps(value))
    if node is None:
        return {}, []
    if not isinstance(node, Pairs):
        raise DecodeError(f"json: cannot unmarshal {type_name(node)} into Go value of type v1.ObjectMeta")
    decoder = TypedDecoder(path=path)
    meta = decoder.decode(node, object_meta())
    return meta, decoder.strict_errors


def coerce_embedded(value: Any, schema: Any, path: str, strict: list[str]) -> None:
    """Read the metadata of every resource inside a value, in place. Raises ``DecodeError``."""
    if not isinstance(schema, dict):
        return
    if isinstance(value, dict):
        if schema.get(EMBEDDED):
            _coerce(value, path, strict)
        properties, more = schema.get("properties") or {}, schema.get("additionalProperties")
        for name, inner in value.items():
            if name in properties:
                coerce_embedded(inner, properties[name], f"{path}.{name}" if path else name, strict)
            else:
                coerce_embedded(inner, more, f"{path}[{name}]", strict)
    elif isinstance(value, list):
        for i, item in enumerate(value):
            coerce_embedded(item, schema.get("items"), f"{path}[{i}]", strict)


def _coerce(obj: Object, path: str, strict: list[str]) -> None:
    before = f"{path}." if path else ""
    for name in ("apiVersion", "kind"):
        if name in obj and not isinstance(obj[name], str):
            raise DecodeError(str(fielderrors.invalid(before + name, obj[name], "must be a string")))
    if "metadata" not in obj:
        return
    at = f"{before}metadata"
    try:
        obj["metadata"], unknown = read_metadata(obj["metadata"], at)
    except DecodeError as error:
        raise DecodeError(str(fielderrors.invalid(at, obj["metadata"], str(error)))) from error
    strict += unknown
