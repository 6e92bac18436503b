"""``CycleState``: what plugins remember between the extension points of one pod's cycle."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class Clonable(Protocol):
    """State that a simulation (preemption) may change: it gets a copy."""

    def clone(self) -> Any: ...


class CycleState:
    """Entries by plugin name, and which plugins have nothing to do with this pod."""

    __slots__ = ("data", "skip_filter", "skip_score")

    def __init__(self) -> None:
        self.data: dict[str, Any] = {}
        self.skip_filter: set[str] = set()
        self.skip_score: set[str] = set()

    def clone(self) -> CycleState:
        other = CycleState()
        other.data = {key: value.clone() if isinstance(value, Clonable) else value for key, value in self.data.items()}
        other.skip_filter = self.skip_filter
        other.skip_score = self.skip_score
        return other
