"""The figures of priority and fairness, under upstream's names.

Source: https://kubernetes.io/docs/concepts/cluster-administration/flow-control/#good-practice-apf-settings
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from tiphys.apiserver.flowcontrol.controller import Flow, FlowController
from tiphys.apiserver.flowcontrol.levels import PriorityLevel
from tiphys.runtime.vectors import HistogramVec

if TYPE_CHECKING:
    from prometheus_client.core import Metric

_LABELS = ("priority_level", "flow_schema")
_WAIT_BUCKETS = (0.0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0)


class FlowFigures:
    def __init__(self, controller: FlowController) -> None:
        self._controller = controller
        self._refused: Counter[tuple[str, str, str]] = Counter()
        self._waited = _durations("request_wait_duration_seconds")
        self._ran = _durations("request_execution_seconds")

    def dispatch(self, flow: Flow, waited: float) -> None:
        """A request gets its seats, after so many seconds."""
        self._waited.observe(waited, *flow.key)

    def refuse(self, flow: Flow, reason: str) -> None:
        self._refused[(*flow.key, reason)] += 1

    def finish(self, flow: Flow, ran: float) -> None:
        self._ran.observe(ran, *flow.key)

    def collect(self) -> Iterable[Metric]:
        """The metrics families, durations in seconds."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        dispatched = CounterMetricFamily(_name("dispatched_requests"), "Requests that were served.", labels=_LABELS)
        for key, number in self._waited.observed().items():
            dispatched.add_metric(key, number)
        refused = CounterMetricFamily(
            _name("rejected_requests"), "Requests that were turned away.", labels=(*_LABELS, "reason")
        )
        for row, count in self._refused.items():
            refused.add_metric(row, count)
        yield from (dispatched, refused)
        yield from self._waited.collect()
        yield from self._ran.collect()
        for name, read in _OF_LEVELS.items():
            gauge = GaugeMetricFamily(_name(name), "By priority level.", labels=("priority_level",))
            for level in self._controller.levels.values():
                gauge.add_metric((level.config.name,), float(read(level)))
            yield gauge


def _durations(name: str) -> HistogramVec:
    return HistogramVec(_name(name), "Time in queues, or of service.", _LABELS, _WAIT_BUCKETS)


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
