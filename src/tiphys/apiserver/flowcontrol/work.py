"""How much of the server a request takes: seats while it runs, and seats for the watch events that a write causes.

Source: KEP-1040, "Width of a request", with v1.36's defaults.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from tiphys.apiserver.requestinfo import Parameters, RequestInfo, is_true

MAX_SEATS = 10
_SHARE_OF_LEVEL = 0.15
"""The largest part of a level's seats that one request may take."""
_OBJECTS_PER_SEAT = 100.0
_WATCHES_PER_SEAT = 10.0
_EVENT_SECONDS = 0.005
WRITES = frozenset(("create", "update", "patch", "delete"))

CountObjects = Callable[[str, str], int | None]
"""(group, resource) to the number of objects, None if unknown."""
CountWatches = Callable[[RequestInfo], int]
"""How many open watches see what a write changes."""


class RequestWork(NamedTuple):
    """``initial`` seats while the request runs; ``final`` seats for ``lingers`` seconds after its answer."""

    initial: int = 1
    final: int = 0
    lingers: float = 0.0

    @property
    def seats(self) -> int:
        return max(self.initial, self.final)

    def bounded(self, limit: int) -> RequestWork:
        """The same work with at most ``limit`` final seats, held for as much longer."""
        if self.final <= limit or limit < 1:
            return self
        return RequestWork(self.initial, limit, self.final * self.lingers / limit)


ONE = RequestWork()


def largest(nominal_seats: int) -> int:
    """The seats that one request of a level may take."""
    return max(1, min(MAX_SEATS, math.ceil(nominal_seats * _SHARE_OF_LEVEL))) if nominal_seats else MAX_SEATS


def estimate(
    info: RequestInfo, parameters: Parameters, most: int, count_objects: CountObjects, count_watches: CountWatches
) -> RequestWork:
    """``most`` is what ``largest`` gives for the request's level."""
    if info.verb == "list" or (info.verb == "watch" and _lists_first(parameters)):
        return RequestWork(max(1, min(most, _list_seats(info, parameters, count_objects))))
    if info.verb in WRITES and (info.resource, info.subresource) != ("serviceaccounts", "token"):
        return _write(most, count_watches(info))
    return ONE


def _lists_first(parameters: Parameters) -> bool:
    if "sendInitialEvents" in parameters:
        return is_true(parameters, "sendInitialEvents")
    return parameters.get("resourceVersion", [""])[0] in ("", "0")


def _list_seats(info: RequestInfo, parameters: Parameters, count_objects: CountObjects) -> int:
    stored = count_objects(info.group, info.resource)
    if stored is None or info.name:
        return 1
    limit = _number(parameters.get("limit", ["0"])[0])
    shown = limit if 0 < limit < stored else stored
    return math.ceil(shown / _OBJECTS_PER_SEAT)


def _number(text: str) -> int:
    return int(text) if text.isdigit() else 0


def _write(most: int, watches: int) -> RequestWork:
    if watches < _WATCHES_PER_SEAT:
        return ONE
    seats = math.ceil(watches / _WATCHES_PER_SEAT)
    final = min(seats, most)
    return RequestWork(1, final, seats * _EVENT_SECONDS / final)
