"""systemd's login manager, which speaks of a shutdown and can be asked to wait with it, over the system's D-Bus.

Source: https://systemd.io/INHIBITOR_LOCKS/ and https://www.freedesktop.org/wiki/Software/systemd/logind/
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiphys.kubelet.systembus import BusFailure, BusInterface, SystemBus

if TYPE_CHECKING:
    from dbus_fast import Message

log = logging.getLogger(__name__)

SERVICE, PATH = "org.freedesktop.login1", "/org/freedesktop/login1"
MANAGER = BusInterface(SERVICE, PATH, f"{SERVICE}.Manager")
SIGNAL = "PrepareForShutdown"
_PROPERTIES = BusInterface(SERVICE, PATH, "org.freedesktop.DBus.Properties")
_SYSTEMD = BusInterface("org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager")
CONFIG_FOLDER = Path("/etc/systemd/logind.conf.d")
_CONFIG_FILE = "99-kubelet.conf"
_MOST_NEWS = 16


class LogindFailure(Exception):
    """There is no D-Bus, no login manager, or it does not do what it is asked."""


class Logind:
    """One connection to the bus."""

    def __init__(self, bus: SystemBus) -> None:
        self._bus = bus
        self._news: asyncio.Queue[tuple[str, bool]] = asyncio.Queue(_MOST_NEWS)

    @classmethod
    async def connect(cls) -> Logind:
        """Raises ``LogindFailure``."""
        try:
            return cls(await SystemBus.connect())
        except BusFailure as error:
            raise LogindFailure(str(error)) from error

    def close(self) -> None:
        self._bus.close()

    async def longest_delay(self) -> float:
        """Seconds that the manager lets others hold up a shutdown. Raises ``LogindFailure``."""
        about = "failed reading InhibitDelayMaxUSec property from logind"
        answer = await self._call(about, _PROPERTIES, "Get", "ss", [MANAGER.name, "InhibitDelayMaxUSec"])
        value = answer.body[0].value
        if type(value) is not int:
            raise LogindFailure("InhibitDelayMaxUSec from logind is not a uint64 as expected")
        return value / 1e6

    async def set_longest_delay(self, seconds: float) -> None:
        """Write the manager's setting, and have it read it; that takes a moment. Raises ``LogindFailure``."""
        try:
            await asyncio.to_thread(_write_setting, seconds)
        except OSError as error:
            raise LogindFailure(f"cannot set InhibitDelayMaxSec of logind: {error}") from error
        unit = ["systemd-logind.service", "all", 1]  # SIGHUP
        await self._call("unable to reload logind conf", _SYSTEMD, "KillUnit", "ssi", unit)

    async def inhibit(self) -> int:
        """Hold up the next shutdown until the descriptor that this returns is closed. Raises ``LogindFailure``."""
        reasons = ["shutdown", "kubelet", "Kubelet needs time to handle node shutdown", "delay"]
        asked = self._call("failed creating systemd inhibitor", MANAGER, "Inhibit", "ssss", reasons)
        answering = asyncio.ensure_future(asked)
        try:
            answer = await asyncio.shield(answering)
        except asyncio.CancelledError:
            answering.add_done_callback(_let_go)  # or the next shutdown would be held up by nobody
            raise
        if not answer.unix_fds:
            raise LogindFailure("failed storing inhibit lock file descriptor: logind sent none")
        fcntl.fcntl(answer.unix_fds[0], fcntl.F_SETFD, fcntl.FD_CLOEXEC)
        return int(answer.unix_fds[0])

    async def follow(self) -> AsyncIterator[bool]:
        """From now on: True when a shutdown begins, False when one was called off; ends with the connection.

        Raises ``LogindFailure``.
        """
        try:
            await self._bus.follow(MANAGER, SIGNAL, self._heard)
        except BusFailure as error:
            raise LogindFailure(f"failed to monitor shutdown: {error}") from error
        return self._followed()

    async def _followed(self) -> AsyncIterator[bool]:
        ended = asyncio.ensure_future(self._bus.ended())
        heard = asyncio.ensure_future(self._news.get())
        try:
            while True:
                await asyncio.wait((ended, heard), return_when=asyncio.FIRST_COMPLETED)
                if not heard.done():
                    return
                sender, begins = heard.result()
                heard = asyncio.ensure_future(self._news.get())
                if await self._is_manager(sender):
                    yield begins
        finally:
            for task in (ended, heard):
                task.cancel()
            await asyncio.gather(ended, heard, return_exceptions=True)

    def _heard(self, message: Message) -> None:
        """Note what is said of shutdowns. Old news make room for new ones: the newest says how it is."""
        if message.signature != "b":
            return
        if self._news.full():
            self._news.get_nowait()
        self._news.put_nowait((message.sender or "", bool(message.body[0])))

    async def _is_manager(self, sender: str) -> bool:
        """Whether the connection is the login manager's: on most buses anybody may send anybody a signal."""
        try:
            owner = await self._bus.owner(SERVICE)
        except BusFailure as error:
            log.warning("ignoring news of a shutdown from %s: no owner of login1: %s", sender, error)
            return False
        if owner != sender:
            log.warning("ignoring news of a shutdown from %s, which is not the login manager", sender)
        return owner == sender

    async def _call(self, about: str, to: BusInterface, member: str, signature: str, body: Sequence[Any]) -> Message:
        try:
            return await self._bus.call(to, member, signature, body)
        except BusFailure as error:
            raise LogindFailure(f"{about}: {error}") from error


def _let_go(answering: asyncio.Future[Message]) -> None:
    """Close what an answer that nobody waits for any more has brought."""
    if not answering.cancelled() and answering.exception() is None:
        for descriptor in answering.result().unix_fds:
            os.close(descriptor)


def _write_setting(seconds: float) -> None:
    CONFIG_FOLDER.mkdir(mode=0o755, parents=True, exist_ok=True)
    text = f"# Kubelet logind override\n[Login]\nInhibitDelayMaxSec={seconds:.0f}\n"
    (CONFIG_FOLDER / _CONFIG_FILE).write_text(text)
