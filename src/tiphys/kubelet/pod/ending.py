"""How the kubelet itself ends a pod. A leaf."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Ending:
    """Reason and message of a pod that the kubelet fails.

    ``disrupted`` is the message of its condition DisruptionTarget: of one that goes for others, not for what it did.
    """

    reason: str
    message: str
    disrupted: str = ""
