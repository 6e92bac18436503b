"""The watchdog of the event loop: what held it is logged with its stack, and counted."""

from __future__ import annotations

import asyncio
import logging
import threading
import time

import pytest

from tiphys.runtime.watchdog import Holds, Watchdog


def busy_by_some_name(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


def watch(work: object, caplog: pytest.LogCaptureFixture) -> tuple[Holds, str]:
    holds = Holds()

    async def main() -> None:
        with Watchdog(holds, held=0.1, every=0.02):
            await asyncio.sleep(0.05)
            work()  # type: ignore[operator]
            for _ in range(1000):  # the watchdog's thread needs its turn to say what it has seen
                if holds.count:
                    break
                await asyncio.sleep(0.02)

    with caplog.at_level(logging.WARNING, "tiphys.runtime.watchdog"):
        asyncio.run(main())
    return holds, caplog.text


def test_a_held_loop_is_logged_with_the_stack_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    holds, text = watch(lambda: busy_by_some_name(0.4), caplog)
    assert holds.count >= 1
    assert "busy_by_some_name" in text
    assert "the event loop was held for" in text


def test_a_call_that_keeps_the_interpreters_lock_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    holds, text = watch(lambda: sum(range(60_000_000)), caplog)
    assert holds.count >= 1
    assert "the event loop was held for" in text


def test_a_loop_that_waits_is_not_held(caplog: pytest.LogCaptureFixture) -> None:
    holds = Holds()

    async def main() -> None:
        with Watchdog(holds, held=5, every=0.02):
            await asyncio.sleep(0.2)

    asyncio.run(main())
    assert (holds.count, caplog.text) == (0, "")


def test_it_ends_if_it_is_left_just_before_it_asks() -> None:
    """The sign to end comes between the end of a pause and the clearing of the last answer."""

    class ClearedLate(threading.Event):
        def clear(self) -> None:
            assert watchdog[0]._ended.wait(10)
            assert self.wait(10)
            super().clear()

    watchdog: list[Watchdog] = []

    async def main() -> None:
        watchdog.append(Watchdog(Holds(), every=0.001))
        watchdog[0]._answered = ClearedLate()
        with watchdog[0]:
            await asyncio.sleep(0.05)

    thread = threading.Thread(target=lambda: asyncio.run(main()), daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()


def test_every_component_shows_the_figures() -> None:
    from tiphys.runtime.metrics import Registry

    assert b"tiphys_event_loop_held_total" in Registry().expose()
    assert b"tiphys_event_loop_held_seconds_total" in Registry().expose()
