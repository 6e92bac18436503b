"""No call lasts longer than the server's limit or the time that its client gives it, except watches and connections.

Source: https://kubernetes.io/docs/reference/command-line-tools-reference/kube-apiserver/
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import Any

from tiphys.api import errors
from tiphys.apiserver.call import Call, Endpoint, Filter
from tiphys.runtime import durations
from tiphys.runtime.timelimits import TimeLimits
from tiphys.wire.firststep import rest_of
from tiphys.wire.http import Response, Sink, Upgrade

Steps = Generator[Any, Any, Response]
_WHOLE = (bytes, Upgrade)
"""What is not streamed."""


def limit_time(seconds: float) -> Filter:
    """The filter that ends a call after ``seconds``, or the client's shorter limit, with 504."""

    limits = TimeLimits()

    async def filter(call: Call, proceed: Endpoint) -> Response:
        if call.is_long_running:
            return await proceed(call)
        limit = _wanted(call, seconds) if call.parameters else seconds
        steps = proceed(call).__await__()
        try:
            waits_for = steps.send(None)
        except StopIteration as done:  # it is answered already, without a timer
            return _within(done.value, limit)
        return await _limited(call, steps, waits_for, limits, limit)

    return filter


async def _limited(call: Call, steps: Steps, waits_for: Any, limits: TimeLimits, seconds: float) -> Response:
    """What the steps return, of which the first has asked to wait. Raises 504."""
    limit = limits.begin(seconds)
    try:
        response = await rest_of(steps, waits_for)
    except asyncio.CancelledError:
        if not limits.end(limit):
            raise
        call.terminated = True
        raise errors.timeout("request did not complete within requested timeout - context deadline exceeded") from None
    except BaseException:
        limits.end(limit)
        raise
    limits.end(limit)
    return _within(response, None, limit.ends)


def _within(response: Response, seconds: float | None, when: float | None = None) -> Response:
    """The answer, whose streamed body is cut off in ``seconds``, or at the loop's time ``when``."""
    body = response.body
    if isinstance(body, _WHOLE):
        return response
    if seconds is not None:
        when = asyncio.get_running_loop().time() + seconds

    async def write(sink: Sink) -> None:
        try:
            async with asyncio.timeout_at(when):
                await body(sink)
        except TimeoutError as error:
            raise ConnectionAbortedError("the request's time was over before its answer was read") from error

    response.body = write
    return response


def _wanted(call: Call, most: float) -> float:
    """The client's ``timeout`` where it is one: 0 and less mean the server's. Raises 400."""
    text = call.parameter("timeout")
    if not text:
        return most
    try:
        wanted = durations.seconds(text)
    except ValueError as error:
        raise errors.bad_request(f"invalid timeout specified in the request URL - {error}") from None
    return min(wanted, most) if wanted > 0 else most
