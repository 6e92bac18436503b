"""``Gate``: which requests run at a time, by flow schemas and priority levels or, without them, by two limits."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from tiphys.apiserver.call import Filter
from tiphys.apiserver.config import Config
from tiphys.apiserver.filters.fairness import Fairness
from tiphys.apiserver.filters.inflight import InFlight
from tiphys.apiserver.flowcontrol import debug
from tiphys.apiserver.flowcontrol.controller import FlowController
from tiphys.apiserver.flowcontrol.figures import FlowFigures
from tiphys.apiserver.metrics import RequestMetrics
from tiphys.apiserver.registry.registries import Registries
from tiphys.runtime.clock import Clock
from tiphys.runtime.tasks import Runner


class Gate:
    """``filter`` is the filter; ``pages`` are debug pages, by path."""

    def __init__(self, config: Config, registries: Registries, clock: Clock) -> None:
        reading, mutating = config.max_requests_in_flight, config.max_mutating_requests_in_flight
        self.in_flight = InFlight(reading, mutating)
        self.filter: Filter = self.in_flight.filter
        self.pages: dict[str, Callable[[], str]] = {}
        self._fairness: Fairness | None = None
        if config.priority_and_fairness:
            controller = FlowController(registries, clock, reading + mutating)
            self._fairness = Fairness(
                controller, clock, FlowFigures(controller), self.in_flight, config.request_timeout
            )
            self.filter = self._fairness.filter
            self.pages = {debug.PREFIX + name: partial(page, controller, clock) for name, page in debug.PAGES.items()}

    @property
    def fairness(self) -> FlowController:
        """The levels and schemas in force."""
        assert self._fairness is not None, "priority and fairness is off"
        return self._fairness.controller

    async def start(self, runner: Runner, metrics: RequestMetrics) -> None:
        """Follow the objects that say how requests share the server."""
        if self._fairness is not None:
            await self._fairness.controller.follow()
            runner.supervise(self._fairness.controller.run, "priority and fairness")
            metrics.add_source(self._fairness.figures.collect)
