"""Thresholds of eviction as they are written, ``100Mi`` or ``10%``, in the signal's own unit. Pure.

Source: https://kubernetes.io/docs/concepts/scheduling-eviction/node-pressure-eviction/#eviction-thresholds
"""

from __future__ import annotations

from collections.abc import Mapping

from tiphys.kubelet.quantities import value


def kept_free(thresholds: Mapping[str, str], signal: str, capacity: int) -> int:
    """How much of ``capacity`` a threshold keeps free; 0 without one."""
    threshold = thresholds.get(signal, "0")
    return int(capacity * float(threshold[:-1]) / 100) if threshold.endswith("%") else value(threshold)
