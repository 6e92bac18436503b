"""Reading a kubelet's ``/metrics/resource``: cumulative CPU time, memory in use, and when each container started.

Only the metrics that the API needs are read; a line that makes no sense is that line's loss alone.
Source: KEP-727 and https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format
"""

from __future__ import annotations

import re
from typing import NamedTuple

_LINE = re.compile(
    rb"(node|container)_(cpu_usage_seconds_total|memory_working_set_bytes|start_time_seconds)"
    rb"(?:\{([^}]*)\})? ([^ ]+)(?: (-?\d+))?\s*"
)
_LABEL = re.compile(rb'(\w+)="((?:[^"\\]|\\.)*)"')

Container = tuple[str, str, str]
"""Namespace, pod and container."""


class Point(NamedTuple):
    """A measurement. ``cpu`` in seconds since the container started, ``memory`` in bytes, times in Unix seconds."""

    timestamp: float
    cpu: float
    memory: int
    started: float = 0.0


class Sample(NamedTuple):
    """What one kubelet said."""

    node: Point | None
    containers: dict[Container, Point]


def read(text: bytes, now: float) -> Sample:
    """A measurement of each container that has CPU and memory. ``now`` stands for timestamps that are absent."""
    values: dict[Container | None, dict[bytes, tuple[float, float]]] = {}
    for line in text.splitlines():
        match = _LINE.fullmatch(line)
        if match is None:
            continue
        scope, name, labels, value, timestamp = match.groups()
        try:
            amount = float(value)
        except ValueError:
            continue
        when = int(timestamp) / 1000 if timestamp else now
        key = None if scope == b"node" else _container(labels or b"")
        values.setdefault(key, {})[name] = (amount, when)
    points = {key: point for key, row in values.items() if (point := _point(row)) is not None}
    node = points.pop(None, None)
    return Sample(node, {key: point for key, point in points.items() if key is not None})


def _container(labels: bytes) -> Container:
    values = dict(_LABEL.findall(labels))
    namespace, pod, container = (values.get(name, b"").decode() for name in (b"namespace", b"pod", b"container"))
    return namespace, pod, container


def _point(row: dict[bytes, tuple[float, float]]) -> Point | None:
    """None without CPU or memory, or if both are nothing: the container is on its way out."""
    cpu, memory = row.get(b"cpu_usage_seconds_total"), row.get(b"memory_working_set_bytes")
    if cpu is None or memory is None or (cpu[0] == 0 and memory[0] == 0):
        return None
    started = row.get(b"start_time_seconds", (0.0, 0.0))[0]
    return Point(cpu[1], cpu[0], int(memory[0]), started)
