"""Counters, gauges and histograms by labels, as plain numbers until somebody asks: then prometheus_client is imported.

They are collectors of prometheus_client's, and cost under a microsecond an observation.

Source: https://prometheus.io/docs/concepts/metric_types/
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from prometheus_client.core import Metric


Relabel = Callable[[tuple[str, ...]], tuple[str, ...] | None]


class Collector(Protocol):
    """What a registry of prometheus_client's asks with every scrape."""

    def collect(self) -> Iterable[Metric]: ...


def exponential(start: float, factor: float, count: int) -> tuple[float, ...]:
    """Bounds of buckets, as Go's ``prometheus.ExponentialBuckets`` makes them."""
    return tuple(start * factor**power for power in range(count))


class CounterVec:
    """``name`` is without ``_total``; ``labels`` name the values of ``inc`` in their order.

    Without labels it shows 0 until something is counted, as upstream's.
    """

    def __init__(self, name: str, help: str, labels: Sequence[str] = ()) -> None:
        self._name, self._help, self._labels = name, help, tuple(labels)
        self.counts: defaultdict[tuple[str, ...], float] = defaultdict(int)
        if not self._labels:
            self.counts[()] = 0

    def inc(self, *values: str, by: float = 1) -> None:
        self.counts[values] += by

    def collect(self) -> Iterable[Metric]:
        from prometheus_client.core import CounterMetricFamily

        family = CounterMetricFamily(self._name, self._help, labels=self._labels)
        for values, count in self.counts.items():
            family.add_metric(values, count)
        yield family


class GaugeVec:
    """``labels`` name the values of ``set`` in their order, after the number.

    Without labels it shows 0 until it is set, as upstream's.
    """

    def __init__(self, name: str, help: str, labels: Sequence[str] = ()) -> None:
        self._name, self._help, self._labels = name, help, tuple(labels)
        self.values: dict[tuple[str, ...], float] = {} if self._labels else {(): 0}

    def set(self, value: float, *values: str) -> None:
        self.values[values] = value

    def clear(self) -> None:
        """Forget every row, before those that there are now are set."""
        self.values.clear()

    def collect(self) -> Iterable[Metric]:
        from prometheus_client.core import GaugeMetricFamily

        family = GaugeMetricFamily(self._name, self._help, labels=self._labels)
        for values, value in self.values.items():
            family.add_metric(values, value)
        yield family


class HistogramVec:
    """``bounds`` are the buckets' upper ends, ascending, without infinity."""

    def __init__(self, name: str, help: str, labels: Sequence[str], bounds: tuple[float, ...]) -> None:
        self._name, self._help, self._labels, self._bounds = name, help, tuple(labels), bounds
        self._counts: dict[tuple[str, ...], list[int]] = {}
        self._sums: dict[tuple[str, ...], float] = {}
        if not self._labels:
            self.show()

    def show(self, *values: str) -> None:
        """Show these labels from now on, before anything is observed."""
        if values not in self._counts:
            self._row(values)

    def observe(self, value: float, *values: str) -> None:
        counts = self._counts.get(values) or self._row(values)
        counts[bisect_left(self._bounds, value)] += 1
        self._sums[values] += value

    def _row(self, values: tuple[str, ...]) -> list[int]:
        self._sums[values] = 0.0
        row = self._counts[values] = [0] * (len(self._bounds) + 1)
        return row

    def observed(self) -> dict[tuple[str, ...], int]:
        """How many values there were, by labels."""
        return {values: sum(counts) for values, counts in self._counts.items()}

    def collect(self) -> Iterable[Metric]:
        yield self.shown_as(self._name, self._help, self._labels)

    def shown_as(self, name: str, help: str, labels: Sequence[str], relabel: Relabel = tuple) -> Metric:
        """What was observed, under another name: ``relabel`` turns the values of labels into those of ``labels``, or
        leaves a histogram out by None."""
        from prometheus_client.core import HistogramMetricFamily

        family = HistogramMetricFamily(name, help, labels=labels)
        for values, counts in self._counts.items():
            shown = relabel(values)
            if shown is None:
                continue
            so_far, rows = 0, []
            for bound, count in zip((*map(str, self._bounds), "+Inf"), counts, strict=True):
                so_far += count
                rows.append((bound, float(so_far)))
            family.add_metric(shown, rows, self._sums[values])
        return family
