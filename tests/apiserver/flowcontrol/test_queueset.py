"""Seats and queues of one level, on a clock of the test's own. Scenarios follow those of upstream's queueset tests."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field

import pytest

from tiphys.apiserver.flowcontrol.queueset import QueueConfig, QueueSet, Queuing, Ticket, TicketState
from tiphys.apiserver.flowcontrol.sharding import deal, flow_hash
from tiphys.apiserver.flowcontrol.work import RequestWork

FAIR = QueueConfig(Queuing.QUEUE, queues=8, hand=3, queue_length=50)


@dataclass
class Level:
    """A queue set and what it said of the seats that are wanted."""

    queues: QueueSet
    wanted: list[int] = field(default_factory=list)

    @classmethod
    def of(cls, config: QueueConfig, seats: int) -> Level:
        level = cls.__new__(cls)
        level.wanted = []
        level.queues = QueueSet(config, seats, 0.0, lambda wanted, now: level.wanted.append(wanted))
        return level

    def start(self, flow: str, now: float = 0.0, work: RequestWork | None = None) -> Ticket | None:
        ticket = Ticket("schema", flow, work or RequestWork(), now)
        return ticket if self.queues.start(ticket, flow_hash("schema", flow), now) else None


def test_an_exempt_level_has_a_seat_for_everybody() -> None:
    level = Level.of(QueueConfig(Queuing.EXEMPT), 0)
    assert all(level.start("a") is not None for _ in range(1000))
    assert level.queues.seats_in_use == 1000


def test_a_level_that_rejects_turns_away_what_has_no_seat() -> None:
    level = Level.of(QueueConfig(Queuing.REJECT), 2)
    first, second, third = level.start("a"), level.start("a"), level.start("b")
    assert first is not None
    assert second is not None
    assert third is None
    assert (level.queues.dispatched, level.queues.rejected) == (2, 1)
    level.queues.finish(first, 1.0)
    assert level.start("b", 1.0) is not None


def test_who_has_no_seat_waits_and_is_called_in_turn() -> None:
    level = Level.of(FAIR, 1)
    called: list[str] = []
    running = level.start("a")
    tickets = []
    for name in ("one", "two"):
        ticket = level.start("a")
        assert ticket is not None
        ticket.called = lambda name=name: called.append(name)  # type: ignore[misc]
        tickets.append(ticket)
    assert [ticket.state for ticket in tickets] == [TicketState.WAITING] * 2
    assert running is not None
    level.queues.finish(running, 1.0)
    assert called == ["one"]
    level.queues.finish(tickets[0], 2.0)
    assert called == ["one", "two"]


def test_a_full_queue_turns_away_although_others_have_room() -> None:
    level = Level.of(QueueConfig(Queuing.QUEUE, queues=4, hand=1, queue_length=2), 1)
    outcomes = [level.start("noisy") is not None for _ in range(5)]
    assert outcomes == [True, True, True, False, False]
    quiet = next(flow for flow in map(str, range(99)) if deal(flow_hash("schema", flow), 4, 1) !=
                 deal(flow_hash("schema", "noisy"), 4, 1))  # fmt: skip
    assert level.start(quiet) is not None


def test_who_leaves_the_queue_is_not_called() -> None:
    level = Level.of(FAIR, 1)
    running, impatient, patient = level.start("a"), level.start("a"), level.start("a")
    assert running is not None
    assert impatient is not None
    assert patient is not None
    level.queues.abandon(impatient, 1.0)
    level.queues.finish(running, 2.0)
    assert (impatient.state, patient.state) == (TicketState.DONE, TicketState.EXECUTING)
    assert level.queues.timed_out == 1


def test_a_wide_request_waits_for_as_many_seats_and_nobody_passes_it() -> None:
    level = Level.of(QueueConfig(Queuing.QUEUE, queues=1, hand=1, queue_length=50), 4)
    narrow = [level.start("a") for _ in range(3)]
    wide, later = level.start("b", work=RequestWork(3)), level.start("c")
    assert wide is not None
    assert later is not None
    assert (wide.state, later.state) == (TicketState.WAITING, TicketState.WAITING)
    for ticket in narrow[:2]:
        assert ticket is not None
        level.queues.finish(ticket, 1.0)
    assert (wide.state, later.state) == (TicketState.EXECUTING, TicketState.WAITING)


def test_a_request_wider_than_the_level_runs_alone() -> None:
    level = Level.of(FAIR, 2)
    other = level.start("a")
    wide = level.start("b", work=RequestWork(5))
    assert other is not None
    assert wide is not None
    assert wide.state is TicketState.WAITING
    level.queues.finish(other, 1.0)
    assert wide.state is TicketState.EXECUTING


def test_seats_for_watch_events_are_held_after_the_answer() -> None:
    level = Level.of(FAIR, 10)
    write = level.start("a", work=RequestWork(1, 20, 0.005))
    assert write is not None
    assert (write.work.final, write.work.lingers) == (10, 0.01)
    assert level.queues.finish(write, 1.0) == 0.01
    assert level.queues.seats_in_use == 10
    level.queues.release(write, 1.01)
    assert level.queues.seats_in_use == 0
    assert level.wanted[-1] == 0


def test_a_request_wider_than_the_level_runs_while_seats_are_still_held() -> None:
    level = Level.of(FAIR, 4)
    write = level.start("a", work=RequestWork(1, 2, 0.005))
    wide = level.start("b", work=RequestWork(5))
    assert write is not None
    assert wide is not None
    assert wide.state is TicketState.WAITING
    assert level.queues.finish(write, 1.0) == 0.005
    assert wide.state is TicketState.EXECUTING


def test_a_flow_that_never_waits_saves_up_no_time() -> None:
    """One that used less than its part is not served before others for that: upstream's table of windup."""
    level = Level.of(QueueConfig(Queuing.QUEUE, queues=64, hand=1, queue_length=50), 3)
    level.start("a")
    level.start("a", 10.0, RequestWork(1, 2, 1.0))
    heavy = [level.start("a", 10.0) for _ in range(2)]
    light = [level.start("b", 10.0) for _ in range(2)]
    level.queues.configure(level.queues.config, 5, 10.0)
    states = [
        [ticket is not None and ticket.state is TicketState.EXECUTING for ticket in row] for row in (light, heavy)
    ]
    assert states == [[True, True], [False, False]]


def test_growing_seats_let_the_waiting_run_and_fewer_queues_vanish_when_empty() -> None:
    level = Level.of(FAIR, 1)
    tickets = [level.start(str(number)) for number in range(6)]
    level.queues.configure(FAIR, 4, 1.0)
    assert sum(ticket is not None and ticket.state is TicketState.EXECUTING for ticket in tickets) == 4
    level.queues.configure(QueueConfig(Queuing.QUEUE, queues=1, hand=1, queue_length=50), 6, 2.0)
    for ticket in tickets:
        assert ticket is not None
        level.queues.finish(ticket, 3.0)
    assert len(level.queues.queues) == 1
    assert level.queues.is_idle


@pytest.mark.parametrize("seed", range(5))
def test_flows_that_always_want_more_get_equal_parts(seed: int) -> None:
    """Two flows, one with ten times as many clients; requests take random times. Shuffle sharding keeps them apart."""
    random_ = random.Random(seed)
    level = Level.of(QueueConfig(Queuing.QUEUE, queues=64, hand=6, queue_length=50), 4)
    served: Counter[str] = Counter()
    running: list[tuple[float, int, Ticket]] = []
    order = 0

    def send(flow: str, now: float) -> None:
        nonlocal order
        ticket = level.start(flow, now)
        assert ticket is not None
        if ticket.state is TicketState.EXECUTING:
            begin(ticket, now)
        else:
            ticket.called = lambda: waiting_called.append(ticket)

    def begin(ticket: Ticket, now: float) -> None:
        nonlocal order
        order += 1
        running.append((now + random_.uniform(0.5, 1.5) * 0.01, order, ticket))

    waiting_called: list[Ticket] = []
    for _ in range(4):
        send("quiet", 0.0)
    for _ in range(40):
        send("noisy", 0.0)
    for _ in range(4000):
        running.sort(key=lambda row: row[:2])
        now, _, ticket = running.pop(0)
        served[ticket.flow] += 1
        level.queues.finish(ticket, now)
        send(ticket.flow, now)
        while waiting_called:
            begin(waiting_called.pop(0), now)
    assert served["quiet"] / served.total() > 0.2, served


@pytest.mark.parametrize("seed", range(20))
def test_counts_hold_whatever_happens(seed: int) -> None:
    random_ = random.Random(seed)
    level = Level.of(QueueConfig(Queuing.QUEUE, queues=5, hand=2, queue_length=3), 4)
    alive: list[Ticket] = []
    now = 0.0
    for _ in range(500):
        now += random_.random() * 0.01
        choice = random_.random()
        if choice < 0.5:
            work = random_.choice([RequestWork(), RequestWork(2), RequestWork(1, 3, 0.004), RequestWork(9)])
            ticket = level.start(str(random_.randrange(9)), now, work)
            alive += [ticket] if ticket is not None else []
        elif choice < 0.97 and alive:
            ticket = alive.pop(random_.randrange(len(alive)))
            if ticket.state is TicketState.WAITING:
                level.queues.abandon(ticket, now)
            elif level.queues.finish(ticket, now):
                level.queues.release(ticket, now)
        else:
            queues = random_.choice([2, 5, 8])
            level.queues.configure(QueueConfig(Queuing.QUEUE, queues, 2, 3), random_.choice([1, 4, 12]), now)
        queues_ = level.queues
        executing = [ticket for ticket in alive if ticket.state is TicketState.EXECUTING]
        waiting = [ticket for ticket in alive if ticket.state is TicketState.WAITING]
        assert queues_.executing == set(executing)
        assert queues_.seats_in_use == sum(ticket.work.seats for ticket in executing)
        assert (queues_.waiting, queues_.seats_waiting) == (len(waiting), sum(ticket.work.seats for ticket in waiting))
        assert queues_._active == sum(queue.active for queue in queues_.queues)
        assert queues_._queued_seats == queues_.seats_in_use + queues_.seats_waiting
        assert all(queue.index == number for number, queue in enumerate(queues_.queues))
        if waiting:
            assert queues_.seats_in_use > 0, "somebody waits although nothing runs"


def test_a_hand_is_always_the_same_and_has_no_card_twice() -> None:
    for number in range(200):
        flow = flow_hash("schema", str(number))
        hand = deal(flow, 64, 6)
        assert hand == deal(flow, 64, 6)
        assert len(set(hand)) == 6
        assert all(0 <= card < 64 for card in hand)


def test_every_hand_is_as_likely_as_any_other() -> None:
    assert len({deal(number, 4, 2) for number in range(4 * 3)}) == 4 * 3
    assert deal(0, 128, 8) == tuple(range(8))
