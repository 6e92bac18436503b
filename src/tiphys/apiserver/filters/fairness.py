"""Priority and fairness: a request runs when its level has seats for it, waits in its flow's queue, or is turned away.

A watch holds its seats until it has shown what exists; other long-running requests need none.
Source: https://kubernetes.io/docs/concepts/cluster-administration/flow-control/
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from tiphys.apiserver.call import Call, Endpoint
from tiphys.apiserver.filters.holding import held
from tiphys.apiserver.filters.inflight import InFlight
from tiphys.apiserver.flowcontrol.controller import Flow, FlowController
from tiphys.apiserver.flowcontrol.figures import FlowFigures
from tiphys.apiserver.flowcontrol.queueset import Ticket, TicketState
from tiphys.runtime.clock import Clock
from tiphys.wire.http import Response

MAX_WAIT_SECONDS = 60.0
_WAITING = TicketState.WAITING
_RETRY_SECONDS = 1
_TEXT = {"Content-Type": "text/plain; charset=utf-8", "X-Content-Type-Options": "nosniff"}


class TurnedAway(Exception):
    """The request is turned away; the text says why, as metrics call it."""


@dataclass(slots=True)
class Fairness:
    controller: FlowController
    clock: Clock
    figures: FlowFigures
    in_flight: InFlight
    """Counts the requests that run; its limits are not looked at."""
    request_timeout: float
    """Seconds. A request waits for a quarter of it at the most."""

    async def filter(self, call: Call, proceed: Endpoint) -> Response:
        """Seat the request, or let it wait; 429 if its queue is full or its wait too long."""
        if call.is_long_running and call.info.verb != "watch":
            return await proceed(call)
        flow = self.controller.classify(call.user, call.info)
        call.headers.update(flow.headers)
        try:
            ticket = self._start(call, flow)
            if ticket.state is _WAITING:
                await self._wait(flow, ticket)
        except TurnedAway as refused:
            self.figures.refuse(flow, str(refused))
            call.terminated = True
            headers = {**_TEXT, "Retry-After": str(_RETRY_SECONDS)}
            return Response(429, headers, b"Too many requests, please try again later.\n")
        uncount = self.in_flight.enter(call)

        def end() -> None:
            uncount()
            self._finish(flow, ticket)

        if call.info.verb == "watch":  # leaves when it has begun, or when it ends before that
            end = call.on_initialized = _once(end)
        try:
            response = await proceed(call)
        except BaseException:
            end()
            raise
        if isinstance(response.body, bytes):
            end()
            return response
        return held(call, response, end)

    def _start(self, call: Call, flow: Flow) -> Ticket:
        """A ticket that has its seats, or waits for them. Raises ``TurnedAway``."""
        queues, now = flow.level.queues, self.clock.monotonic()
        work = self.controller.work(call, flow.level)
        ticket = Ticket(flow.schema.name, flow.distinguisher, work, now)
        if not queues.start(ticket, flow.hash, now):
            raise TurnedAway("queue-full" if queues.queues else "concurrency-limit")
        if ticket.state is not _WAITING:
            self.figures.dispatch(flow, 0.0)
        return ticket

    async def _wait(self, flow: Flow, ticket: Ticket) -> None:
        """Wait for a ticket's seats. Raises ``TurnedAway`` when its time is over."""
        called = asyncio.get_running_loop().create_future()
        ticket.called = lambda: None if called.done() else called.set_result(None)
        try:
            async with asyncio.timeout(min(MAX_WAIT_SECONDS, self.request_timeout / 4)):
                await called
        except TimeoutError:
            if ticket.state is _WAITING:
                flow.level.queues.abandon(ticket, self.clock.monotonic())
                raise TurnedAway("time-out") from None
        except asyncio.CancelledError:
            now = self.clock.monotonic()
            if ticket.state is _WAITING:
                flow.level.queues.abandon(ticket, now)
            else:
                self._finish(flow, ticket)
            self.figures.refuse(flow, "cancelled")
            raise
        self.figures.dispatch(flow, self.clock.monotonic() - ticket.arrived)

    def _finish(self, flow: Flow, ticket: Ticket) -> None:
        now = self.clock.monotonic()
        self.figures.finish(flow, now - ticket.started)
        lingers = flow.level.queues.finish(ticket, now)
        if lingers > 0:
            loop = asyncio.get_running_loop()
            loop.call_later(lingers, lambda: flow.level.queues.release(ticket, self.clock.monotonic()))


def _once(action: Callable[[], None]) -> Callable[[], None]:
    """The action, which only its first call performs."""
    left = [action]

    def perform() -> None:
        if left:
            left.pop()()

    return perform
