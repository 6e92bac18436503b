"""The metrics of work queues, under client-go's names (``workqueue_depth``, ``workqueue_adds_total``, …)."""

from __future__ import annotations

from tiphys.runtime.metrics import Registry

_SECONDS = (1e-8, 1e-7, 1e-6, 9.999999999999999e-06, 9.999999999999999e-05, 0.001, 0.01, 0.1, 1.0, 10.0)


class QueueMetrics:
    """A ``QueueObserver`` that counts in a registry."""

    def __init__(self, registry: Registry, name: str) -> None:
        labels, self._name = ("name",), name
        self._depth = registry.gauge("workqueue_depth", "Current depth of workqueue", labels)
        self._adds = registry.counter("workqueue_adds", "Total number of adds handled by workqueue", labels)
        self._waited = registry.histogram(
            "workqueue_queue_duration_seconds",
            "How long in seconds an item stays in workqueue before being requested",
            labels,
            _SECONDS,
        )
        self._worked = registry.histogram(
            "workqueue_work_duration_seconds",
            "How long in seconds processing an item from workqueue takes.",
            labels,
            _SECONDS,
        )
        self._retries = registry.counter("workqueue_retries", "Total number of retries handled by workqueue", labels)
        self._show_nothing_yet()

    def _show_nothing_yet(self) -> None:
        self._depth.set(0, self._name)
        for counter in (self._adds, self._retries):
            counter.inc(self._name, by=0)
        for histogram in (self._waited, self._worked):
            histogram.show(self._name)

    def added(self, depth: int) -> None:
        self._adds.inc(self._name)
        self._depth.set(depth, self._name)

    def taken(self, waited: float, depth: int) -> None:
        self._waited.observe(waited, self._name)
        self._depth.set(depth, self._name)

    def finished(self, worked: float) -> None:
        self._worked.observe(worked, self._name)

    def retried(self) -> None:
        self._retries.inc(self._name)
