"""Dividing seats among levels: all get the same part of their target, as far as their bounds allow.

Source: KEP-1040, "Dispatching": max-min fairness.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

_LEAST_TARGET = 0.001


class Share(NamedTuple):
    """``target`` is at least ``lower``, ``upper`` too."""

    target: float
    lower: float
    upper: float

    def at(self, proportion: float) -> float:
        return min(self.upper, max(self.lower, proportion * max(self.target, _LEAST_TARGET)))


def allocate(total: float, shares: Sequence[Share]) -> list[float]:
    """Parts that sum up to ``total``, or to the bounds if those do not allow it. None is outside of its bounds.

    The common proportion is where a function that only grows, made of straight lines, reaches ``total``.
    """
    if not shares or total <= sum(share.lower for share in shares):
        return [share.lower for share in shares]
    if total >= sum(share.upper for share in shares):
        return [share.upper for share in shares]
    corners = sorted(
        {bound / max(share.target, _LEAST_TARGET) for share in shares for bound in (share.lower, share.upper)}
    )
    low = high = 0.0
    for corner in corners:
        low, high = high, corner
        if sum(share.at(corner) for share in shares) >= total:
            break
    below, above = (sum(share.at(edge) for share in shares) for edge in (low, high))
    proportion = low if above == below else low + (high - low) * (total - below) / (above - below)
    return [share.at(proportion) for share in shares]
