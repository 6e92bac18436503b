"""Faults for tests: a method that raises, once or always."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


class Injected(Exception):
    """What a callback raises."""


@dataclass
class Fault:
    """Makes the method ``name`` of ``owner`` raise: at its next call, or at each. ``hits`` counts them."""

    owner: Any
    name: str
    always: bool = False
    hits: int = 0

    def __post_init__(self) -> None:
        original = getattr(self.owner, self.name)

        def raising(*args: Any, **more: Any) -> Any:
            if self.hits and not self.always:
                return original(*args, **more)
            self.hits += 1
            raise Injected(self.name)

        setattr(self.owner, self.name, raising)
