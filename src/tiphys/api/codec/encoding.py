"""Objects to JSON, as the wire and the store have it: ``kind``, ``apiVersion`` and ``metadata`` come first.

Source: https://kubernetes.io/docs/reference/using-api/api-concepts/
"""

from __future__ import annotations

from itertools import islice
from typing import Any

import orjson

_HEAD = ["kind", "apiVersion", "metadata"]


def ordered(obj: dict[str, Any]) -> dict[str, Any]:
    """The object with the fields that every kind has in front; the same dict if they are there already."""
    if list(islice(obj, len(_HEAD))) == _HEAD:
        return obj
    head = [key for key in _HEAD if key in obj]
    if list(islice(obj, len(head))) == head:
        return obj
    result = {key: obj[key] for key in head}
    result.update(obj)
    return result


def encode(obj: dict[str, Any]) -> bytes:
    """The wire form. Raises ``TypeError`` for what JSON cannot say."""
    return orjson.dumps(ordered(obj))
