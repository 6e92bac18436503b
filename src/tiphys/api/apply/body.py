"""The body of an apply request: YAML, of which JSON is a part.

It is not decoded into its type: what the client wrote, nulls included, is what it applies.
"""

from __future__ import annotations

from typing import Any

import orjson

from tiphys.api import errors
from tiphys.api.codec.decoding import Decoded
from tiphys.api.codec.yamltext import YAMLError, to_json

_MAP = "map[string]interface {}"


def decode_applied(body: bytes, field_validation: str = "Warn") -> Decoded:
    """The applied object as written, and warnings about keys that come twice. Raises ``StatusError`` 400."""
    try:
        text, doubled = to_json(body)
    except YAMLError as error:
        raise errors.bad_request(f"error decoding YAML: error converting YAML to JSON: {error}") from error
    found: Any = orjson.loads(text)
    if found is None:
        found = {}
    if not isinstance(found, dict):
        raise errors.bad_request(
            "error decoding YAML: error unmarshaling JSON: while decoding JSON: "
            f"json: cannot unmarshal {_name(found)} into Go value of type {_MAP}"
        )
    if doubled and field_validation == "Strict":
        lines = "".join(f"\n  {line}" for line in doubled)
        raise errors.bad_request(
            f"error strict decoding YAML: error converting YAML to JSON: yaml: unmarshal errors:{lines}"
        )
    return Decoded(found, doubled if field_validation == "Warn" else [])


def _name(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, (int, float)):
        return "number"
    return "string" if isinstance(value, str) else "array"
