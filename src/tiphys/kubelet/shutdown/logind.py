"""systemd's login manager, which speaks of a shutdown and can be asked to wait with it, over the system's D-Bus.

Source: https://systemd.io/INHIBITOR_LOCKS/ and https://www.freedesktop.org/wiki/Software/systemd/logind/
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dbus_fast import Message
    from dbus_fast.aio import MessageBus

log = logging.getLogger(__name__)

SERVICE, PATH, INTERFACE = "org.freedesktop.login1", "/org/freedesktop/login1", "org.freedesktop.login1.Manager"
SIGNAL = "PrepareForShutdown"
_BUS, _BUS_PATH = "org.freedesktop.DBus", "/org/freedesktop/DBus"
CONFIG_FOLDER = Path("/etc/systemd/logind.conf.d")
_CONFIG_FILE = "99-kubelet.conf"
_ANSWER_SECONDS = 25.0
"""As long as D-Bus' own library waits for an answer."""
_MOST_NEWS = 16


class LogindFailure(Exception):
    """There is no D-Bus, no login manager, or it does not do what it is asked."""


class Logind:
    """One connection to the bus."""

    def __init__(self, bus: MessageBus) -> None:
        self._bus = bus
        self._news: asyncio.Queue[tuple[str, bool]] = asyncio.Queue(_MOST_NEWS)

    @classmethod
    async def connect(cls) -> Logind:
        """Raises ``LogindFailure``. The bus is the system's, or ``DBUS_SYSTEM_BUS_ADDRESS`` of the environment."""
        from dbus_fast import AuthError, BusType, DBusError, InvalidAddressError
        from dbus_fast.aio import MessageBus

        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                bus = await MessageBus(bus_type=BusType.SYSTEM, negotiate_unix_fd=True).connect()
        except (OSError, EOFError, DBusError, AuthError, InvalidAddressError, TimeoutError) as error:
            raise LogindFailure(f"cannot reach the system's D-Bus: {error or type(error).__name__}") from error
        return cls(bus)

    def close(self) -> None:
        self._bus.disconnect()

    async def longest_delay(self) -> float:
        """Seconds that the manager lets others hold up a shutdown. Raises ``LogindFailure``."""
        about = "failed reading InhibitDelayMaxUSec property from logind"
        properties = "org.freedesktop.DBus.Properties"
        answer = await self._call(about, SERVICE, PATH, properties, "Get", "ss", [INTERFACE, "InhibitDelayMaxUSec"])
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
        service, path = "org.freedesktop.systemd1", "/org/freedesktop/systemd1"
        unit = ["systemd-logind.service", "all", 1]  # SIGHUP
        await self._call("unable to reload logind conf", service, path, f"{service}.Manager", "KillUnit", "ssi", unit)

    async def inhibit(self) -> int:
        """Hold up the next shutdown until the descriptor that this returns is closed. Raises ``LogindFailure``."""
        reasons = ["shutdown", "kubelet", "Kubelet needs time to handle node shutdown", "delay"]
        about = "failed creating systemd inhibitor"
        answer = await self._call(about, SERVICE, PATH, INTERFACE, "Inhibit", "ssss", reasons)
        if not answer.unix_fds:
            raise LogindFailure("failed storing inhibit lock file descriptor: logind sent none")
        fcntl.fcntl(answer.unix_fds[0], fcntl.F_SETFD, fcntl.FD_CLOEXEC)
        return int(answer.unix_fds[0])

    async def follow(self) -> AsyncIterator[bool]:
        """From now on: True when a shutdown begins, False when one was called off; ends with the connection.

        Raises ``LogindFailure``.
        """
        rule = f"type='signal',sender='{SERVICE}',interface='{INTERFACE}',member='{SIGNAL}',path='{PATH}'"
        self._bus.add_message_handler(self._heard)
        await self._call("failed to monitor shutdown", _BUS, _BUS_PATH, _BUS, "AddMatch", "s", [rule])
        return self._followed()

    async def _followed(self) -> AsyncIterator[bool]:
        ended = asyncio.ensure_future(self._bus.wait_for_disconnect())  # type: ignore[no-untyped-call]
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
        if (message.interface, message.member, message.path) != (INTERFACE, SIGNAL, PATH) or message.signature != "b":
            return
        if self._news.full():
            self._news.get_nowait()
        self._news.put_nowait((message.sender or "", bool(message.body[0])))

    async def _is_manager(self, sender: str) -> bool:
        """Whether the connection is the login manager's: on most buses anybody may send anybody a signal."""
        try:
            answer = await self._call("no owner of login1", _BUS, _BUS_PATH, _BUS, "GetNameOwner", "s", [SERVICE])
        except LogindFailure as error:
            log.warning("ignoring news of a shutdown from %s: %s", sender, error)
            return False
        if answer.body[0] != sender:
            log.warning("ignoring news of a shutdown from %s, which is not the login manager", sender)
        return bool(answer.body[0] == sender)

    async def _call(
        self, about: str, service: str, path: str, interface: str, member: str, signature: str, body: list[Any]
    ) -> Message:
        from dbus_fast import DBusError, Message, MessageType

        call = Message(
            destination=service, path=path, interface=interface, member=member, signature=signature, body=body
        )
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                answer = await self._bus.call(call)
        except (OSError, EOFError, DBusError, TimeoutError) as error:
            raise LogindFailure(f"{about}: {error or type(error).__name__}") from error
        if answer is None or answer.message_type is not MessageType.METHOD_RETURN:
            raise LogindFailure(f"{about}: {' '.join(map(str, answer.body)) if answer else 'no answer'}")
        return answer


def _write_setting(seconds: float) -> None:
    CONFIG_FOLDER.mkdir(mode=0o755, parents=True, exist_ok=True)
    text = f"# Kubelet logind override\n[Login]\nInhibitDelayMaxSec={seconds:.0f}\n"
    (CONFIG_FOLDER / _CONFIG_FILE).write_text(text)
