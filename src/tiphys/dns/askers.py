"""For whom the server asks others: pods and the node itself. One that asks for everybody serves attacks on others.

Source: RFC 5358
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from tiphys.runtime.clock import Clock
from tiphys.wire.hostaddress import is_own_address

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_REMEMBERED = 4096
_SECONDS = 30.0
"""How long an answer is believed: the node may get another address."""


class Askers:
    """``networks`` are those of the pods, and whichever the administrator adds."""

    def __init__(self, networks: Sequence[str], clock: Clock) -> None:
        """Raises ``ValueError`` for a text that is no network."""
        self._networks: tuple[Network, ...] = tuple(ipaddress.ip_network(text) for text in networks)
        self._clock = clock
        self._known: dict[str, tuple[float, bool]] = {}

    def may(self, address: str) -> bool:
        """Whether questions from an address may be forwarded."""
        known = self._known.get(address)
        now = self._clock.monotonic()
        if known is not None and known[0] > now:
            return known[1]
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        allowed = self._is_inside(address) or is_own_address(address)
        self._known[address] = (now + _SECONDS, allowed)
        return allowed

    def _is_inside(self, address: str) -> bool:
        host = ipaddress.ip_address(address.partition("%")[0])
        if isinstance(host, ipaddress.IPv6Address) and host.ipv4_mapped is not None:
            host = host.ipv4_mapped
        return any(host in network for network in self._networks)
