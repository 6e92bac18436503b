"""How often conversion webhooks are asked, and how long that takes; under upstream's names.

Source: https://kubernetes.io/docs/reference/instrumentation/metrics/
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from tiphys.runtime.vectors import HistogramVec, exponential

if TYPE_CHECKING:
    from prometheus_client.core import Metric

_CALLS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 45.0, 60.0)
_CONVERSIONS = exponential(0.001, 2, 15)


class ConversionFigures:
    def __init__(self) -> None:
        self._calls = HistogramVec(
            "apiserver_conversion_webhook_duration_seconds",
            "Latency of requests to conversion webhooks.",
            ("result", "failure_type"),
            _CALLS,
        )
        self._conversions = HistogramVec(
            "apiserver_crd_conversion_webhook_duration_seconds",
            "Duration of conversions of custom resources by webhooks.",
            ("crd_name", "from_version", "to_version", "succeeded"),
            _CONVERSIONS,
        )

    def observe(self, definition: str, versions: tuple[str, str], failure: str, seconds: float) -> None:
        """``failure`` is empty, or what kind of failure the call ended with."""
        self._calls.observe(seconds, "failure" if failure else "success", failure)
        self._conversions.observe(seconds, definition, *versions, "false" if failure else "true")

    def collect(self) -> Iterable[Metric]:
        """The three metrics, for ``/metrics``."""
        from prometheus_client.core import CounterMetricFamily

        total = CounterMetricFamily(
            "apiserver_conversion_webhook_request",
            "Requests to conversion webhooks, by their result.",
            labels=("result", "failure_type"),
        )
        for values, count in self._calls.observed().items():
            total.add_metric(values, count)
        yield total
        yield from self._calls.collect()
        yield from self._conversions.collect()
