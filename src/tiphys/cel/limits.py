"""What a run may cost, and what it may make: costs are upstream's, and some of them say little about the work.

Adding two lists costs one, however long they are, and so do texts whose type is not known; a text in a list may stand
there a thousand times and be joined or shown; comparing two lists costs a tenth of their lengths, whatever is in them;
what fails costs nothing, and ``||`` may absorb it again and again.
So what a run makes and walks through in one step is bounded besides: it ends as if it had cost too much.

Source: https://kubernetes.io/docs/reference/using-api/cel/#resource-constraints
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

MOST_BYTES = 8 << 20
_ITEM, _LOOK, _ERROR = 8, 4, 40


class CostExceeded(Exception):
    """The run was cancelled, because it costs more than it may."""


def exceeded() -> CostExceeded:
    return CostExceeded("operation cancelled: actual cost limit exceeded")


class _Room(threading.local):
    left: int | None = None
    """Of the run of this thread, in bytes; None outside of runs."""


_room = _Room()


@contextmanager
def bounded() -> Iterator[None]:
    """For one run; what is run within it shares its bound."""
    outer = _room.left
    if outer is None:
        _room.left = MOST_BYTES
    try:
        yield
    finally:
        if outer is None:
            _room.left = None


def make_text(length: int) -> None:
    """Raises ``CostExceeded``, as do all of these."""
    if _room.left is not None:
        _room.left -= length
        if _room.left < 0:
            raise exceeded()


def make_items(count: int) -> None:
    make_text(count * _ITEM)


def look_at(count: int) -> None:
    """At items of lists and maps, one after another."""
    make_text(count * _LOOK)


def keep_error() -> None:
    """One that an operator absorbs."""
    make_text(_ERROR)


def show(value: Any) -> None:
    """As a text: a list or map with all that is in it."""
    if isinstance(value, str | bytes):
        make_text(len(value))
    elif isinstance(value, Mapping):
        make_items(len(value))
        for key, item in value.items():
            show(key)
            show(item)
    elif isinstance(value, list):
        make_items(len(value))
        for item in value:
            show(item)
