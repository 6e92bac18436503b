"""Holding a place, such as one of the calls under way, until a call's answer is written."""

from __future__ import annotations

from collections.abc import Callable

from tiphys.apiserver.call import Call, Endpoint
from tiphys.wire.http import Response, Sink, Stream, Upgrade


async def holding(call: Call, proceed: Endpoint, leave: Callable[[], None]) -> Response:
    """``leave`` the place when the answer is made, or, if it is streamed, written."""
    try:
        response = await proceed(call)
    except BaseException:
        leave()
        raise
    return held(call, response, leave)


def held(call: Call, response: Response, leave: Callable[[], None]) -> Response:
    """The answer; the place is left now or, if it is streamed, when it is written."""
    body = response.body
    if isinstance(body, bytes | Upgrade) or call.request.method == "HEAD":
        leave()
    else:
        response.body = _Held(body, leave)
    return response


class _Held:
    """A streamed body with a place, which it leaves once: at its end, or when nobody is left who could run it."""

    def __init__(self, stream: Stream, leave: Callable[[], None]) -> None:
        self._stream = stream
        self._leave: Callable[[], None] | None = leave

    async def __call__(self, sink: Sink) -> None:
        try:
            await self._stream(sink)
        finally:
            self._end()

    def __del__(self) -> None:
        self._end()

    def _end(self) -> None:
        if self._leave is not None:
            leave, self._leave = self._leave, None
            leave()
