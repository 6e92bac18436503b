"""A transport that answers by a script, and keeps what was asked. (Real ones: tests/contract/test_transport.py.)"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from typing import Any

import orjson

from tiphys.api.object import Object
from tiphys.runtime.clock import VirtualClock, VirtualTimeLoop
from tiphys.wire.http import ByteStream, Request, read_whole


def run(work: Callable[[VirtualClock], Awaitable[None]]) -> None:
    """Run a test in virtual time."""
    loop = VirtualTimeLoop()
    try:
        loop.run_until_complete(work(VirtualClock(loop)))  # type: ignore[arg-type]
    finally:
        loop.close()


class Answer:
    """``pieces`` of a body; then ``error`` is raised, or, with ``open``, nothing more follows."""

    def __init__(self, *pieces: bytes, status: int = 200, error: Exception | None = None, open: bool = False) -> None:
        self.status = status
        self.headers: Mapping[str, str] = {}
        self.closed = False
        self._pieces, self._error, self._open = pieces, error, open

    async def read(self, limit: int | None = None) -> bytes:
        return await read_whole(self, limit)

    async def chunks(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            yield piece
        if self._error is not None:
            raise self._error
        if self._open:
            await asyncio.Event().wait()

    def upgraded(self) -> ByteStream:
        raise NotImplementedError

    async def close(self) -> None:
        self.closed = True


class Script:
    """Gives its answers in order; an exception among them is raised. After the last, requests wait for ever."""

    def __init__(self, *answers: Answer | Exception) -> None:
        self.answers = list(answers)
        self.requests: list[Request] = []
        self.closed = False

    async def send(self, request: Request, timeout: float | None = None) -> Answer:
        self.requests.append(request)
        if not self.answers:
            await asyncio.Event().wait()
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def close(self) -> None:
        self.closed = True


def text(value: Any) -> Answer:
    return Answer(orjson.dumps(value))


def thing(name: str, version: int, namespace: str = "n", **more: Any) -> Object:
    return {"metadata": {"namespace": namespace, "name": name, "resourceVersion": str(version), **more}}


def listed(version: int, *items: Object) -> Answer:
    return text({"kind": "ConfigMapList", "metadata": {"resourceVersion": str(version)}, "items": list(items)})


def watched(*events: tuple[str, Object], error: Exception | None = None, open: bool = False) -> Answer:
    return Answer(*lines(events), error=error, open=open)


def lines(events: Iterable[tuple[str, Object]]) -> list[bytes]:
    return [orjson.dumps({"type": kind, "object": obj}) + b"\n" for kind, obj in events]


def failure(code: int, reason: str = "", message: str = "") -> Object:
    return {"kind": "Status", "code": code, "reason": reason, "message": message}
