"""How often conversion webhooks are asked, and how long that takes; under upstream's names.

Source: https://kubernetes.io/docs/reference/instrumentation/metrics/
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prometheus_client.core import Metric

_CALLS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 45.0, 60.0)
_CONVERSIONS = tuple(0.001 * 2**power for power in range(15))


class Durations:
    """A histogram for each set of label values."""

    def __init__(self, name: str, help: str, labels: tuple[str, ...], bounds: tuple[float, ...]) -> None:
        self._name, self._help, self._labels, self._bounds = name, help, labels, bounds
        self._counts: dict[tuple[str, ...], list[int]] = {}
        self._sums: dict[tuple[str, ...], float] = {}

    def observe(self, values: tuple[str, ...], seconds: float) -> None:
        counts = self._counts.setdefault(values, [0] * (len(self._bounds) + 1))
        counts[bisect_left(self._bounds, seconds)] += 1
        self._sums[values] = self._sums.get(values, 0.0) + seconds

    def counted(self) -> Iterable[tuple[tuple[str, ...], int]]:
        return ((values, sum(counts)) for values, counts in self._counts.items())

    def collect(self) -> Metric:
        """The histogram as prometheus_client has it."""
        from prometheus_client.core import HistogramMetricFamily

        family = HistogramMetricFamily(self._name, self._help, labels=self._labels)
        for values, counts in self._counts.items():
            so_far, buckets = 0, []
            for bound, count in zip((*map(str, self._bounds), "+Inf"), counts, strict=True):
                so_far += count
                buckets.append((bound, so_far))
            family.add_metric(values, buckets, self._sums[values])
        return family


class ConversionFigures:
    def __init__(self) -> None:
        self._calls = Durations(
            "apiserver_conversion_webhook_duration_seconds",
            "Latency of requests to conversion webhooks.",
            ("result", "failure_type"),
            _CALLS,
        )
        self._conversions = Durations(
            "apiserver_crd_conversion_webhook_duration_seconds",
            "Duration of conversions of custom resources by webhooks.",
            ("crd_name", "from_version", "to_version", "succeeded"),
            _CONVERSIONS,
        )

    def observe(self, definition: str, versions: tuple[str, str], failure: str, seconds: float) -> None:
        """``failure`` is empty, or what kind of failure the call ended with."""
        self._calls.observe(("failure" if failure else "success", failure), seconds)
        self._conversions.observe((definition, *versions, "false" if failure else "true"), seconds)

    def collect(self) -> Iterable[Metric]:
        """The three metrics, for ``/metrics``."""
        from prometheus_client.core import CounterMetricFamily

        total = CounterMetricFamily(
            "apiserver_conversion_webhook_request",
            "Requests to conversion webhooks, by their result.",
            labels=("result", "failure_type"),
        )
        for values, count in self._calls.counted():
            total.add_metric(values, count)
        yield total
        yield self._calls.collect()
        yield self._conversions.collect()
