"""The scheduler's figures under upstream's names.

Source: https://kubernetes.io/docs/reference/instrumentation/metrics/
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from tiphys.runtime.metrics import Registry
from tiphys.runtime.vectors import CounterVec, HistogramVec, exponential

_BY_RESULT = ("result", "profile")
_ATTEMPT = exponential(0.001, 2, 15)
_MANY_ATTEMPTS = 15
"""From so many attempts on, a pod's are counted together."""


class Figures:
    """``pending`` gives the number of pods in each place of the queue. Durations are in seconds."""

    def __init__(self, pending: Callable[[], dict[str, int]]) -> None:
        self._pending = pending
        self._attempts = CounterVec(
            "scheduler_schedule_attempts",
            "Number of attempts to schedule pods, by the result. 'unschedulable' means a pod could not be scheduled, "
            "while 'error' means an internal scheduler problem.",
            _BY_RESULT,
        )
        self._durations = HistogramVec(
            "scheduler_scheduling_attempt_duration_seconds",
            "Scheduling attempt latency in seconds (scheduling algorithm + binding)",
            _BY_RESULT,
            _ATTEMPT,
        )
        self._algorithm = HistogramVec(
            "scheduler_scheduling_algorithm_duration_seconds", "Scheduling algorithm latency in seconds", (), _ATTEMPT
        )
        self._indicators = HistogramVec(
            "scheduler_pod_scheduling_sli_duration_seconds",
            "E2e latency for a pod being scheduled, from the time the pod enters the scheduling queue and might involve"
            " multiple scheduling attempts.",
            ("attempts",),
            exponential(0.01, 2, 20),
        )
        self._attempts_of_pods = HistogramVec(
            "scheduler_pod_scheduling_attempts",
            "Number of attempts to successfully schedule a pod.",
            (),
            exponential(1, 2, 5),
        )
        self.sources: list[Any] = []
        """Further collectors."""

    def attempt(self, result: str, profile: str, seconds: float) -> None:
        self._attempts.inc(result, profile)
        self._durations.observe(seconds, result, profile)

    def chosen(self, seconds: float) -> None:
        """Choosing a node alone took so long, whatever came of it."""
        self._algorithm.observe(seconds)

    def scheduled(self, attempts: int, seconds: float) -> None:
        """A pod is bound, so long after its first attempt began."""
        many = f"{_MANY_ATTEMPTS}+" if attempts >= _MANY_ATTEMPTS else str(attempts)
        self._indicators.observe(seconds, many)
        self._attempts_of_pods.observe(attempts)

    def expose(self) -> bytes:
        return Registry(*self.sources, self).expose()

    def collect(self) -> Iterator[Any]:
        """The figures as families of prometheus_client."""
        from prometheus_client.core import GaugeMetricFamily

        for vector in (
            *(self._attempts, self._durations, self._algorithm),
            *(self._indicators, self._attempts_of_pods),
        ):
            yield from vector.collect()
        pending = GaugeMetricFamily(
            "scheduler_pending_pods", "Number of pending pods, by the queue type.", labels=["queue"]
        )
        for name, size in self._pending().items():
            pending.add_metric([name], size)
        yield pending
