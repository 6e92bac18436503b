"""How much of the server a request takes: seats while it runs, and seats for the watch events that a write causes.

Source: KEP-1040, "Width of a request", with v1.36's defaults: lists are measured by their bytes
(``SizeBasedListCostEstimate``).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from tiphys.apiserver.requestinfo import Parameters, RequestInfo, is_true

MAX_LIST_SEATS = 100
MAX_WRITE_SEATS = 10
_SHARE_OF_LEVEL = 0.15
"""The largest part of a level's seats that one request may take."""
_BYTES_PER_SEAT = 100_000
_BYTES_AT_ONCE = 1_000_000
"""So much of a list has the server in its hands at once, if the list comes from a cache: it is sent in pieces."""
_WATCHES_PER_SEAT = 10.0
_EVENT_SECONDS = 0.005
WRITES = frozenset(("create", "update", "patch", "delete"))


class Stored(NamedTuple):
    """What there is of a resource: how many objects, and about how many bytes each has."""

    objects: int
    each: int


MeasureObjects = Callable[[str, str], Stored | None]
"""(group, resource) to what is stored, None if unknown."""
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


def largest(nominal_seats: int, hand: int) -> int:
    """The seats that one request of a level may take. ``hand`` is the level's number of queues for each flow; 0: the
    level has no queues, and such levels have no limit of their own."""
    if not hand:
        return MAX_LIST_SEATS
    return max(1, min(MAX_LIST_SEATS, math.ceil(nominal_seats * _SHARE_OF_LEVEL), nominal_seats // hand))


def estimate(
    info: RequestInfo, parameters: Parameters, most: int, measure: MeasureObjects, count_watches: CountWatches
) -> RequestWork:
    """``most`` is what ``largest`` gives for the request's level."""
    if info.verb == "list" or (info.verb == "watch" and _lists_first(parameters)):
        return RequestWork(max(1, min(most, _list_seats(info, parameters, measure))))
    if info.verb in WRITES and (info.resource, info.subresource) != ("serviceaccounts", "token"):
        return _write(min(most, MAX_WRITE_SEATS), count_watches(info))
    return ONE


def _lists_first(parameters: Parameters) -> bool:
    """Whether a watch begins with what there is: by upstream's reckoning also one that asks for no such events, from
    any revision."""
    return is_true(parameters, "sendInitialEvents") or _first(parameters, "resourceVersion") in ("", "0")


def _list_seats(info: RequestInfo, parameters: Parameters, measure: MeasureObjects) -> int:
    stored = measure(info.group, info.resource)
    if stored is None:
        return 1
    limit = _number(_first(parameters, "limit"))
    loaded = limit if 0 < limit < stored.objects else stored.objects
    from_store = info.verb == "list" and _is_of_the_past(parameters)
    if info.name:
        loaded = 1
    elif from_store and (_first(parameters, "fieldSelector") or _first(parameters, "labelSelector")):
        loaded = max(loaded, stored.objects // 2)
    used = loaded * stored.each
    return math.ceil((used if from_store else min(used, _BYTES_AT_ONCE)) / _BYTES_PER_SEAT)


def _is_of_the_past(parameters: Parameters) -> bool:
    """Whether a list shows one revision, which upstream reads from its store."""
    match _first(parameters, "resourceVersionMatch"):
        case "NotOlderThan":
            return False
        case "":
            if _first(parameters, "continue"):
                return True
            return _number(_first(parameters, "limit")) > 0 and _first(parameters, "resourceVersion") not in ("", "0")
    return True


def _first(parameters: Parameters, name: str) -> str:
    return parameters.get(name, [""])[0]


def _number(text: str) -> int:
    return int(text) if text.isdigit() else 0


def _write(most: int, watches: int) -> RequestWork:
    if watches < _WATCHES_PER_SEAT:
        return ONE
    seats = math.ceil(watches / _WATCHES_PER_SEAT)
    final = min(seats, most)
    return RequestWork(1, final, seats * _EVENT_SECONDS / final)
