"""The figures of priority and fairness, under upstream's names.

Source: https://kubernetes.io/docs/concepts/cluster-administration/flow-control/#good-practice-apf-settings
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from tiphys.apiserver.flowcontrol.controller import Flow, FlowController
from tiphys.apiserver.flowcontrol.levels import PriorityLevel

if TYPE_CHECKING:
    from prometheus_client.core import Metric

_WAIT_BUCKETS = (0.0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0)
Key = tuple[str, str]
"""Level and schema."""


class _Durations:
    def __init__(self) -> None:
        self.counts = [0] * (len(_WAIT_BUCKETS) + 1)
        self.total = 0.0

    def add(self, seconds: float) -> None:
        self.counts[bisect_left(_WAIT_BUCKETS, seconds)] += 1
        self.total += seconds

    def buckets(self) -> list[tuple[str, float]]:
        sum_, rows = 0, []
        for bound, count in zip((*map(str, _WAIT_BUCKETS), "+Inf"), self.counts, strict=True):
            sum_ += count
            rows.append((bound, float(sum_)))
        return rows


class FlowFigures:
    def __init__(self, controller: FlowController) -> None:
        self._controller = controller
        self._refused: Counter[tuple[str, str, str]] = Counter()
        self._waited: defaultdict[Key, _Durations] = defaultdict(_Durations)
        self._ran: defaultdict[Key, _Durations] = defaultdict(_Durations)

    def dispatch(self, flow: Flow, waited: float) -> None:
        """A request gets its seats, after so many seconds."""
        self._waited[flow.key].add(waited)

    def refuse(self, flow: Flow, reason: str) -> None:
        self._refused[(*flow.key, reason)] += 1

    def finish(self, flow: Flow, ran: float) -> None:
        self._ran[flow.key].add(ran)

    def collect(self) -> Iterable[Metric]:
        """The metrics families, durations in seconds."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

        labels = ("priority_level", "flow_schema")
        dispatched = CounterMetricFamily(_name("dispatched_requests"), "Requests that were served.", labels=labels)
        for key, waited in self._waited.items():
            dispatched.add_metric(key, sum(waited.counts))
        refused = CounterMetricFamily(
            _name("rejected_requests"), "Requests that were turned away.", labels=(*labels, "reason")
        )
        for row, count in self._refused.items():
            refused.add_metric(row, count)
        yield from (dispatched, refused)
        for name, durations in (
            ("request_wait_duration_seconds", self._waited),
            ("request_execution_seconds", self._ran),
        ):
            family = HistogramMetricFamily(_name(name), "Time in queues, or of service.", labels=labels)
            for key, seconds in durations.items():
                family.add_metric(key, seconds.buckets(), seconds.total)
            yield family
        for name, read in _OF_LEVELS.items():
            gauge = GaugeMetricFamily(_name(name), "By priority level.", labels=("priority_level",))
            for level in self._controller.levels.values():
                gauge.add_metric((level.config.name,), float(read(level)))
            yield gauge


def _name(name: str) -> str:
    return f"apiserver_flowcontrol_{name}"


def _executing(level: PriorityLevel) -> float:
    return len(level.queues.executing)


_OF_LEVELS: dict[str, Callable[[PriorityLevel], float]] = {
    "nominal_limit_seats": lambda level: level.limits.nominal,
    "lower_limit_seats": lambda level: level.limits.minimum,
    "upper_limit_seats": lambda level: level.limits.maximum,
    "current_limit_seats": lambda level: level.current,
    "demand_seats_high_watermark": lambda level: level.demand.high,
    "demand_seats_average": lambda level: level.demand.average,
    "demand_seats_stdev": lambda level: level.demand.deviation,
    "demand_seats_smoothed": lambda level: level.demand.smoothed,
    "current_inqueue_requests": lambda level: level.queues.waiting,
    "current_inqueue_seats": lambda level: level.queues.seats_waiting,
    "current_executing_requests": _executing,
    "current_executing_seats": lambda level: level.queues.seats_in_use,
}
