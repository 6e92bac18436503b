"""``ReviewServer``: asks the server that a kubeconfig names for its review of something, and reads the answer.

For the webhooks of authentication, authorization and image policy.
Source: https://kubernetes.io/docs/reference/access-authn-authz/webhook/
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import orjson

from tiphys.api.object import Object
from tiphys.client.errors import ApiError
from tiphys.client.kubeconfig import client_from_file, server_path
from tiphys.client.rest import Client
from tiphys.runtime.clock import Clock
from tiphys.wire.http import BodyTooLarge

_TRIES = 5
_FACTOR = 1.5
_PAUSE = 0.5
_MAX_ANSWER = 1024 * 1024


class ReviewFailed(Exception):
    """There is no review; the text says why."""

    def __init__(self, reason: str, *, timed_out: bool = False) -> None:
        super().__init__(reason)
        self.timed_out = timed_out


class ReviewServer:
    """``pause`` in seconds is that before a second try, of up to five, with growing pauses: after an answer that asks
    for it, or a connection that was lost. ``timeout`` is that of one try."""

    def __init__(
        self, kubeconfig: Path, agent: str, clock: Clock, *, timeout: float = 30, pause: float = _PAUSE
    ) -> None:
        """Raises ``KubeconfigError``."""
        self._kubeconfig = kubeconfig
        self._agent = agent
        self._clock = clock
        self._timeout = timeout
        self._pause = pause
        self._path = server_path(kubeconfig)
        self._client: Client | None = None

    @property
    def longest(self) -> float:
        """Seconds that ``ask`` may take."""
        return _TRIES * self._timeout + sum(self._pause * _FACTOR**attempt for attempt in range(_TRIES - 1))

    async def ask(self, review: Object) -> Object:
        """The review as the server returns it. Raises ``ReviewFailed``."""
        body, pause = orjson.dumps(review), self._pause
        for attempt in range(_TRIES):
            try:
                return await self._ask(body)
            except (ApiError, ConnectionError, OSError, TimeoutError, BodyTooLarge) as error:
                if attempt == _TRIES - 1 or not _may_pass(error):
                    raise ReviewFailed(_reason(error), timed_out=_timed_out(error)) from error
            await self._clock.sleep(pause)
            pause *= _FACTOR
        raise AssertionError("unreachable")

    async def _ask(self, body: bytes) -> Object:
        if self._client is None:
            self._client = client_from_file(self._kubeconfig, self._agent, timeout=self._timeout)
        async with asyncio.timeout(self._timeout):
            response = await self._client.request("POST", self._path, body=body)
            text = await response.read(_MAX_ANSWER)
        try:
            answer = orjson.loads(text)
        except orjson.JSONDecodeError as error:
            raise ReviewFailed(f"the answer is not JSON: {error}") from None
        if not isinstance(answer, dict) or not isinstance(answer.get("status") or {}, dict):
            raise ReviewFailed("the answer is not a review")
        return answer

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()


def _may_pass(error: Exception) -> bool:
    """Whether trying again may help: upstream's rule."""
    if isinstance(error, ApiError):
        return error.code in (429, 500, 504) or error.retry_after is not None
    return isinstance(error, (ConnectionResetError, BrokenPipeError))


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "context deadline exceeded"
    return (error.message if isinstance(error, ApiError) else "") or str(error) or type(error).__name__


def _timed_out(error: Exception) -> bool:
    return isinstance(error, TimeoutError) or (isinstance(error, ApiError) and error.code == 504)
