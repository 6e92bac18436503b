"""How a server ends: it is no longer ready, goes on for its delay, turns new requests away while those in flight end,
and then ends its watches, so that their clients find another server one after the other.

Source: https://kubernetes.io/docs/reference/command-line-tools-reference/kube-apiserver/ (--shutdown-delay-duration,
--shutdown-send-retry-after, --shutdown-watch-termination-grace-period)
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable

from tiphys.apiserver.call import Call, Endpoint
from tiphys.apiserver.config import Config
from tiphys.apiserver.endpoints.notfound import TEXT
from tiphys.apiserver.filters.inflight import InFlight
from tiphys.apiserver.storage.watchers import Watchers
from tiphys.runtime.clock import Clock
from tiphys.runtime.tasks import contain
from tiphys.wire.http import Response

_LOOKS_EVERY = 0.1
_HEADERS = {"Content-Type": TEXT, "X-Content-Type-Options": "nosniff", "Retry-After": "5", "Connection": "close"}
_MESSAGE = b"The apiserver is shutting down, please try again later.\n"
_EXEMPT = ("/readyz", "/livez", "/healthz", "/metrics")
_OWN_AGENT = "kube-apiserver/"


class Stage(enum.Enum):
    SERVING = enum.auto()
    UNREADY = enum.auto()
    """All requests are answered, but nobody is to send more."""
    TURNING_AWAY = enum.auto()
    """New requests are answered 429."""


class Leaving:
    """``watchers`` are those of every cache."""

    def __init__(
        self, config: Config, clock: Clock, in_flight: InFlight, watchers: Callable[[], Iterable[Watchers]]
    ) -> None:
        self.stage = Stage.SERVING
        self._config = config
        self._clock = clock
        self._in_flight = in_flight
        self._watchers = watchers

    async def filter(self, call: Call, proceed: Endpoint) -> Response:
        """Answer new requests 429 when their time has come."""
        if self.stage is not Stage.TURNING_AWAY or _is_exempt(call):
            return await proceed(call)
        return Response(429, dict(_HEADERS), _MESSAGE)

    async def delay(self) -> None:
        """Go on serving, until no request is in flight if new ones are turned away, and end the watches."""
        await self._clock.sleep(self._config.shutdown_delay)
        if self._config.shutdown_retry_after:
            self.stage = Stage.TURNING_AWAY
            await self._drained()
        await self._end_watches()

    async def _drained(self) -> None:
        end = self._clock.monotonic() + self._config.request_timeout
        while self._in_flight.reading + self._in_flight.mutating and self._clock.monotonic() < end:
            await self._clock.sleep(_LOOKS_EVERY)

    async def _end_watches(self) -> None:
        """Evenly over the time that they are given."""
        members = [member for watchers in self._watchers() for member in watchers.members()]
        steps = max(1, int(self._config.watch_grace / _LOOKS_EVERY))
        for step in range(steps):
            for member in members[len(members) * step // steps : len(members) * (step + 1) // steps]:
                contain("ending a watch", member.cut_off)
            if step + 1 < steps and members:
                await self._clock.sleep(_LOOKS_EVERY)


def _is_exempt(call: Call) -> bool:
    agent = call.request.headers.get("user-agent") or ""
    return call.info.path.startswith(_EXEMPT) or agent.startswith(_OWN_AGENT)
