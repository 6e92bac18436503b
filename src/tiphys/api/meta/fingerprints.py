"""A key for what has none: objects that are looked up by their whole value, instead of compared with each other."""

from __future__ import annotations

from typing import Any

import orjson


def fingerprint(value: Any) -> str:
    """The same for equal values of JSON, whatever the order of their keys."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()  # the bytes have room for more, which adds up
