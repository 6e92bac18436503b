"""A login manager for tests, as far as logind's documented interface goes that a kubelet uses, on a real bus.

It holds shutdowns up as logind does: ``shut_down`` says that one begins, and returns when every inhibitor has been
closed, or the longest delay is over. Source: https://www.freedesktop.org/wiki/Software/systemd/logind/ and
https://systemd.io/INHIBITOR_LOCKS/
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from dbus_fast import Message, PropertyAccess
from dbus_fast.annotations import DBusBool, DBusInt32, DBusStr, DBusUInt64, DBusUnixFd
from dbus_fast.service import ServiceInterface, dbus_method, dbus_property, dbus_signal

from tests.kubelet.privatebus import PrivateBus


class Manager(ServiceInterface):
    """org.freedesktop.login1.Manager."""

    def __init__(self, config: Path, machine: Machine) -> None:
        super().__init__("org.freedesktop.login1.Manager")
        self._machine = machine
        self.callers: list[str] = []
        """Who has asked for an inhibitor, by the bus' names."""
        self.config = config
        self.delay = 5.0
        self.asked: list[tuple[str, str, str, str]] = []
        self.held: list[int] = []
        """Our ends of the inhibitors' pipes: one that is at its end has been let go."""
        self.in_a_hurry = False
        """Whether a shutdown begins as soon as somebody holds it up."""

    @dbus_method()
    def Inhibit(self, what: DBusStr, who: DBusStr, why: DBusStr, mode: DBusStr) -> DBusUnixFd:
        self.asked.append((what, who, why, mode))
        ours, theirs = os.pipe()
        os.set_blocking(ours, False)
        self.held.append(ours)
        asyncio.get_running_loop().call_later(1.0, os.close, theirs)  # the message has a copy of its own by then
        if self.in_a_hurry:
            asyncio.get_running_loop().call_soon(lambda: self.PrepareForShutdown(start=True))
        return theirs

    @dbus_property(access=PropertyAccess.READ)
    def InhibitDelayMaxUSec(self) -> DBusUInt64:
        return int(self.delay * 1e6)

    @dbus_signal()
    def PrepareForShutdown(self, *, start: bool) -> DBusBool:
        return start

    def inhibited(self) -> bool:
        """Whether anybody still holds an inhibitor."""
        left = []
        for end in self.held:
            try:
                gone = os.read(end, 1) == b""
            except BlockingIOError:
                gone = False
            if gone:
                os.close(end)
            else:
                left.append(end)
        self.held = left
        return bool(left)

    async def restart_bus(self) -> None:
        await self._machine.stop()
        await self._machine.start()

    async def shut_down(self) -> bool:
        """Whether everybody let the machine go before the longest delay was over."""
        self.PrepareForShutdown(start=True)
        try:
            async with asyncio.timeout(self.delay):
                while self.inhibited():
                    await asyncio.sleep(0.02)
        except TimeoutError:
            return False
        return True


class Systemd(ServiceInterface):
    """org.freedesktop.systemd1.Manager: a signal makes the login manager read its configuration again."""

    def __init__(self, manager: Manager) -> None:
        super().__init__("org.freedesktop.systemd1.Manager")
        self._manager = manager

    @dbus_method()
    def KillUnit(self, name: DBusStr, whom: DBusStr, signal: DBusInt32):
        assert (name, whom, signal) == ("systemd-logind.service", "all", 1)
        text = "\n".join(file.read_text() for file in sorted(self._manager.config.glob("*.conf")))
        seconds = re.search(r"(?m)^InhibitDelayMaxSec=(\d+)$", text)
        assert seconds is not None
        asyncio.get_running_loop().call_later(0.15, setattr, self._manager, "delay", float(seconds[1]))


class Machine:
    """A bus in ``folder``, with a login manager on it."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._bus = PrivateBus(folder, monkeypatch)
        self.manager = Manager(folder / "logind.conf.d", self)
        self.manager.config.mkdir()

    async def start(self) -> None:
        await self._bus.start()
        bus = await self._bus.connect()
        bus.add_message_handler(self._note)
        bus.export("/org/freedesktop/login1", self.manager)
        bus.export("/org/freedesktop/systemd1", Systemd(self.manager))
        for name in ("login1", "systemd1"):
            await bus.request_name(f"org.freedesktop.{name}")

    def _note(self, message: Message) -> None:
        if message.member == "Inhibit" and message.sender:
            self.manager.callers.append(message.sender)

    async def stop(self) -> None:
        await self._bus.stop()


@asynccontextmanager
async def login_manager(folder: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Manager]:
    """A machine with a login manager; ``DBUS_SYSTEM_BUS_ADDRESS`` leads to its bus."""
    machine = Machine(folder, monkeypatch)
    try:
        await machine.start()
        yield machine.manager
    finally:
        await machine.stop()
