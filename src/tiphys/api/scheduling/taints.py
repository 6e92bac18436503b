"""Taints of nodes and tolerations of pods: which toleration covers which taint.

Source: https://kubernetes.io/docs/concepts/scheduling-eviction/taint-and-toleration/
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

NO_SCHEDULE, PREFER_NO_SCHEDULE, NO_EXECUTE = "NoSchedule", "PreferNoSchedule", "NoExecute"
HARD = frozenset({NO_SCHEDULE, NO_EXECUTE})
SOFT = frozenset({PREFER_NO_SCHEDULE})
EVICTING = frozenset({NO_EXECUTE})

NOT_READY = "node.kubernetes.io/not-ready"
UNREACHABLE = "node.kubernetes.io/unreachable"
UNSCHEDULABLE = "node.kubernetes.io/unschedulable"
MEMORY_PRESSURE = "node.kubernetes.io/memory-pressure"

COMPARISONS = False
"""The feature gate TaintTolerationComparisonOperators (KEP-5471), which is alpha and off in v1.36."""

_DECIMAL = re.compile("0|-?[1-9][0-9]{0,18}").fullmatch


@dataclass(frozen=True, slots=True)
class Taint:
    key: str
    value: str
    effect: str


@dataclass(frozen=True, slots=True)
class Toleration:
    key: str
    """Empty: any key."""
    operator: str
    """``Exists``, ``Equal`` (also when empty), ``Lt`` or ``Gt``."""
    value: str
    effect: str
    """Empty: any effect."""
    seconds: int | None = None
    """How long a NoExecute taint is tolerated; None: for ever."""


def taint(described: Mapping[str, Any]) -> Taint:
    return Taint(described["key"], described.get("value") or "", described.get("effect") or "")


def toleration(described: Mapping[str, Any]) -> Toleration:
    return Toleration(
        described.get("key") or "",
        described.get("operator") or "",
        described.get("value") or "",
        described.get("effect") or "",
        described.get("tolerationSeconds"),
    )


def taints_of(node: Mapping[str, Any]) -> tuple[Taint, ...]:
    return tuple(map(taint, (node.get("spec") or {}).get("taints") or ()))


def tolerations_of(pod_spec: Mapping[str, Any]) -> tuple[Toleration, ...]:
    return tuple(map(toleration, pod_spec.get("tolerations") or ()))


def tolerates(toleration: Toleration, taint: Taint, *, comparisons: bool = COMPARISONS) -> bool:
    """Whether a toleration covers a taint; ``Lt`` and ``Gt`` never do unless ``comparisons`` are enabled."""
    if toleration.effect and toleration.effect != taint.effect:
        return False
    if toleration.key and toleration.key != taint.key:
        return False
    match toleration.operator:
        case "" | "Equal":
            return toleration.value == taint.value
        case "Exists":
            return True
        case "Lt" | "Gt" if comparisons:
            bound, value = _integer(toleration.value), _integer(taint.value)
            if bound is not None and value is not None:
                return value < bound if toleration.operator == "Lt" else value > bound
    return False


def _integer(text: str) -> int | None:
    """An integer of 64 bits in plain decimal, without a leading zero; None for everything else."""
    value = int(text) if _DECIMAL(text) else None
    return value if value is not None and -(2**63) <= value < 2**63 else None


def untolerated(taints: Iterable[Taint], tolerations: Iterable[Toleration], effects: frozenset[str]) -> list[Taint]:
    """The taints with one of the effects that no toleration covers, in their order."""
    tolerations = tuple(tolerations)
    return [one for one in taints if one.effect in effects and not any(tolerates(t, one) for t in tolerations)]
