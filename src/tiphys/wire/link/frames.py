"""Frames that announce who has an address, and what such a frame of somebody else says (pure).

Sources: RFC 5227, section 3 (ARP announcements), and RFC 4861, section 4.4 (neighbor advertisements).
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass

ETHERTYPE_ARP, ETHERTYPE_IPV6 = 0x0806, 0x86DD
_REQUEST, _REPLY = 1, 2
_EVERYONE = b"\xff" * 6
_ALL_NODES = bytes.fromhex("333300000001")
_ADVERTISEMENT, _TARGET_LINK_LAYER, _OVERRIDE = 136, 2, 0x20000000
_NEXT_HEADER, _ICMP_TYPE, _ICMP_TARGET = 20, 54, 62
"""Where these are in a frame with an IPv6 packet without extension headers."""


@dataclass(frozen=True, slots=True)
class Claim:
    """Somebody on the wire has this address."""

    address: str
    hardware: bytes


def frames(hardware: bytes, address: str) -> list[bytes]:
    """The announcement of one address as Ethernet frames."""
    return [_advertisement(hardware, address)] if ":" in address else _arp(hardware, address)


def _advertisement(hardware: bytes, address: str) -> bytes:
    """An unsolicited neighbor advertisement to all nodes, which overrides what they know."""
    source, everyone = (socket.inet_pton(socket.AF_INET6, text) for text in (address, "ff02::1"))
    body = struct.pack("!I", _OVERRIDE) + source + struct.pack("!BB", _TARGET_LINK_LAYER, 1) + hardware
    length = 4 + len(body)
    pseudo = source + everyone + struct.pack("!IHBB", length, 0, 0, socket.IPPROTO_ICMPV6)
    checksum = _checksum(pseudo + struct.pack("!BBH", _ADVERTISEMENT, 0, 0) + body)
    packet = struct.pack("!IHBB", 6 << 28, length, socket.IPPROTO_ICMPV6, 255) + source + everyone
    ethernet = _ALL_NODES + hardware + struct.pack("!H", ETHERTYPE_IPV6)
    return ethernet + packet + struct.pack("!BBH", _ADVERTISEMENT, 0, checksum) + body


def _checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071) of an even number of bytes."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _arp(hardware: bytes, address: str) -> list[bytes]:
    """As a request and as a reply: some heed only one."""
    packed = socket.inet_aton(address)
    return [
        _EVERYONE
        + hardware
        + struct.pack("!HHHBBH", ETHERTYPE_ARP, 1, 0x0800, 6, 4, operation)
        + hardware
        + packed
        + (bytes(6) if operation == _REQUEST else _EVERYONE)
        + packed
        for operation in (_REQUEST, _REPLY)
    ]


def claim_of(frame: bytes) -> Claim | None:
    """What a frame says about an address; None if it is neither ARP with a sender nor a neighbor advertisement."""
    kind = int.from_bytes(frame[12:14], "big")
    if kind == ETHERTYPE_ARP and len(frame) >= 42 and frame[28:32] != bytes(4):
        return Claim(socket.inet_ntoa(frame[28:32]), frame[22:28])
    if kind == ETHERTYPE_IPV6 and len(frame) >= _ICMP_TARGET + 16 and frame[_NEXT_HEADER] == socket.IPPROTO_ICMPV6:
        if frame[_ICMP_TYPE] != _ADVERTISEMENT:
            return None
        return Claim(socket.inet_ntop(socket.AF_INET6, frame[_ICMP_TARGET : _ICMP_TARGET + 16]), frame[6:12])
    return None


def claims_filter() -> bytes:
    """A classic packet filter (``struct sock_filter``) that lets only through what ``claim_of`` can read."""
    load_half, load_byte, jump_equal, give = 0x28, 0x30, 0x15, 0x06
    everything = 0x40000
    program = (
        (load_half, 0, 0, 12),
        (jump_equal, 5, 0, ETHERTYPE_ARP),
        (jump_equal, 0, 5, ETHERTYPE_IPV6),
        (load_byte, 0, 0, _NEXT_HEADER),
        (jump_equal, 0, 3, socket.IPPROTO_ICMPV6),
        (load_byte, 0, 0, _ICMP_TYPE),
        (jump_equal, 0, 1, _ADVERTISEMENT),
        (give, 0, 0, everything),
        (give, 0, 0, 0),
    )
    return b"".join(struct.pack("HBBI", *step) for step in program)
