"""The scheduler's figures under upstream's names. They are plain numbers until somebody asks: prometheus_client is
imported with the first scrape."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from tiphys.runtime.watchdog import HOLDS

BUCKETS = tuple(0.001 * 2**i for i in range(15))


@dataclass(slots=True)
class Durations:
    """A histogram of seconds."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS) + 1))
    total: float = 0.0

    def observe(self, seconds: float) -> None:
        self.total += seconds
        for i, bound in enumerate(BUCKETS):
            if seconds <= bound:
                self.counts[i] += 1
                return
        self.counts[-1] += 1

    def cumulative(self) -> list[tuple[str, float]]:
        rows, running = [], 0
        for bound, number in zip((*map(str, BUCKETS), "+Inf"), self.counts, strict=True):
            running += number
            rows.append((bound, float(running)))
        return rows


class Figures:
    """``pending`` gives the number of pods in each place of the queue."""

    def __init__(self, pending: Callable[[], dict[str, int]]) -> None:
        self._pending = pending
        self.attempts: Counter[tuple[str, str]] = Counter()
        """By result (scheduled, unschedulable, error) and profile."""
        self.durations: dict[tuple[str, str], Durations] = {}
        self.algorithm = Durations()
        """Of choosing a node alone."""
        self.sources: list[Any] = []
        """Further collectors."""

    def attempt(self, result: str, profile: str, seconds: float) -> None:
        key = (result, profile)
        self.attempts[key] += 1
        if key not in self.durations:
            self.durations[key] = Durations()
        self.durations[key].observe(seconds)

    def expose(self) -> bytes:
        from prometheus_client import CollectorRegistry, generate_latest

        from tiphys.runtime.metrics import add_common

        registry = CollectorRegistry()
        add_common(registry)
        for source in self.sources:
            registry.register(source)
        registry.register(self)
        registry.register(HOLDS)
        return generate_latest(registry)

    def collect(self) -> Iterator[Any]:
        """The figures as families of prometheus_client; durations in seconds."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

        labels = ["result", "profile"]
        attempts = CounterMetricFamily(
            "scheduler_schedule_attempts",
            "Number of attempts to schedule pods, by the result. 'unschedulable' means a pod could not be scheduled, "
            "while 'error' means an internal scheduler problem.",
            labels=labels,
        )
        for key, number in self.attempts.items():
            attempts.add_metric(key, number)
        yield attempts
        durations = HistogramMetricFamily(
            "scheduler_scheduling_attempt_duration_seconds",
            "Scheduling attempt latency in seconds (scheduling algorithm + binding)",
            labels=labels,
        )
        for key, seconds in self.durations.items():
            durations.add_metric(key, seconds.cumulative(), seconds.total)
        yield durations
        pending = GaugeMetricFamily(
            "scheduler_pending_pods", "Number of pending pods, by the queue type.", labels=["queue"]
        )
        for name, size in self._pending().items():
            pending.add_metric([name], size)
        yield pending
        algorithm = HistogramMetricFamily(
            "scheduler_scheduling_algorithm_duration_seconds", "Scheduling algorithm latency in seconds"
        )
        algorithm.add_metric((), self.algorithm.cumulative(), self.algorithm.total)
        yield algorithm
