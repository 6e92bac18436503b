"""No more calls at a time than the server can carry: those that read and those that write are counted apart.

Source: the flags ``--max-requests-inflight`` and ``--max-mutating-requests-inflight`` of kube-apiserver.
"""

from __future__ import annotations

from dataclasses import dataclass

from tiphys.api import errors
from tiphys.apiserver.call import Call, Endpoint
from tiphys.wire.http import Response

_READING = frozenset(("get", "list"))


@dataclass(slots=True)
class InFlight:
    """The calls under way. A limit of 0 is none."""

    max_reading: int
    max_mutating: int
    reading: int = 0
    mutating: int = 0

    async def filter(self, call: Call, proceed: Endpoint) -> Response:
        if call.is_long_running:
            return await proceed(call)
        if call.info.verb in _READING:
            return await self._reading(call, proceed)
        return await self._mutating(call, proceed)

    async def _reading(self, call: Call, proceed: Endpoint) -> Response:
        _check(self.reading, self.max_reading, call)
        self.reading += 1
        try:
            return await proceed(call)
        finally:
            self.reading -= 1

    async def _mutating(self, call: Call, proceed: Endpoint) -> Response:
        _check(self.mutating, self.max_mutating, call)
        self.mutating += 1
        try:
            return await proceed(call)
        finally:
            self.mutating -= 1


def _check(count: int, limit: int, call: Call) -> None:
    """Administrators always get through, so that they can mend an overloaded cluster."""
    if limit and count >= limit and "system:masters" not in call.user.groups:
        raise errors.too_many_requests("Too many requests, please try again later.", 1)
