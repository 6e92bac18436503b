"""``QueueSet``: the seats of one priority level and the queues in front of them. Pure: callers pass the time.

Requests of one flow wait in one queue, first come first served; queues take turns by virtual time: the queue whose next
request would finish first, if all queues were served at once, is next. Sources: KEP-1040, "Fair Queuing for Server
Requests", and Demers, Keshav, Shenker: Analysis and Simulation of a Fair Queueing Algorithm (1989).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from typing import NamedTuple

from tiphys.apiserver.flowcontrol.sharding import deal
from tiphys.apiserver.flowcontrol.work import RequestWork

_GUESSED_SERVICE_SECONDS = 0.003


class Queuing(Enum):
    """What a level does with requests for which no seat is free."""

    EXEMPT = "exempt"
    """There is a seat for everybody."""
    REJECT = "reject"
    QUEUE = "queue"


_EXEMPT, _QUEUE = Queuing.EXEMPT, Queuing.QUEUE
# A global is read in 5 ns, a member of its enum, as Python 3.11 has it, in 100.


class QueueConfig(NamedTuple):
    queuing: Queuing
    queues: int = 0
    hand: int = 0
    queue_length: int = 0


class TicketState(IntEnum):
    WAITING = 0
    EXECUTING = 1
    LINGERING = 2
    DONE = 3


_WAITING, _EXECUTING = TicketState.WAITING, TicketState.EXECUTING
_LINGERING, _DONE = TicketState.LINGERING, TicketState.DONE
_NEXT = ((_EXECUTING, _DONE), (_LINGERING, _DONE), (_DONE,), ())
"""What each state, by its number, may become."""


@dataclass(slots=True, eq=False)
class Ticket:
    """One request in a level. ``called`` is run when a waiting ticket gets its seats."""

    schema: str
    flow: str
    work: RequestWork
    arrived: float
    queue: _Queue | None = None
    arrival: float = 0.0
    """In virtual time."""
    started: float = 0.0
    state: TicketState = _WAITING
    called: Callable[[], None] | None = None
    seats: int = 0
    """The most that its work takes."""

    def __post_init__(self) -> None:
        self.seats = self.work.seats

    def become(self, state: TicketState) -> None:
        assert state in _NEXT[self.state], f"a ticket that is {self.state.name} cannot be {state.name}"
        self.state = state

    @property
    def total_work(self) -> float:
        """Seat-seconds, as far as they can be guessed."""
        return self.work.initial * _GUESSED_SERVICE_SECONDS + self.work.final * self.work.lingers


@dataclass(slots=True, eq=False)
class _Queue:
    index: int
    waiting: deque[Ticket] = field(default_factory=deque)
    executing: set[Ticket] = field(default_factory=set)
    seats: int = 0
    """In use by its requests."""
    work: float = 0.0
    """Of those that wait."""
    next_dispatch: float = 0.0
    """In virtual time: when the next request may start."""

    @property
    def active(self) -> bool:
        return bool(self.waiting or self.executing)


class QueueSet:
    """``observe`` is called with the number of seats that are wanted, in use or waited for, whenever it changes."""

    def __init__(self, config: QueueConfig, seats: int, now: float, observe: Callable[[int, float], None]) -> None:
        self.config = config
        self.seats = seats
        self.queues = [_Queue(index) for index in range(config.queues)]
        self.waiting = 0
        self.executing: set[Ticket] = set()
        self.seats_in_use = 0
        self.seats_waiting = 0
        self.dispatched = self.rejected = self.timed_out = 0
        self._observe = observe
        self._virtual = 0.0
        self._last = now
        self._active = 0
        self._queued_seats = 0
        """In use by requests that came through queues, and waited for."""
        self._robin = 0
        self._enqueued = 0

    def configure(self, config: QueueConfig, seats: int, now: float) -> None:
        """Take another configuration. Queues that are not needed any more vanish once they are empty."""
        self._sync(now)
        self.config, self.seats = config, seats
        while len(self.queues) < config.queues:
            self.queues.append(_Queue(len(self.queues)))
        self._drop_queues()
        self._dispatch(now)

    @property
    def is_idle(self) -> bool:
        return not (self.waiting or self.executing or self.seats_in_use)

    # -- a request's way

    def start(self, ticket: Ticket, flow_hash: int, now: float) -> bool:
        """Give a ticket its seats, or let it wait. False if it is turned away."""
        self._sync(now)
        if self.config.queuing is _QUEUE:
            return self._enqueue(ticket, flow_hash, now)
        if not self._has_seats_for(ticket.seats):
            self.rejected += 1
            return False
        self._execute(ticket, now)
        self._changed(now)
        return True

    def finish(self, ticket: Ticket, now: float) -> float:
        """The request is answered. Returns the seconds after which ``release`` must be called; 0: it need not."""
        self._sync(now)
        queue = ticket.queue
        if queue is not None:
            guessed_too_much = _GUESSED_SERVICE_SECONDS - (now - ticket.started)
            queue.next_dispatch -= ticket.work.initial * guessed_too_much
            queue.executing.discard(ticket)
            self._bound(queue)
            self._deactivated(queue)
        self.executing.discard(ticket)
        if ticket.work.lingers > 0:
            ticket.become(_LINGERING)
            self._dispatch(now)  # one that is wider than the level waits for nobody to run, not for free seats
            self._changed(now)
            return ticket.work.lingers
        self._release(ticket, now)
        return 0.0

    def release(self, ticket: Ticket, now: float) -> None:
        """A lingering ticket gives its seats back."""
        self._sync(now)
        self._release(ticket, now)

    def abandon(self, ticket: Ticket, now: float) -> None:
        """A waiting ticket leaves: its client or its time is gone."""
        self._sync(now)
        queue = ticket.queue
        assert queue is not None
        queue.waiting.remove(ticket)
        ticket.become(_DONE)
        self._left(queue, ticket)
        self.timed_out += 1
        self._bound(queue)
        self._deactivated(queue)
        self._drop_queues()
        self._changed(now)

    # -- queues

    def _enqueue(self, ticket: Ticket, flow_hash: int, now: float) -> bool:
        queue = self._choose(flow_hash)
        if self.seats_in_use >= self.seats and len(queue.waiting) >= self.config.queue_length:
            self.rejected += 1
            return False
        if not queue.active:
            queue.next_dispatch = self._virtual
            self._active += 1
        ticket.queue, ticket.arrival = queue, self._virtual
        if not queue.waiting:
            queue.next_dispatch = max(queue.next_dispatch, ticket.arrival)
        if not self.waiting and self.seats_in_use < self.seats and self._has_seats_for(ticket.seats):
            self._robin = queue.index
            self._seat(queue, ticket, now)
            self._changed(now)
            return True
        queue.waiting.append(ticket)
        queue.work += ticket.total_work
        self.waiting += 1
        self.seats_waiting += ticket.seats
        self._queued_seats += ticket.seats
        self._dispatch(now)
        self._changed(now)
        return True

    def _choose(self, flow_hash: int) -> _Queue:
        """The queue with the least work among the flow's hand; ties go round."""
        hand = deal(flow_hash, self.config.queues, self.config.hand)
        offset = self._enqueued % len(hand)
        self._enqueued += 1
        if not self.waiting:  # all are equal
            return self.queues[hand[offset]]
        return min((self.queues[index] for index in (*hand[offset:], *hand[:offset])), key=lambda queue: queue.work)

    def _dispatch(self, now: float) -> None:
        """Give seats to those that wait, as long as there are some."""
        while self.waiting and self.seats_in_use < self.seats:
            queue = self._next_queue()
            ticket = queue.waiting[0]
            if not self._has_seats_for(ticket.seats):
                return
            queue.waiting.popleft()
            self._left(queue, ticket)
            self._seat(queue, ticket, now)
            self._bound(queue)

    def _seat(self, queue: _Queue, ticket: Ticket, now: float) -> None:
        """Give seats to a ticket, which does not stand in its queue any more."""
        ticket.work = ticket.work.bounded(self.seats)
        ticket.seats = ticket.work.seats
        self._queued_seats += ticket.seats
        queue.next_dispatch += ticket.total_work
        queue.executing.add(ticket)
        queue.seats += ticket.seats
        self._execute(ticket, now)

    def _next_queue(self) -> _Queue:
        count, best, soonest = len(self.queues), None, float("inf")
        for step in range(1, count + 1):
            queue = self.queues[(self._robin + step) % count]
            if queue.waiting and queue.next_dispatch + queue.waiting[0].total_work < soonest:
                best, soonest = queue, queue.next_dispatch + queue.waiting[0].total_work
        assert best is not None, "somebody waits"
        self._robin = best.index
        return best

    def _left(self, queue: _Queue, ticket: Ticket) -> None:
        queue.work = queue.work - ticket.total_work if queue.waiting else 0.0
        self.waiting -= 1
        self.seats_waiting -= ticket.seats
        self._queued_seats -= ticket.seats

    def _bound(self, queue: _Queue) -> None:
        """A queue saves up no time from before its oldest request came."""
        if queue.waiting and queue.next_dispatch < queue.waiting[0].arrival:
            queue.next_dispatch = queue.waiting[0].arrival

    def _deactivated(self, queue: _Queue) -> None:
        if not queue.active:
            self._active -= 1

    def _drop_queues(self) -> None:
        """Those at the end that are over the configured number, as far as they are empty."""
        while len(self.queues) > self.config.queues and not (self.queues[-1].active or self.queues[-1].seats):
            self.queues.pop()
        self._robin = min(self._robin, max(len(self.queues) - 1, 0))

    # -- seats

    def _has_seats_for(self, seats: int) -> bool:
        if self.config.queuing is _EXEMPT:
            return True
        if seats > self.seats:
            return not self.executing
        return self.seats_in_use + seats <= self.seats

    def _execute(self, ticket: Ticket, now: float) -> None:
        ticket.become(_EXECUTING)
        ticket.started = now
        self.executing.add(ticket)
        self.seats_in_use += ticket.seats
        self.dispatched += 1
        if ticket.called is not None:
            ticket.called()

    def _release(self, ticket: Ticket, now: float) -> None:
        ticket.become(_DONE)
        self.seats_in_use -= ticket.seats
        if ticket.queue is not None:
            ticket.queue.seats -= ticket.seats
            self._queued_seats -= ticket.seats
            self._drop_queues()
        self._dispatch(now)
        self._changed(now)

    def _changed(self, now: float) -> None:
        self._observe(self.seats_in_use + self.seats_waiting, now)

    # -- virtual time

    def _sync(self, now: float) -> None:
        """Virtual time runs as fast as each active queue would be served if all were served at once."""
        if self._active:
            self._virtual += (now - self._last) * min(self._queued_seats, self.seats) / self._active
        self._last = now
