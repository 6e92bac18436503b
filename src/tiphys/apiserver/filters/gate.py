"""``Gate``: which requests run at a time, by flow schemas and priority levels or, without them, by two limits.

Source: https://kubernetes.io/docs/concepts/cluster-administration/flow-control/
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING

from tiphys.apiserver.call import Filter
from tiphys.apiserver.config import Config
from tiphys.apiserver.filters.fairness import Fairness
from tiphys.apiserver.filters.inflight import InFlight
from tiphys.apiserver.flowcontrol.controller import FlowController
from tiphys.apiserver.flowcontrol.figures import FlowFigures
from tiphys.apiserver.metrics import RequestMetrics
from tiphys.apiserver.registry.registries import Registries
from tiphys.runtime.clock import Clock
from tiphys.runtime.tasks import Runner

if TYPE_CHECKING:
    from prometheus_client.core import Metric


_DEBUG = "/debug/api_priority_and_fairness/"
_PAGES = ("dump_priority_levels", "dump_queues", "dump_requests")


def _page(name: str, controller: FlowController, clock: Clock) -> str:
    from tiphys.apiserver.flowcontrol import debug

    return debug.PAGES[name](controller, clock)


class Gate:
    """``filter`` is the filter; ``pages`` are debug pages, by path."""

    def __init__(self, config: Config, registries: Registries, clock: Clock) -> None:
        reading = -(-config.max_requests_in_flight // config.processes)  # each process takes its part, rounded up
        mutating = -(-config.max_mutating_requests_in_flight // config.processes)
        self.in_flight = InFlight(reading, mutating)
        self.filter: Filter = self.in_flight.filter
        self.pages: dict[str, Callable[[], str]] = {}
        self._sources: list[Callable[[], Iterable[Metric]]] = []
        self.fairness: FlowController | None = None
        """The levels and schemas in force."""
        if config.priority_and_fairness:
            controller = FlowController(registries, clock, reading + mutating)
            figures = FlowFigures(controller)
            fairness = Fairness(controller, clock, figures, self.in_flight, config.request_timeout)
            self.filter, self.fairness = fairness.filter, controller
            self._sources = [figures.collect]
            self.pages = {f"{_DEBUG}{name}": partial(_page, name, controller, clock) for name in _PAGES}

    async def start(self, runner: Runner, metrics: RequestMetrics) -> None:
        """Follow the objects that say how requests share the server."""
        if self.fairness is not None:
            await self.fairness.follow()
            runner.supervise(self.fairness.run, "priority and fairness")
        for source in self._sources:
            metrics.add_source(source)
