"""A connection to the system's D-Bus, over which systemd's managers are asked. Source: the D-Bus specification."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dbus_fast import Message
    from dbus_fast.aio import MessageBus

ANSWER_SECONDS = 25.0
"""As long as D-Bus' own library waits for an answer."""
BUS, BUS_PATH = "org.freedesktop.DBus", "/org/freedesktop/DBus"


class BusFailure(Exception):
    """The bus cannot be reached, or whom it was asked for does not do what it is asked.

    ``name`` is D-Bus' name of an error that was answered; empty if nothing was: then it may be asked again.
    """

    def __init__(self, text: str, name: str = "") -> None:
        super().__init__(text)
        self.name = name


@dataclass(frozen=True, slots=True)
class BusInterface:
    """Whom to ask: an interface of an object of a service."""

    service: str
    path: str
    name: str


class SystemBus:
    def __init__(self, bus: MessageBus) -> None:
        self._bus = bus

    @classmethod
    async def connect(cls) -> SystemBus:
        """Raises ``BusFailure``. The bus is the system's, or ``DBUS_SYSTEM_BUS_ADDRESS`` of the environment."""
        from dbus_fast import AuthError, BusType, DBusError, InvalidAddressError
        from dbus_fast.aio import MessageBus

        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                bus = await MessageBus(bus_type=BusType.SYSTEM, negotiate_unix_fd=True).connect()
        except (OSError, EOFError, DBusError, AuthError, InvalidAddressError, TimeoutError) as error:
            raise BusFailure(f"cannot reach the system's D-Bus: {error or type(error).__name__}") from error
        return cls(bus)

    @property
    def connected(self) -> bool:
        return bool(self._bus.connected)

    def close(self) -> None:
        self._bus.disconnect()

    async def ended(self) -> None:
        """Return, or raise what ended it, when the connection has ended."""
        await self._bus.wait_for_disconnect()  # type: ignore[no-untyped-call]

    async def call(self, to: BusInterface, member: str, signature: str = "", body: Sequence[Any] = ()) -> Message:
        """The answer. Raises ``BusFailure``."""
        from dbus_fast import DBusError, Message, MessageType

        call = Message(
            destination=to.service,
            path=to.path,
            interface=to.name,
            member=member,
            signature=signature,
            body=list(body),
        )
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                answer = await self._bus.call(call)
        except (OSError, EOFError, DBusError, TimeoutError) as error:
            raise BusFailure(str(error) or type(error).__name__) from error
        if answer is None or answer.message_type is not MessageType.METHOD_RETURN:
            text = " ".join(map(str, answer.body)) if answer else "no answer"
            raise BusFailure(text, (answer.error_name or "") if answer else "")
        return answer

    async def follow(self, of: BusInterface, signal: str, heard: Callable[[Message], None]) -> None:
        """Call ``heard`` with each message that is ``of``'s signal by its head. Raises ``BusFailure``."""

        def hear(message: Message) -> None:
            if (message.interface, message.member, message.path) == (of.name, signal, of.path):
                heard(message)

        rule = f"type='signal',sender='{of.service}',interface='{of.name}',member='{signal}',path='{of.path}'"
        self._bus.add_message_handler(hear)
        await self.call(BusInterface(BUS, BUS_PATH, BUS), "AddMatch", "s", [rule])

    async def owner(self, service: str) -> str:
        """The connection that a service's name belongs to. Raises ``BusFailure``."""
        answer = await self.call(BusInterface(BUS, BUS_PATH, BUS), "GetNameOwner", "s", [service])
        return str(answer.body[0])
