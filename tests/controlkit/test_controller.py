"""The reconcile loop: retries, results, several workers."""

from __future__ import annotations

import asyncio
import logging

import pytest

from tiphys.client import errors
from tiphys.controlkit.controller import Controller, Result
from tiphys.controlkit.retry import TryAgain
from tiphys.runtime.clock import VirtualClock, VirtualTimeLoop
from tiphys.runtime.metrics import Registry


def drive(seconds: float, controller: object, loop: VirtualTimeLoop) -> None:
    async def work() -> None:
        task = asyncio.ensure_future(controller.run())  # type: ignore[attr-defined]
        await asyncio.sleep(seconds)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    loop.run_until_complete(work())


@pytest.fixture
def loop() -> object:
    loop = VirtualTimeLoop()
    yield loop
    loop.close()


def test_a_failing_key_comes_back_until_it_succeeds(loop: VirtualTimeLoop, caplog: pytest.LogCaptureFixture) -> None:
    clock = VirtualClock(loop)
    tries: list[float] = []

    async def reconcile(key: str) -> None:
        tries.append(clock.monotonic())
        if len(tries) < 4:
            raise ValueError("not yet")

    controller = Controller("test", reconcile, clock)
    controller.queue.add("a/b")
    with caplog.at_level(logging.CRITICAL, logger="tiphys"):
        drive(10, controller, loop)
    assert tries == pytest.approx([0, 0.005, 0.015, 0.035])
    assert controller.queue.failures("a/b") == 0


@pytest.mark.parametrize(
    "error",
    [
        errors.Conflict(409, {"reason": "Conflict"}),
        errors.ApiError(500, {}),
        ConnectionError(),
        TimeoutError(),
        TryAgain("soon"),
    ],
)
def test_expected_trouble_is_retried(loop: VirtualTimeLoop, error: Exception) -> None:
    clock, tries = VirtualClock(loop), []

    async def reconcile(key: str) -> None:
        tries.append(key)
        if len(tries) == 1:
            raise error

    controller = Controller("test", reconcile, clock)
    controller.queue.add("a")
    drive(1, controller, loop)
    assert tries == ["a", "a"]


def test_after_max_retries_a_key_is_dropped(loop: VirtualTimeLoop) -> None:
    clock, tries = VirtualClock(loop), []

    async def reconcile(key: str) -> None:
        tries.append(key)
        raise TryAgain("never")

    controller = Controller("test", reconcile, clock, max_retries=3)
    controller.queue.add("a")
    drive(100, controller, loop)
    assert len(tries) == 4


def test_a_result_brings_the_key_back(loop: VirtualTimeLoop) -> None:
    clock, times = VirtualClock(loop), []

    async def reconcile(key: str) -> Result | None:
        times.append(clock.monotonic())
        return {1: Result(after=5), 2: Result(retry=True)}.get(len(times))

    controller = Controller("test", reconcile, clock)
    controller.queue.add("a")
    drive(100, controller, loop)
    assert times == pytest.approx([0, 5, 5.005])


def test_workers_work_side_by_side_but_never_on_one_key(loop: VirtualTimeLoop) -> None:
    clock = VirtualClock(loop)
    running: list[str] = []
    most = 0

    async def reconcile(key: str) -> None:
        nonlocal most
        assert key not in running
        running.append(key)
        most = max(most, len(running))
        await clock.sleep(1)
        running.remove(key)
        controller.queue.add(key)

    controller = Controller("test", reconcile, clock, workers=3)
    for key in "abcd":
        controller.queue.add(key)
    drive(20, controller, loop)
    assert most == 3


def test_metrics_have_client_gos_names(loop: VirtualTimeLoop) -> None:
    registry = Registry()

    async def reconcile(key: str) -> Result | None:
        return Result(retry=controller.queue.failures(key) == 0)

    controller = Controller("deployment", reconcile, VirtualClock(loop), registry=registry)
    controller.queue.add("a")
    drive(1, controller, loop)
    text = registry.expose().decode()
    assert 'workqueue_adds_total{name="deployment"} 2.0' in text
    assert 'workqueue_retries_total{name="deployment"} 1.0' in text
    assert 'workqueue_work_duration_seconds_count{name="deployment"} 2.0' in text
