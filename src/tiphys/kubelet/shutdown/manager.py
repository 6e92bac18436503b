"""Holds up the machine's shutdown until the node's pods have ended, the least important first.

While nothing happens an inhibitor of the login manager is held. When it says that a shutdown begins, the node is not
ready and takes no more pods; the pods of one group after another end; then the inhibitor is released, and the machine
goes down. When the shutdown is called off, the inhibitor is taken again.

Source: https://kubernetes.io/docs/concepts/cluster-administration/node-shutdown/ (KEP-2000, KEP-2712)
"""

from __future__ import annotations

import contextlib
import datetime
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from enum import Enum
from pathlib import Path
from typing import Protocol

from tiphys.kubelet import checkpoints
from tiphys.kubelet.checkpoints import CheckpointCorrupt
from tiphys.kubelet.figures import KubeletFigures
from tiphys.kubelet.pod import pods
from tiphys.kubelet.pod.ending import Ending
from tiphys.kubelet.pod.pods import Pod
from tiphys.kubelet.pod.workers import PodWorkers
from tiphys.kubelet.recorder import EventType
from tiphys.kubelet.shutdown.groups import Period, grace_of, grouped, total
from tiphys.kubelet.shutdown.logind import LogindFailure
from tiphys.runtime import durations
from tiphys.runtime.clock import Clock, backoff

log = logging.getLogger(__name__)

STATE = "graceful_node_shutdown_state"
_MESSAGE = "Pod was terminated in response to imminent node shutdown."
_RECONNECT = 1.0
_WITHOUT_MANAGER = 60.0
_LOOKS = 5
"""How often it is looked whether the login manager has taken a setting over."""


class LoginManager(Protocol):
    """What ``Logind`` offers."""

    def close(self) -> None: ...

    async def longest_delay(self) -> float: ...

    async def set_longest_delay(self, seconds: float) -> None: ...

    async def inhibit(self) -> int: ...

    async def follow(self) -> AsyncIterator[bool]: ...


class ShutdownState(Enum):
    UP = "up"
    ENDING = "ending"
    """Pods are being ended; the machine waits."""
    ENDED = "ended"
    """The machine may go down."""


TRANSITIONS: dict[ShutdownState, frozenset[ShutdownState]] = {
    ShutdownState.UP: frozenset((ShutdownState.ENDING,)),
    ShutdownState.ENDING: frozenset((ShutdownState.ENDED,)),
    ShutdownState.ENDED: frozenset((ShutdownState.UP, ShutdownState.ENDING)),
}


class ShutdownManager:
    """``running()`` gives the pods that may have running containers; ``changed`` is called when the node's readiness
    has changed, ``event`` with what happens to the node."""

    def __init__(
        self,
        *,
        periods: Sequence[Period],
        connect: Callable[[], Awaitable[LoginManager]],
        root: Path,
        clock: Clock,
        workers: PodWorkers,
        running: Callable[[], Sequence[Pod]],
        changed: Callable[[], None],
        event: Callable[[EventType, str, str], None],
        figures: KubeletFigures,
    ) -> None:
        self._periods = periods
        self._connect = connect
        self._path = root / STATE
        self._clock = clock
        self._workers = workers
        self._running = running
        self._changed = changed
        self._event = event
        self._figures = figures
        self._inhibitor: int | None = None
        self.state = ShutdownState.UP

    @property
    def problem(self) -> str:
        """Why the node takes no pods, in upstream's words; empty if it does."""
        return "" if self.state is ShutdownState.UP else "node is shutting down"

    @property
    def wanted(self) -> bool:
        """Whether a shutdown is to be waited with at all."""
        return bool(self._periods)

    async def run(self) -> None:
        """Follow the login manager for ever. Without one it is looked for again every minute."""
        self._recall()
        watched = False
        try:
            while True:
                pause = _RECONNECT if watched else _WITHOUT_MANAGER
                try:
                    await self._watch()
                    watched, pause = True, _RECONNECT
                    log.info("the connection to the login manager has ended; connecting again")
                except LogindFailure as error:
                    log.error("the machine's shutdown will not wait for pods: %s", error)
                await self._clock.sleep(pause)
        finally:
            self._release()

    async def _watch(self) -> None:
        """Returns when the connection ends. Raises ``LogindFailure``."""
        manager = await self._connect()
        try:
            await self._make_delay_long_enough(manager)
            async with contextlib.aclosing(await manager.follow()) as news:  # type: ignore[type-var]
                await self._hold(manager)  # who holds a shutdown up already hears of it
                async for begins in news:
                    await self._heard(manager, begins=begins)
        finally:
            manager.close()

    async def _make_delay_long_enough(self, manager: LoginManager) -> None:
        wanted = total(self._periods)
        if wanted <= await manager.longest_delay():
            return
        await manager.set_longest_delay(wanted)
        pauses = backoff(0.1, 2, 1.6)
        for look in range(1, _LOOKS + 1):
            if wanted <= (current := await manager.longest_delay()):
                return
            if look < _LOOKS:
                await self._clock.sleep(next(pauses))
        raise LogindFailure(
            f"node shutdown manager was timed out after {_LOOKS} attempts waiting for logind InhibitDelayMaxSec to"
            f" update to {durations.seconds_text(wanted)} (ShutdownGracePeriod), current value is"
            f" {durations.seconds_text(current)}"
        )

    async def _hold(self, manager: LoginManager) -> None:
        """Hold up the next shutdown; what was held before goes only then."""
        inhibitor = await manager.inhibit()
        self._release()
        self._inhibitor = inhibitor

    def _release(self) -> None:
        if self._inhibitor is not None:
            os.close(self._inhibitor)
            self._inhibitor = None

    def _move(self, state: ShutdownState) -> None:
        assert state in TRANSITIONS[self.state], f"{self.state} → {state}"
        self.state = state
        self._changed()

    async def _heard(self, manager: LoginManager, *, begins: bool) -> None:
        word = "event" if begins else "cancellation"
        log.info("shutdown %s", word)
        self._event("Normal", "Shutdown", f"Shutdown manager detected shutdown {word}")
        if begins:
            self._move(ShutdownState.ENDING)
            try:
                await self._end_pods()
            finally:
                self._move(ShutdownState.ENDED)
                self._release()
            return
        if self.state is not ShutdownState.UP:
            self._move(ShutdownState.UP)
        await self._hold(manager)

    async def _end_pods(self) -> None:
        began = self._clock.now()
        self._note(began, None)
        try:
            for group in grouped(self._periods, self._running()):
                await self._end(group.pods, group.period)
        finally:
            self._note(began, self._clock.now())

    async def _end(self, ending: Sequence[Pod], period: Period) -> None:
        """End the pods of one group, and wait until their volumes are gone too, or the group's time is over."""
        log.info("ending %d pods of priority %d and more within %d s", len(ending), period.priority, period.seconds)
        for pod in ending:
            self._workers.kill(pod, grace_of(pod, period), Ending("Terminated", _MESSAGE, _MESSAGE))
        late = await self._workers.wait_finished([pods.uid_of(pod) for pod in ending], period.seconds)
        if late:
            names = ", ".join(pods.key_of(pod) for pod in ending if pods.uid_of(pod) in late)
            log.error("pods that have not ended within %d s, their volumes included: %s", period.seconds, names)

    # What is known of the last shutdown.

    def _note(self, began: float, ended: float | None) -> None:
        """Times are seconds since 1970."""
        try:
            checkpoints.write(self._path, {"startTime": _written(began), "endTime": _written(ended)})
        except OSError as error:
            log.error("failed to store graceful shutdown state: %s", error)
        self._figures.shut_down(began, ended)

    def _recall(self) -> None:
        try:
            document = checkpoints.read(self._path)
            if document is not None:
                self._figures.shut_down(_read(document["startTime"]), _read(document["endTime"]))
        except (OSError, CheckpointCorrupt, KeyError, TypeError, ValueError) as error:
            log.error("failed to load graceful shutdown state: %s", error)


_NEVER = "0001-01-01T00:00:00Z"


def _written(seconds: float | None) -> str:
    """As Go writes a time; one that is not set is the year 1."""
    if seconds is None:
        return _NEVER
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat().replace("+00:00", "Z")


def _read(text: str) -> float | None:
    return None if text == _NEVER else datetime.datetime.fromisoformat(text).timestamp()
