"""No kind of stream loses its end; the long form of this is ``python -m tests.apiserver.streaming.tails``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
import uvloop

from tests.apiserver.streaming.tails import KINDS, Task, carry


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("kind", KINDS)
def test_all_of_it_arrives(kind: str, loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    async def main() -> None:
        async with asyncio.timeout(60):
            for task in (Task(3_000_001, 1), Task(2_000_003, 2, slow=True)):
                arrived, sent = await carry(kind, task)
                assert arrived == sent

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(main())
