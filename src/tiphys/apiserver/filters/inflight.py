"""No more calls at a time than the server can carry: those that read and those that write are counted apart.

A call holds its place until its answer is written, so that readers who take their time count. As upstream, watches and
connections are not counted, nor is what its exempt priority level holds: members of ``system:masters``, so that they
can mend an overloaded cluster, and probes of health, so that nobody restarts a server for being busy.
Source: the flags ``--max-requests-inflight`` and ``--max-mutating-requests-inflight`` of kube-apiserver, and its
flow schemas ``exempt`` and ``probes``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tiphys.api import errors
from tiphys.apiserver.call import Call, Endpoint
from tiphys.apiserver.filters.holding import holding
from tiphys.wire.http import Response

_READING = frozenset(("get", "list"))
_PRIVILEGED = "system:masters"
_PROBES = frozenset(("/healthz", "/livez", "/readyz"))


@dataclass(slots=True)
class InFlight:
    """The calls under way. A limit of 0 is none."""

    max_reading: int
    max_mutating: int
    reading: int = 0
    mutating: int = 0

    async def filter(self, call: Call, proceed: Endpoint) -> Response:
        """Raises 429 if every place is taken."""
        if call.is_long_running or _is_exempt(call):
            return await proceed(call)
        if call.info.verb in _READING:
            _check(call, self.reading, self.max_reading)
        else:
            _check(call, self.mutating, self.max_mutating)
        return await holding(call, proceed, self.enter(call))

    def enter(self, call: Call) -> Callable[[], None]:
        """Count a call, without a look at the limits, until the function that this returns is called."""
        if call.info.verb in _READING:
            self.reading += 1
            return self._read
        self.mutating += 1
        return self._mutated

    def _read(self) -> None:
        self.reading -= 1

    def _mutated(self) -> None:
        self.mutating -= 1


def _is_exempt(call: Call) -> bool:
    return _PRIVILEGED in call.user.groups or (call.info.path in _PROBES and call.info.verb == "get")


def _check(call: Call, count: int, limit: int) -> None:
    if limit and count >= limit:
        call.terminated = True
        raise errors.too_many_requests("Too many requests, please try again later.", 1)
