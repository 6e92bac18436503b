"""``CycleState``: what plugins remember between the extension points of one pod's cycle.

Source: https://kubernetes.io/docs/concepts/scheduling-eviction/scheduling-framework/
"""

from __future__ import annotations

from typing import Any


class CycleState:
    """Entries by plugin name, and which plugins have nothing to do with this pod.

    An entry that simulations change has a method ``clone``: each of them gets a copy.
    """

    __slots__ = ("data", "skip_filter", "skip_score")

    def __init__(self) -> None:
        self.data: dict[str, Any] = {}
        self.skip_filter: set[str] = set()
        self.skip_score: set[str] = set()

    def clone(self) -> CycleState:
        other = CycleState()
        other.data = {key: value.clone() if hasattr(value, "clone") else value for key, value in self.data.items()}
        other.skip_filter = self.skip_filter
        other.skip_score = self.skip_score
        return other
