"""The body of an apply request: YAML, of which JSON is a part.

It is not decoded into its type: what the client wrote, nulls included, is what it applies. Source: KEP-555
"""

from __future__ import annotations

from typing import Any

import orjson

from tiphys.api import errors
from tiphys.api.codec.yamltext import YAMLError, to_json
from tiphys.api.object import Object

_MAP = "map[string]interface {}"


def read_applied(body: bytes) -> tuple[Object, list[str]]:
    """The applied object as written, and the keys that are repeated, a line each. Raises ``StatusError`` 400."""
    try:
        text, doubled = to_json(body)
    except YAMLError as error:
        raise errors.bad_request(f"error decoding YAML: error converting YAML to JSON: {error}") from error
    value: Any = orjson.loads(text)
    if value is None:
        value = {}
    if not isinstance(value, dict):
        raise errors.bad_request(
            "error decoding YAML: error unmarshaling JSON: while decoding JSON: "
            f"json: cannot unmarshal {_name(value)} into Go value of type {_MAP}"
        )
    return value, doubled


def _name(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, (int, float)):
        return "number"
    return "string" if isinstance(value, str) else "array"
