"""Empty lists and maps that were sent, which the wire form leaves out, for error messages that show them.

Upstream keeps an empty list (``[]``) apart from an absent one (``null``) until it stores the object. Nothing depends on
it but the values in its error messages: objects here are without them, and a list of their places is kept beside.

Source: https://kubernetes.io/docs/reference/using-api/api-concepts/
"""

from __future__ import annotations

import re
from typing import Any

from tiphys.api.meta.copying import copy
from tiphys.api.object import Object

_STEP = re.compile(r"([^.\[\]]+)|\[(\d+)\]")


def with_empties(obj: Object, empties: list[tuple[str, Any]]) -> Object:
    """A copy of ``obj`` with what was sent empty put back. ``empties`` are paths, as ``a.b[0].c``, and values."""
    restored = copy(obj)
    for path, value in empties:
        _put(restored, [name or int(index) for name, index in _STEP.findall(path)], value)
    return restored


def _put(obj: Object, steps: list[str | int], value: Any) -> None:
    """Where the way there is still as it was; what has a value by now keeps it."""
    place: Any = obj
    for step in steps[:-1]:
        try:
            place = place[step]
        except (KeyError, IndexError, TypeError):
            return
    if isinstance(place, dict) and place.get(steps[-1]) is None:
        place[steps[-1]] = copy(value)
