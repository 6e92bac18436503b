"""A pool of addresses that Services of type LoadBalancer are given, as its user writes it: ranges with commas between.

A range is a network (``192.0.2.240/28``), the first and the last address (``192.0.2.10-192.0.2.20``), or one address.

Source: https://kubernetes.io/docs/concepts/services-networking/service/#loadbalancer
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class AddressRange:
    first: Address
    last: Address

    def __contains__(self, address: Address) -> bool:
        return address.version == self.first.version and int(self.first) <= int(address) <= int(self.last)

    def overlaps(self, cidr: str) -> bool:
        """Whether a network has an address of this range."""
        network = ipaddress.ip_network(cidr, strict=False)
        return (
            network.version == self.first.version
            and int(network.network_address) <= int(self.last)
            and int(self.first) <= int(network.broadcast_address)
        )


@dataclass(frozen=True, slots=True)
class AddressPool:
    ranges: tuple[AddressRange, ...]

    def __contains__(self, text: str) -> bool:
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            return False
        return any(address in range_ for range_ in self.ranges)

    @property
    def versions(self) -> frozenset[int]:
        """The IP families that it has addresses of: 4, 6 or both."""
        return frozenset(range_.first.version for range_ in self.ranges)

    def addresses(self, version: int) -> Iterator[str]:
        """All addresses of one family, one by one, as a range may be larger than memory."""
        for range_ in self.ranges:
            if range_.first.version == version:
                make = type(range_.first)
                for number in range(int(range_.first), int(range_.last) + 1):
                    yield str(make(number))

    def overlaps(self, cidr: str) -> bool:
        return any(range_.overlaps(cidr) for range_ in self.ranges)


def parse_pool(text: str) -> AddressPool:
    """Raises ``ValueError`` that names the part which is no range."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts:
        raise ValueError("no range of addresses is named")
    return AddressPool(tuple(map(_range, parts)))


def _range(text: str) -> AddressRange:
    first, dash, last = text.partition("-")
    try:
        if dash:
            made = AddressRange(ipaddress.ip_address(first.strip()), ipaddress.ip_address(last.strip()))
        else:
            network = ipaddress.ip_network(text, strict=False)
            made = AddressRange(network[0], network[-1])
    except ValueError:
        raise ValueError(f"{text} is neither a network, nor FIRST-LAST, nor an address") from None
    if made.first.version != made.last.version or int(made.first) > int(made.last):
        raise ValueError(f"{text}: the first address must not be above the last, and of the same IP family")
    return made
