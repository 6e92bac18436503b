"""The debug pages ``/debug/api_priority_and_fairness/…``: levels, queues and requests as comma-separated tables.

Source: https://kubernetes.io/docs/concepts/cluster-administration/flow-control/#debug-endpoints
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from tiphys.apiserver.flowcontrol.controller import FlowController
from tiphys.apiserver.flowcontrol.levels import PriorityLevel
from tiphys.apiserver.flowcontrol.queueset import Ticket
from tiphys.runtime.clock import Clock

Row = Iterable[object]


def levels(controller: FlowController, clock: Clock) -> str:
    return _table(_LEVEL_COLUMNS, map(_level_row, _sorted(controller)))


def queues(controller: FlowController, clock: Clock) -> str:
    return _table(_QUEUE_COLUMNS, (row for level in _sorted(controller) for row in _queue_rows(level)))


def requests(controller: FlowController, clock: Clock) -> str:
    return _table(_REQUEST_COLUMNS, (row for level in _sorted(controller) for row in _request_rows(level, clock)))


PAGES = {"dump_priority_levels": levels, "dump_queues": queues, "dump_requests": requests}


def _sorted(controller: FlowController) -> list[PriorityLevel]:
    return [controller.levels[name] for name in sorted(controller.levels)]


def _table(columns: tuple[str, ...], rows: Iterable[Row]) -> str:
    """Columns lined up, as people read them."""
    texts = [columns, *(tuple(map(str, row)) for row in rows)]
    widths = [max(len(row[index]) for row in texts) + 2 for index in range(len(columns) - 1)]
    return "".join(_line(row, widths) for row in texts)


def _line(row: tuple[str, ...], widths: list[int]) -> str:
    cells = (f"{cell},".ljust(width) for cell, width in zip(row, widths, strict=False))
    return f"{''.join(cells)}{row[-1]}\n"


_LEVEL_COLUMNS = (
    "PriorityLevelName", "ActiveQueues", "IsIdle", "IsQuiescing", "WaitingRequests", "ExecutingRequests",
    "DispatchedRequests", "RejectedRequests", "TimedoutRequests", "CancelledRequests",
)  # fmt: skip
_QUEUE_COLUMNS = (
    "PriorityLevelName", "Index", "PendingRequests", "ExecutingRequests", "SeatsInUse", "NextDispatchR",
    "InitialSeatsSum", "MaxSeatsSum", "TotalWorkSum",
)  # fmt: skip
# One column is misspelt, as it is upstream: tools look for it.
_REQUEST_COLUMNS = (
    "PriorityLevelName", "FlowSchemaName", "QueueIndex", "RequestIndexInQueue", "FlowDistingsher", "ArriveTime",
    "InitialSeats", "FinalSeats", "AdditionalLatency", "StartTime",
)  # fmt: skip


def _level_row(level: PriorityLevel) -> Row:
    queues, name = level.queues, level.config.name
    active = sum(queue.active for queue in queues.queues)
    counts = (queues.waiting, len(queues.executing), queues.dispatched, queues.rejected, queues.timed_out, 0)
    return (name, active, _bool(queues.is_idle), _bool(level.quiescing), *counts)


def _bool(value: object) -> str:
    return "true" if value else "false"


def _queue_rows(level: PriorityLevel) -> Iterable[Row]:
    for queue in level.queues.queues:
        initial = sum(ticket.work.initial for ticket in queue.waiting)
        most = sum(ticket.work.seats for ticket in queue.waiting)
        figures = (len(queue.waiting), len(queue.executing), queue.seats, f"{queue.next_dispatch:.8f}ss")
        yield (level.config.name, queue.index, *figures, initial, most, f"{queue.work:.8f}ss")


def _request_rows(level: PriorityLevel, clock: Clock) -> Iterable[Row]:
    for ticket in sorted(level.queues.executing, key=lambda ticket: ticket.started):
        yield (level.config.name, *_request_row(ticket, -1, clock), _time(ticket.started, clock))
    for queue in level.queues.queues:
        for number, ticket in enumerate(queue.waiting):
            yield (level.config.name, *_request_row(ticket, number, clock), "0001-01-01T00:00:00.000000000Z")


def _request_row(ticket: Ticket, number: int, clock: Clock) -> Row:
    index = -1 if ticket.queue is None else ticket.queue.index
    work = ticket.work
    arrived = _time(ticket.arrived, clock)
    return (ticket.schema, index, number, ticket.flow, arrived, work.initial, work.final, f"{work.lingers:g}s")


def _time(monotonic: float, clock: Clock) -> str:
    wall = clock.now() - (clock.monotonic() - monotonic)
    return datetime.fromtimestamp(wall, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f000Z")
