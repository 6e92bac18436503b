"""How the kubelet itself ends a pod. A leaf."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Ending:
    """Reason and message of a pod that the kubelet fails. ``disrupted``: its conditions say that it was in the way."""

    reason: str
    message: str
    disrupted: bool = False
