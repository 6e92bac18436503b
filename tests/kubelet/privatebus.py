"""A system bus for tests: Debian's dbus-daemon in a folder, on which anybody may own and send anything."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from dbus_fast import BusType
from dbus_fast.aio import MessageBus

_CONFIG = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>unix:path={folder}/bus</listen>
  <policy context="default">
    <allow user="*"/><allow own="*"/><allow send_type="*"/><allow send_destination="*"/><allow receive_type="*"/>
  </policy>
</busconfig>
"""


class PrivateBus:
    """``DBUS_SYSTEM_BUS_ADDRESS`` leads to it."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={folder}/bus")
        self._config = folder / "bus.conf"
        self._socket = folder / "bus"
        self._config.write_text(_CONFIG.format(folder=folder))
        self._connections: list[MessageBus] = []

    async def start(self) -> None:
        self._socket.unlink(missing_ok=True)
        self._daemon = await asyncio.create_subprocess_exec("dbus-daemon", "--nofork", f"--config-file={self._config}")

    async def connect(self) -> MessageBus:
        while True:
            try:
                bus = await MessageBus(bus_type=BusType.SYSTEM, negotiate_unix_fd=True).connect()
                break
            except (FileNotFoundError, ConnectionRefusedError):  # it is bound first, and listens a moment later
                assert self._daemon.returncode is None, "dbus-daemon has ended"
                await asyncio.sleep(0.01)
        self._connections.append(bus)
        return bus

    async def stop(self) -> None:
        while self._connections:
            self._connections.pop().disconnect()
        self._daemon.terminate()
        await self._daemon.wait()
