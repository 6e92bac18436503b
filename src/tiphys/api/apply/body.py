"""The body of an apply request: YAML, of which JSON is a part.

It is not decoded into its type: what the client wrote, nulls included, is what it applies. Source: KEP-555
"""

from __future__ import annotations

import re
from typing import Any

import orjson

from tiphys.api import errors
from tiphys.api.codec.yamltext import YAMLError, to_json
from tiphys.api.object import Object

_MAP = "map[string]interface {}"
_LARGE = 16 * 1024
_MAX_DEPTH, _MAX_KEY = 150, 1000
"""YAML has limits near them."""
_MEANS_MORE = re.compile(rb"\x7f|\xc2[\x80-\x9f]|\xe2\x80[\xa8\xa9]|\xef\xbb\xbf|\xef\xbf[\xbe\xbf]").search
"""Characters that YAML refuses, or takes for line breaks."""


def read_applied(body: bytes) -> tuple[Object, list[str]]:
    """The applied object as written, and the keys that are repeated, a line each. Raises ``StatusError`` 400."""
    if len(body) > _LARGE and (plain := read_plain(body)) is not None:
        return plain, []
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


def read_plain(body: bytes) -> Object | None:
    """A body that is JSON as programs write it, read as such: YAML's tree of it is many times as large.

    None for what YAML might read in another way, or has a word on: repeated keys, for which the text that is written
    again differs; fractions; and what is at YAML's limits.
    """
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(value, dict) or orjson.dumps(value) != body.strip():
        return None
    if _MEANS_MORE(body) or not _is_plain(value, 0):
        return None
    ordered = orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    del value  # before there is another
    read: Object = orjson.loads(ordered)
    return read


def _is_plain(value: Any, depth: int) -> bool:
    kind = type(value)
    if kind is dict:
        return depth < _MAX_DEPTH and all(
            len(key) < _MAX_KEY and _is_plain(item, depth + 1) for key, item in value.items()
        )
    if kind is list:
        return depth < _MAX_DEPTH and all(_is_plain(item, depth + 1) for item in value)
    return kind is not float


def _name(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, (int, float)):
        return "number"
    return "string" if isinstance(value, str) else "array"
