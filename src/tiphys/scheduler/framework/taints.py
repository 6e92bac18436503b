"""Taints and tolerations. Source: https://kubernetes.io/docs/concepts/scheduling-eviction/taint-and-toleration/"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

NO_SCHEDULE, PREFER_NO_SCHEDULE, NO_EXECUTE = "NoSchedule", "PreferNoSchedule", "NoExecute"
HARD = frozenset({NO_SCHEDULE, NO_EXECUTE})
SOFT = frozenset({PREFER_NO_SCHEDULE})

UNSCHEDULABLE = "node.kubernetes.io/unschedulable"


@dataclass(frozen=True, slots=True)
class Taint:
    key: str
    value: str
    effect: str


@dataclass(frozen=True, slots=True)
class Toleration:
    key: str
    operator: str
    value: str
    effect: str

    def tolerates(self, taint: Taint) -> bool:
        if self.effect and self.effect != taint.effect:
            return False
        if self.key and self.key != taint.key:
            return False
        if self.operator in ("", "Equal"):
            return self.value == taint.value
        return self.operator == "Exists"


def taint(described: Mapping[str, Any]) -> Taint:
    return Taint(described["key"], described.get("value", ""), described["effect"])


def toleration(described: Mapping[str, Any]) -> Toleration:
    return Toleration(
        described.get("key", ""),
        described.get("operator", ""),
        described.get("value", ""),
        described.get("effect", ""),
    )


def untolerated(taints: Iterable[Taint], tolerations: Iterable[Toleration], effects: frozenset[str]) -> int:
    """How many of the taints with one of the effects no toleration covers."""
    tolerations = tuple(tolerations)
    return sum(1 for found in taints if found.effect in effects and not any(t.tolerates(found) for t in tolerations))
