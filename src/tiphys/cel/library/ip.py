"""IP addresses.

Source: https://kubernetes.io/docs/reference/using-api/cel/#kubernetes-cel-libraries
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, ClassVar

from tiphys.api.gotext import quote
from tiphys.cel.checking import declarations
from tiphys.cel.checking.declarations import Library, member, overload
from tiphys.cel.types import Type
from tiphys.cel.values import NO_OVERLOAD, CelError

Address = IPv4Address | IPv6Address


class IP:
    cel_type: ClassVar[Type] = declarations.IP

    __slots__ = ("address",)

    def __init__(self, address: Address) -> None:
        self.address = address

    def equals(self, other: Any) -> bool:
        if not isinstance(other, IP):
            raise CelError(NO_OVERLOAD)
        return self.address == other.address

    @property
    def cel_size(self) -> int:
        return self.address.max_prefixlen // 8

    def __str__(self) -> str:
        return str(self.address)


def parse(text: str) -> Address:
    """Raises ``ValueError`` with upstream's message."""
    try:
        address = ip_address(text)
    except ValueError:
        message = f"ParseAddr({quote(text)}): {_problem(text)}"
        raise ValueError(f"IP Address {quote(text)} parse error during conversion from string: {message}") from None
    if isinstance(address, IPv6Address):
        if address.scope_id:
            raise ValueError(f"IP address {quote(text)} with zone value is not allowed")
        if address.ipv4_mapped:
            raise ValueError(f"IPv4-mapped IPv6 address {quote(text)} is not allowed")
    return address


def _problem(text: str) -> str:
    first = next((c for c in text if c in ".:%"), "")
    if first == "%":
        return "missing IPv6 address"
    if first == ".":
        return _v4_problem(text)
    if first == ":":
        return "unable to parse IP" if not text else _v6_problem(text)
    return "unable to parse IP"


def _v4_problem(text: str) -> str:
    parts = text.split(".")
    for i, part in enumerate(parts):
        at = f" (at {quote('.'.join(parts[i:]))})"
        if not part:
            return f"IPv4 field must have at least one digit{at if i else ' (at ' + quote(text) + ')'}"
        for j, char in enumerate(part):
            if not char.isdigit():
                return f"unexpected character (at {quote('.'.join([part[j:], *parts[i + 1 :]]))})"
        if len(part) > 1 and part[0] == "0":
            return "IPv4 field has octet with leading zero"
        if int(part) > 255:
            return "IPv4 field has value >255"
    return "IPv4 address too long" if len(parts) > 4 else "IPv4 address too short"


def _v6_problem(text: str) -> str:
    for i, char in enumerate(text):
        if char not in "0123456789abcdefABCDEF:.":
            at_start = i == 0 or text[i - 1] == ":"
            what = "each colon-separated field must have at least one digit" if at_start else "unexpected character"
            return f"{what}{', want colon' if not at_start else ''} (at {quote(text[i:])})"
    fields = text.split(":")
    if any(len(part) > 4 and "." not in part for part in fields):
        long = next(part for part in fields if len(part) > 4)
        return f"each group must have 4 or less digits (at {quote(text[text.index(long) :])})"
    if text.count("::") > 1:
        return f"multiple :: in address (at {quote(text[text.rindex('::') + 1 :])})"
    return "address string too short" if "::" not in text and len(fields) < 8 else "trailing garbage after address"


def to_ip(text: str) -> IP:
    try:
        return IP(parse(text))
    except ValueError as wrong:
        raise CelError(str(wrong)) from None


def _is_ip(text: str) -> bool:
    try:
        parse(text)
    except ValueError:
        return False
    return True


def _is_local_multicast(ip: IP) -> bool:
    address = ip.address
    if isinstance(address, IPv4Address):
        return address.packed[:3] == b"\xe0\x00\x00"
    return address.packed[0] == 0xFF and address.packed[1] & 0x0F == 0x02


def _is_global(ip: IP) -> bool:
    address = ip.address
    if str(address) == "255.255.255.255":
        return False
    return not (address.is_unspecified or address.is_loopback or address.is_multicast or address.is_link_local)


LIBRARY = Library(
    [
        overload("string_to_ip", "ip", "string -> ip", to_ip),
        member("ip_family", "family", "ip -> int", lambda ip: ip.address.version),
        overload("ip_is_canonical", "ip.isCanonical", "string -> bool", lambda text: str(to_ip(text)) == text),
        member("ip_is_unspecified", "isUnspecified", "ip -> bool", lambda ip: ip.address.is_unspecified),
        member("ip_is_loopback", "isLoopback", "ip -> bool", lambda ip: ip.address.is_loopback),
        member("ip_is_link_local_multicast", "isLinkLocalMulticast", "ip -> bool", _is_local_multicast),
        member("ip_is_link_local_unicast", "isLinkLocalUnicast", "ip -> bool", lambda ip: ip.address.is_link_local),
        member("ip_is_global_unicast", "isGlobalUnicast", "ip -> bool", _is_global),
        overload("is_ip", "isIP", "string -> bool", _is_ip),
        overload("ip_to_string", "string", "ip -> string", str),
    ],
    types=[declarations.IP],
)
