"""IP addresses and networks in any form that API objects may have, and the one form that everybody else reads alike.

Old fields took forms that other software reads differently (leading zeros, IPv4 inside IPv6). New objects have them no
more, stored ones may. Source: KEP-4858, IP/CIDR validation.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_OCTETS_RE = re.compile(r"0*[0-9]{1,3}(?:\.0*[0-9]{1,3}){3}")
_DIGITS_RE = re.compile(r"0*[0-9]{1,3}")


def parse_sloppy(text: str) -> Address | None:
    """An address; leading zeros do not count, and no zone is allowed."""
    if ":" in text:
        if "%" in text:
            return None
        try:
            return IPv6Address(_trim_tail(text))
        except ValueError:
            return None
    if not _OCTETS_RE.fullmatch(text):
        return None
    octets = [_number(part) for part in text.split(".")]
    return IPv4Address(bytes(octets)) if max(octets) <= 255 else None


def _number(digits: str) -> int:
    """However many zeros there are before it, which Python would count."""
    return int(digits.lstrip("0") or "0")


def _trim_tail(text: str) -> str:
    """Leading zeros of an IPv4 tail go, as in ``::ffff:010.0.0.1``."""
    if "." not in text:
        return text
    head, colon, tail = text.rpartition(":")
    return head + colon + ".".join(part.lstrip("0") or "0" for part in tail.split("."))


def canonical(address: Address) -> str:
    """RFC 5952; IPv4 inside IPv6 is shown as IPv4."""
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(address)


def parse_cidr_sloppy(text: str) -> tuple[Address, Network] | None:
    """The address as written, and the network that it is in."""
    host, slash, bits = text.partition("/")
    address = parse_sloppy(host)
    if address is None or not slash or not _DIGITS_RE.fullmatch(bits) or _number(bits) > address.max_prefixlen:
        return None
    return address, ip_network((address, _number(bits)), strict=False)


def cidr_text(network: Network) -> str:
    return f"{canonical(network.network_address)}/{network.prefixlen}"
