"""Networks in CIDR notation; the address need not be that of the network.

Source: https://kubernetes.io/docs/reference/using-api/cel/#kubernetes-cel-libraries
"""

from __future__ import annotations

import re
from ipaddress import IPv4Interface, IPv6Interface, ip_interface
from typing import Any, ClassVar

from tiphys.api.gotext import quote
from tiphys.cel.checking import declarations
from tiphys.cel.checking.declarations import Library, member, overload
from tiphys.cel.library.ip import IP, to_ip
from tiphys.cel.types import Type
from tiphys.cel.values import NO_OVERLOAD, CelError

_BITS = re.compile(r"0\Z|[1-9][0-9]{0,2}\Z")
_PARSE = "network address parse error during conversion from string: "


class CIDR:
    cel_type: ClassVar[Type] = declarations.CIDR

    __slots__ = ("interface",)

    def __init__(self, interface: IPv4Interface | IPv6Interface) -> None:
        self.interface = interface

    def equals(self, other: Any) -> bool:
        if not isinstance(other, CIDR):
            raise CelError(NO_OVERLOAD)
        return self.interface == other.interface

    @property
    def bits(self) -> int:
        return self.interface.network.prefixlen

    @property
    def cel_size(self) -> int:
        return -(-self.bits // 8)

    def __str__(self) -> str:
        return str(self.interface)


def _parse(text: str) -> CIDR:
    """Raises ValueError."""
    address, slash, bits = text.rpartition("/")
    if not slash:
        raise ValueError(f"{_PARSE}netip.ParsePrefix({quote(text)}): no '/'")
    if not _BITS.match(bits):
        raise ValueError(f"{_PARSE}netip.ParsePrefix({quote(text)}): bad bits after slash: {quote(bits)}")
    if "%" in address:
        raise ValueError(f"{_PARSE}netip.ParsePrefix({quote(text)}): IPv6 zones cannot be present in a prefix")
    try:
        interface = ip_interface(text)
    except ValueError:
        message = "prefix length out of range" if int(bits) > (128 if ":" in address else 32) else "unable to parse IP"
        if message == "unable to parse IP":
            message = f"ParseAddr({quote(address)}): {message}"
        raise ValueError(f"{_PARSE}netip.ParsePrefix({quote(text)}): {message}") from None
    if isinstance(interface, IPv6Interface) and interface.ip.ipv4_mapped:
        raise ValueError(f"IPv4-mapped IPv6 address {quote(text)} is not allowed")
    return CIDR(interface)


def _to_cidr(text: str) -> CIDR:
    try:
        return _parse(text)
    except ValueError as wrong:
        raise CelError(f"{_PARSE}{wrong}") from None


def _is_cidr(text: str) -> bool:
    try:
        _parse(text)
    except ValueError:
        return False
    return True


def _contains_ip(cidr: CIDR, ip: IP) -> bool:
    return ip.address in cidr.interface.network


def _contains_cidr(cidr: CIDR, other: CIDR) -> bool:
    mine, its = cidr.interface.network, other.interface.network
    return mine.version == its.version and its.network_address in mine and mine.prefixlen <= its.prefixlen


def _masked(cidr: CIDR) -> CIDR:
    return CIDR(ip_interface(cidr.interface.network))


LIBRARY = Library(
    [
        overload("string_to_cidr", "cidr", "string -> cidr", _to_cidr),
        member(
            "cidr_contains_ip_string",
            "containsIP",
            "cidr, string -> bool",
            lambda cidr, text: _contains_ip(cidr, to_ip(text)),
        ),
        member("cidr_contains_ip_ip", "containsIP", "cidr, ip -> bool", _contains_ip),
        member(
            "cidr_contains_cidr_string",
            "containsCIDR",
            "cidr, string -> bool",
            lambda cidr, text: _contains_cidr(cidr, _to_cidr(text)),
        ),
        member("cidr_contains_cidr", "containsCIDR", "cidr, cidr -> bool", _contains_cidr),
        member("cidr_ip", "ip", "cidr -> ip", lambda cidr: IP(cidr.interface.ip)),
        member("cidr_prefix_length", "prefixLength", "cidr -> int", lambda cidr: cidr.bits),
        member("cidr_masked", "masked", "cidr -> cidr", _masked),
        overload("is_cidr", "isCIDR", "string -> bool", _is_cidr),
        overload("cidr_to_string", "string", "cidr -> string", str),
    ],
    types=[declarations.CIDR],
)
