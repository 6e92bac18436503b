"""Metrics in Prometheus' text format, under upstream's names (``apiserver_request_total``, …).

Each component has a ``Registry`` of its own, so that several components in one process do not mix their figures.
The classes are prometheus_client's; it is imported on first use, as it costs 20 ms.

Source: https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tiphys.runtime.watchdog import HOLDS

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores"


class Registry:
    """The metrics of one component. ``counter``, ``gauge`` and ``histogram`` make a metric or return the one made."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector

        self.collectors: CollectorRegistry = CollectorRegistry()
        ProcessCollector(registry=self.collectors)
        PlatformCollector(registry=self.collectors)
        self.collectors.register(HOLDS)
        self._made: dict[str, Counter | Gauge | Histogram] = {}

    def counter(self, name: str, help: str, labels: tuple[str, ...] = ()) -> Counter:
        from prometheus_client import Counter

        metric = self._made.get(name) or Counter(name, help, labels, registry=self.collectors)
        assert isinstance(metric, Counter)
        self._made[name] = metric
        return metric

    def gauge(self, name: str, help: str, labels: tuple[str, ...] = ()) -> Gauge:
        from prometheus_client import Gauge

        metric = self._made.get(name) or Gauge(name, help, labels, registry=self.collectors)
        assert isinstance(metric, Gauge)
        self._made[name] = metric
        return metric

    def histogram(self, name: str, help: str, labels: tuple[str, ...], buckets: tuple[float, ...]) -> Histogram:
        from prometheus_client import Histogram

        metric = self._made.get(name) or Histogram(name, help, labels, registry=self.collectors, buckets=buckets)
        assert isinstance(metric, Histogram)
        self._made[name] = metric
        return metric

    def expose(self) -> bytes:
        """All metrics in the text exposition format."""
        from prometheus_client import generate_latest

        return generate_latest(self.collectors)
