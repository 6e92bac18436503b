"""How devices of claims fare, as their drivers say it: which pods are to show it, and what.

A driver sends the whole list of its devices whenever it likes. What it has not spoken of for as long as it allows (half
a minute, if it does not say) is unknown. What was said is in ``dra_health_state``, in upstream's form, for a kubelet
that starts again before drivers speak to it. Source: KEP-4680.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tiphys.api.meta.timestamps import format_micro_time, parse_seconds
from tiphys.kubelet import checkpoints
from tiphys.kubelet.checkpoints import CheckpointCorrupt
from tiphys.kubelet.dra.messages import dra_health
from tiphys.runtime.clock import Clock, backoff
from tiphys.runtime.tasks import Runner
from tiphys.wire.grpc.caller import Caller, describe
from tiphys.wire.grpc.stream import UNIMPLEMENTED, GrpcError

log = logging.getLogger(__name__)

CHECKPOINT = "dra_health_state"
UNKNOWN = "Unknown"
_WORDS = {1: "Healthy", 2: "Unhealthy"}
_TIMEOUT = 30.0
_LONGEST_MESSAGE = 1024

Place = tuple[str, str]
"""A device's pool and name."""


@dataclass(frozen=True, slots=True)
class DeviceHealth:
    """``timeout`` is for how many seconds what is said holds."""

    health: str = UNKNOWN
    message: str = ""
    timeout: float = _TIMEOUT


class HealthBook:
    """What each driver has said last, and when, by the monotonic clock. Pure."""

    def __init__(self) -> None:
        self._known: dict[str, dict[Place, tuple[DeviceHealth, float]]] = {}

    def get(self, driver: str, place: Place, now: float) -> DeviceHealth:
        said, when = self._known.get(driver, {}).get(place, (DeviceHealth(), now))
        return said if now - when <= said.timeout else DeviceHealth()

    def note(self, driver: str, devices: dict[Place, DeviceHealth], now: float) -> set[Place]:
        """Returns the devices of which something else is known than before."""
        known = self._known.setdefault(driver, {})
        changed = set()
        for place, said in devices.items():
            before, when = known.get(place, (None, now))
            if said != before or now - when > said.timeout:
                changed.add(place)
            known[place] = (said, now)
        for place in [place for place, (said, when) in known.items() if now - when > said.timeout]:
            del known[place]
            changed.add(place)
        return changed

    def clear(self, driver: str) -> set[Place]:
        return set(self._known.pop(driver, {}))

    def written(self, wall: Callable[[float], float]) -> dict[str, Any]:
        """The document to write. ``wall`` gives the wall clock's time, since the epoch, for the monotonic clock's."""
        return {
            driver: {"Devices": {"/".join(place): _written(place, *entry, wall) for place, entry in known.items()}}
            for driver, known in self._known.items()
        }

    def take(self, document: Any, when: Callable[[float], float]) -> None:
        """Know what is written; ``when`` is the reverse of ``wall``. Raises ``CheckpointCorrupt``."""
        try:
            self._known = {
                driver: {
                    (one["PoolName"], one["DeviceName"]): (_read(one), when(parse_seconds(one["LastUpdated"])))
                    for one in state["Devices"].values()
                }
                for driver, state in document.items()
            }
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CheckpointCorrupt(f"the checkpoint has another form: {error!r}") from error


def _written(place: Place, said: DeviceHealth, heard: float, wall: Callable[[float], float]) -> dict[str, Any]:
    return {
        "PoolName": place[0],
        "DeviceName": place[1],
        "Health": said.health,
        "LastUpdated": format_micro_time(wall(heard)),
        "HealthCheckTimeout": round(said.timeout * 1e9),
        "Message": said.message,
    }


def _read(one: dict[str, Any]) -> DeviceHealth:
    timeout = one["HealthCheckTimeout"] / 1e9 or _TIMEOUT
    return DeviceHealth(one["Health"], one["Message"], timeout)


def read(devices: Iterable[Any]) -> dict[Place, DeviceHealth]:
    """The messages of a driver."""
    said = {}
    for one in devices:
        text = one.message
        if len(text) > _LONGEST_MESSAGE:
            text = f"{text[: _LONGEST_MESSAGE - 3]}..."
        timeout = float(one.health_check_timeout_seconds) if one.health_check_timeout_seconds > 0 else _TIMEOUT
        health = DeviceHealth(_WORDS.get(one.health, UNKNOWN), text, timeout)
        said[(one.device.pool_name, one.device.device_name)] = health
    return said


class HealthMonitor:
    """``users(driver, devices)`` gives the uids of the pods that have some devices; ``poke`` has a pod looked at.

    ``root`` is the kubelet's folder.
    """

    def __init__(
        self,
        root: Path,
        *,
        clock: Clock,
        runner: Runner,
        users: Callable[[str, Collection[Place]], Collection[str]],
        poke: Callable[[str], None],
    ) -> None:
        self._path = root / CHECKPOINT
        self._clock = clock
        self._runner = runner
        self._users = users
        self._poke = poke
        self._book = HealthBook()
        self._tasks: dict[str, asyncio.Task[Any]] = {}

    def restore(self) -> None:
        """Read what drivers have said to the kubelet before this one."""
        try:
            document = checkpoints.read(self._path)
            if document is not None:
                self._book.take(document, lambda wall: wall - self._offset())
        except (OSError, CheckpointCorrupt) as error:
            log.error("what drivers have said of their devices cannot be read: %s", error)

    def _offset(self) -> float:
        """From the monotonic clock's time to the wall clock's."""
        return self._clock.now() - self._clock.monotonic()

    def get(self, driver: str, place: Place) -> DeviceHealth:
        return self._book.get(driver, place, self._clock.monotonic())

    def follow(self, driver: str, endpoint: str) -> None:
        """A driver has registered: listen to it, if it says anything. What it has said before holds until then."""
        if (task := self._tasks.pop(driver, None)) is not None:
            task.cancel()
        self._tasks[driver] = self._runner.spawn(self._follow(driver, endpoint), f"health of {driver}")

    def leave(self, driver: str) -> None:
        if (task := self._tasks.pop(driver, None)) is not None:
            task.cancel()
        self._tell(driver, self._book.clear(driver))

    async def _follow(self, driver: str, endpoint: str) -> None:
        for delay in backoff(1.0, 2, 60):
            caller = Caller(endpoint, dra_health())
            try:
                async for answer in caller.stream("NodeWatchResources"):
                    self._tell(driver, self._book.note(driver, read(answer.devices), self._clock.monotonic()))
            except GrpcError as error:
                if error.code == UNIMPLEMENTED:
                    self._tell(driver, self._book.clear(driver))
                    return
                log.warning("driver %s no longer says how its devices fare: %s", driver, describe(error))
            finally:
                await caller.close()
            self._tell(driver, self._book.clear(driver))
            await self._clock.sleep(delay)

    def _tell(self, driver: str, changed: Collection[Place]) -> None:
        if not changed:
            return
        try:
            checkpoints.write(self._path, self._book.written(lambda heard: heard + self._offset()))
        except OSError as error:
            log.error("cannot write down what drivers have said of their devices: %s", error)
        for uid in self._users(driver, changed):
            self._poke(uid)
