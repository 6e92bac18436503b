"""Results that are kept by the text that they are made of, if it is short. A leaf.

``functools.lru_cache`` bounds how many results it keeps, and not how large the texts are: a few thousand requests with
a megabyte of text each would fill the memory for good. Source: https://docs.python.org/3/library/functools.html
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Any, Generic, TypeVar, cast

Made = TypeVar("Made", bound=Callable[..., Any])


def remembered(entries: int, longest: int) -> Callable[[Made], Made]:
    """Keep the newest ``entries`` results of a function of a text or bytes (and more arguments, which are small); what
    is longer than ``longest`` is worked out each time."""

    def decorate(function: Made) -> Made:
        kept = lru_cache(maxsize=entries)(function)

        @wraps(function)
        def call(text: str | bytes, *rest: Any, **named: Any) -> Any:
            return kept(text, *rest, **named) if len(text) <= longest else function(text, *rest, **named)

        return cast(Made, call)

    return decorate


Kept = TypeVar("Kept")


class Recent(Generic[Kept]):
    """The newest values by text, at most ``entries`` of them, and none by a text that is longer than ``longest``."""

    def __init__(self, entries: int, longest: int) -> None:
        self._entries = entries
        self._longest = longest
        self._kept: dict[bytes, Kept] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def __contains__(self, text: bytes) -> bool:
        return text in self._kept

    def get(self, text: bytes) -> Kept | None:
        return self._kept.get(text)

    def put(self, text: bytes, value: Kept) -> None:
        if len(text) > self._longest:
            return
        self._kept.pop(text, None)
        while len(self._kept) >= self._entries:
            self._kept.pop(next(iter(self._kept)), None)
        self._kept[text] = value
