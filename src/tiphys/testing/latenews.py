"""A client whose watches bring their news late, as a busy API server, a slow network or a cut connection makes them do.

What any watch may do to its reader, by a generator of random numbers, so that a seed gives the same again: an event is
held back, with all that follow it on the same watch, so that different kinds are seen in another order than they
happened; an event arrives twice; the watch is cut and taken up again, or is too old and everything is listed again.
Within one watch events stay in order, as the API promises.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from tiphys.client import errors
from tiphys.client.rest import Client, WatchEvent
from tiphys.runtime.clock import Clock
from tiphys.wire.http import ClientResponse, Transport


@dataclass(frozen=True, slots=True)
class LateNews:
    """How often each happens, of 1, and for how long an event is held back at most, in seconds."""

    seconds: float
    held: float = 0.15
    repeated: float = 0.1
    cut: float = 0.02
    too_old: float = 0.005
    slow: float = 0.2
    """Requests that take as long, a part of it before they have their effect, the rest after."""


class LateClient(Client):
    """A ``Client`` for controllers under test."""

    def __init__(
        self, transport: Transport, late: LateNews, *, clock: Clock, rng: random.Random, user_agent: str = "tiphys"
    ) -> None:
        super().__init__(transport, user_agent=user_agent)
        self._late, self._clock, self._rng = late, clock, rng

    async def request(self, *arguments: Any, **options: Any) -> ClientResponse:
        """See ``Client.request``."""
        if self._rng.random() < self._late.slow:
            await self._clock.sleep(self._rng.uniform(0, self._late.seconds) / 2)
        answer = await super().request(*arguments, **options)
        if self._rng.random() < self._late.slow:
            await self._clock.sleep(self._rng.uniform(0, self._late.seconds) / 2)
        return answer

    async def watch(self, *arguments: Any, **options: Any) -> AsyncIterator[WatchEvent]:
        """See ``Client.watch``. Raises what a reader of a cut watch, or one that is too old, meets."""
        late, rng = self._late, self._rng
        async for event in super().watch(*arguments, **options):
            if rng.random() < late.held:
                await self._clock.sleep(rng.uniform(0, late.seconds))
            if rng.random() < late.cut:
                raise ConnectionResetError("the watch was cut")
            if rng.random() < late.too_old:
                raise errors.from_status(410, {"message": "too old resource version", "reason": "Expired", "code": 410})
            yield event
            if rng.random() < late.repeated:
                yield event
