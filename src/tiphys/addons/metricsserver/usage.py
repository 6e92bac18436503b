"""``Usage``: the last two measurements of every node and container, and what was used between them. Pure.

A container that has started since the measurement before counts from its start, if that is not too short ago.
Source: metrics-server's semantics, https://github.com/kubernetes-sigs/metrics-server/blob/master/FAQ.md
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from tiphys.addons.metricsserver.exposition import Container, Point, Sample

_YOUNGEST_SECONDS = 10.0
"""A container younger than this has no usage yet, as it would be a matter of chance."""
_CLOCK_SECONDS = 10.0
"""How far behind its first measurement a container's start may be for the start to count as that measurement."""


class Rate(NamedTuple):
    """Use over a window. ``cpu`` in nanocores, ``memory`` in bytes at its end, times in Unix seconds."""

    timestamp: float
    window: float
    cpu: int
    memory: int


class _Pair(NamedTuple):
    last: Point
    before: Point | None

    def next(self, point: Point) -> _Pair:
        if point.timestamp <= self.last.timestamp:
            return self
        restarted = point.cpu < self.last.cpu or point.started > self.last.timestamp
        return _first(point) if restarted else _Pair(point, self.last)

    def rate(self) -> Rate | None:
        before, last = self.before, self.last
        if before is None or last.cpu < before.cpu:
            return None
        window = last.timestamp - before.timestamp
        return Rate(last.timestamp, window, round((last.cpu - before.cpu) / window * 1e9), last.memory)


def _first(point: Point) -> _Pair:
    """A first measurement: with the container's start before it, if that is known and long enough ago."""
    age = point.timestamp - point.started
    if point.started and _YOUNGEST_SECONDS <= age <= 6 * _CLOCK_SECONDS:
        return _Pair(point, Point(point.started, 0.0, point.memory, point.started))
    return _Pair(point, None)


class Usage:
    def __init__(self) -> None:
        self._nodes: dict[str, _Pair] = {}
        self._pods: dict[tuple[str, str], dict[str, _Pair]] = {}

    def store(self, samples: Mapping[str, Sample]) -> None:
        """Take over one round of measurements, by node. What nobody reports any more is forgotten."""
        nodes: dict[str, _Pair] = {}
        pods: dict[tuple[str, str], dict[str, _Pair]] = {}
        for name, sample in samples.items():
            if sample.node is not None:
                nodes[name] = self._nodes[name].next(sample.node) if name in self._nodes else _first(sample.node)
            for container, point in sample.containers.items():
                pods.setdefault(container[:2], {})[container[2]] = self._pair(container, point)
        self._nodes, self._pods = nodes, pods

    def _pair(self, container: Container, point: Point) -> _Pair:
        known = self._pods.get(container[:2], {}).get(container[2])
        return _first(point) if known is None else known.next(point)

    @property
    def is_ready(self) -> bool:
        """Whether anything can be said at all."""
        return any(self.node(name) is not None for name in self._nodes)

    def node(self, name: str) -> Rate | None:
        pair = self._nodes.get(name)
        return None if pair is None else pair.rate()

    def pod(self, namespace: str, name: str) -> dict[str, Rate] | None:
        """The rates of a pod's containers; None unless each has one."""
        pairs = self._pods.get((namespace, name))
        if not pairs:
            return None
        rates = {container: rate for container, pair in pairs.items() if (rate := pair.rate()) is not None}
        return rates if len(rates) == len(pairs) else None

    def pods(self) -> Iterable[tuple[str, str]]:
        return self._pods.keys()
