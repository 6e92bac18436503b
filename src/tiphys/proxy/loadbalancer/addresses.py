"""The addresses that this node has taken: on its interfaces, announced, and given up when another node claims one.

The kernel removes an address by itself a few seconds after the last renewal, so that a node whose proxy was killed or
hangs does not answer beside the next. Sources: RFC 5227 (announcements and conflicts), ip-address(8).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping

from tiphys.runtime.clock import Clock
from tiphys.runtime.system.hosttools import CommandError, Run
from tiphys.wire.link.frames import Claim
from tiphys.wire.link.sockets import ClaimListener, say_who_has

log = logging.getLogger(__name__)

VALID_SECONDS, REFRESH_SECONDS = 6, 2.0
ANNOUNCE_AGAIN = (0.0, 1.0, 3.0)
"""Seconds after an address was taken: a neighbour may have missed an announcement."""
_DEFEND_SECONDS = 2.0


class HeldAddresses:
    """``rightful`` says of an address whether this node knows that it is its own: then a claim of another node is
    answered by an announcement; otherwise the address is given up, and ``lost`` is called."""

    def __init__(
        self, run: Run, clock: Clock, rightful: Callable[[str], bool], lost: Callable[[], None] = lambda: None
    ) -> None:
        self._run, self._clock = run, clock
        self._rightful, self._lost = rightful, lost
        self._held: dict[str, str] = {}
        self._due: dict[str, list[float]] = {}
        """When each address is announced next, and after that."""
        self._defended: dict[str, float] = {}
        self._listeners: dict[str, ClaimListener] = {}
        self._refreshed = -REFRESH_SECONDS
        self._given_up: dict[str, str] = {}
        """The interface of addresses that are still on it, and no more ours."""

    @property
    def addresses(self) -> Mapping[str, str]:
        """The interface by address."""
        return self._held

    async def hold(self, wanted: Mapping[str, str]) -> None:
        """Have these addresses, each on its interface, and no others. Raises ``CommandError`` after all was tried."""
        gone = {address: there for address, there in self._held.items() if wanted.get(address) != there}
        new = [address for address in wanted if address not in self._held or address in gone]
        for address, interface in gone.items():
            log.info("leaving %s on %s", address, interface)
            self._forget(address)
        left, self._given_up = {**self._given_up, **gone}, {}
        if failed := await self._batch([_delete(address, interface) for address, interface in left.items()]):
            log.debug("the kernel removes what is left: %s", failed)
        for address in new:
            log.info("taking %s on %s", address, wanted[address])
            self._held[address] = wanted[address]
            now = self._clock.monotonic()
            self._due[address] = [now + seconds for seconds in ANNOUNCE_AGAIN]
        self._listen()
        errors = await self._refresh(new)
        self._announce()
        if errors:
            raise CommandError("; ".join(errors))

    async def _refresh(self, new: Iterable[str]) -> list[str]:
        """Renew all addresses in the kernel if it is time, otherwise only take the new ones."""
        now = self._clock.monotonic()
        if due := now - self._refreshed >= REFRESH_SECONDS:
            self._refreshed = now
        wanted = self._held if due else new
        errors = await self._batch([_replace(address, self._held[address]) for address in wanted])
        if errors:
            self._refreshed = -REFRESH_SECONDS
        return errors

    async def _batch(self, lines: list[str]) -> list[str]:
        """Run commands of ``ip`` as one process, all of them whatever becomes of one; returns what failed."""
        if not lines:
            return []
        try:
            await self._run(("ip", "-force", "-batch", "-"), "\n".join(lines) + "\n")
        except CommandError as error:
            return [str(error)]
        return []

    def _announce(self) -> None:
        now = self._clock.monotonic()
        due: dict[str, list[str]] = {}
        for address, moments in self._due.items():
            if moments and moments[0] <= now:
                self._due[address] = [moment for moment in moments if moment > now]
                due.setdefault(self._held[address], []).append(address)
        for interface, addresses in due.items():
            self._say(interface, addresses)

    def _say(self, interface: str, addresses: Iterable[str]) -> None:
        try:
            say_who_has(interface, addresses)
        except OSError as error:
            log.warning("cannot announce on %s: %s", interface, error)

    # Claims of others.

    def _listen(self) -> None:
        """Hear what is said on the interfaces that addresses are on."""
        used = set(self._held.values())
        broken = {interface for interface, listener in self._listeners.items() if listener.broken}
        for interface in (self._listeners.keys() - used) | broken:
            self._listeners.pop(interface).close()
        for interface in used - self._listeners.keys():
            try:
                self._listeners[interface] = ClaimListener(interface, self._heard)
            except OSError as error:
                log.warning("cannot hear on %s who else has an address: %s", interface, error)

    def _heard(self, claim: Claim) -> None:
        interface = self._held.get(claim.address)
        if interface is None:
            return
        if not self._rightful(claim.address):
            log.warning("%s is another node's now (%s)", claim.address, claim.hardware.hex(":"))
            self._forget(claim.address)
            self._given_up[claim.address] = interface
            self._lost()
            return
        now = self._clock.monotonic()
        if now - self._defended.get(claim.address, -_DEFEND_SECONDS) >= _DEFEND_SECONDS:
            self._defended[claim.address] = now
            self._say(interface, [claim.address])

    def _forget(self, address: str) -> None:
        for table in (self._held, self._due, self._defended):
            table.pop(address, None)

    async def close(self) -> None:
        """Give everything up."""
        try:
            await self.hold({})
        finally:
            for listener in self._listeners.values():
                listener.close()
            self._listeners.clear()


def _host(address: str) -> str:
    return f"{address}/{128 if ':' in address else 32}"


def _replace(address: str, interface: str) -> str:
    once = " nodad" if ":" in address else ""
    lifetime = f"valid_lft {VALID_SECONDS} preferred_lft {VALID_SECONDS}"
    return f"address replace {_host(address)} dev {interface} {lifetime}{once}"


def _delete(address: str, interface: str) -> str:
    return f"address delete {_host(address)} dev {interface}"
