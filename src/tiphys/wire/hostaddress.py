"""This machine's address: the one that packets to the outside carry."""

from __future__ import annotations

import fcntl
import ipaddress
import socket
import struct

_OUTSIDE = {socket.AF_INET: "192.0.2.1", socket.AF_INET6: "2001:db8::1"}
"""Addresses of nobody (RFC 5737, RFC 3849): a datagram socket chooses a route to them and sends nothing."""
_SIOCGIFADDR = 0x8915


def host_address(family: socket.AddressFamily = socket.AF_INET) -> str | None:
    """The address of the default route, or that of the first interface that is up; None if there is only loopback."""
    return routed_address(family) or (_first_interface_address() if family == socket.AF_INET else None)


def routed_address(family: socket.AddressFamily = socket.AF_INET) -> str | None:
    """The address that packets to the outside carry; None if no route leads there, or over an interface without one."""
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((_OUTSIDE[family], 9))
        except OSError:
            return None
        address = str(probe.getsockname()[0])
    return None if ipaddress.ip_address(address).is_unspecified else address


def is_own_address(address: str) -> bool:
    """Whether it is one of this machine's addresses: those that a socket can be bound to."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address.partition("%")[0], 0))
        except OSError:
            return False
    return True


def _first_interface_address() -> str | None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            request = struct.pack("256s", name.encode()[:15])
            try:
                answer = fcntl.ioctl(probe.fileno(), _SIOCGIFADDR, request)
            except OSError:
                continue
            address = socket.inet_ntoa(answer[20:24])
            if not address.startswith("127."):
                return address
    return None
