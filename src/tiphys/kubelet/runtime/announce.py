"""Announces a new pod's address to its neighbours, so that a Ready pod answers at once.

Addresses are given out again once a range has been used around. Until a neighbour hears otherwise it sends to the
hardware address of the last owner: the node and the other pods on the bridge keep that for up to ten seconds. The
bridge plugin announces too, but before the bridge carries the frame. Sources: RFC 5227, section 3 (ARP announcements),
and RFC 4861, section 4.4 (neighbor advertisements).
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import logging
import os
import socket
import struct
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor

log = logging.getLogger(__name__)

_CLONE_NEWNET = 0x40000000
_ETHERTYPE_ARP = 0x0806
_REQUEST, _REPLY = 1, 2
_EVERYONE = b"\xff" * 6
_ETHERTYPE_IPV6 = 0x86DD
_ALL_NODES = bytes.fromhex("333300000001")
_ADVERTISEMENT, _TARGET_LINK_LAYER, _OVERRIDE = 136, 2, 0x20000000


def network_namespace(info: Mapping[str, str]) -> str:
    """The path of a sandbox's network namespace, from the runtime's verbose status; empty for the node's own."""
    try:
        described = json.loads(info.get("info") or "{}")
        namespaces = described["runtimeSpec"]["linux"]["namespaces"]
    except (ValueError, KeyError, TypeError):
        return ""
    return next((str(entry.get("path") or "") for entry in namespaces if entry.get("type") == "network"), "")


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
    ethernet = _ALL_NODES + hardware + struct.pack("!H", _ETHERTYPE_IPV6)
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
        + struct.pack("!HHHBBH", _ETHERTYPE_ARP, 1, 0x0800, 6, 4, operation)
        + hardware
        + packed
        + (bytes(6) if operation == _REQUEST else _EVERYONE)
        + packed
        for operation in (_REQUEST, _REPLY)
    ]


async def announce(namespace: str, addresses: Iterable[str], interface: str = "eth0") -> None:
    """Send the announcement from inside of a pod's network namespace. What fails is logged: the pod works without."""
    wanted = list(addresses)
    if not (namespace and wanted):
        return
    try:
        # A thread of its own, as it stays in the namespace.
        with ThreadPoolExecutor(1, "announce") as thread:
            await asyncio.get_running_loop().run_in_executor(thread, _send, namespace, wanted, interface)
    except OSError as error:
        log.warning("cannot announce %s from %s: %s", ", ".join(wanted), namespace, error)


def _send(namespace: str, addresses: list[str], interface: str) -> None:
    handle = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if ctypes.CDLL(None, use_errno=True).setns(handle, _CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "setns")
    finally:
        os.close(handle)
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETHERTYPE_ARP)) as sock:
        sock.bind((interface, _ETHERTYPE_ARP))
        hardware: bytes = sock.getsockname()[4]
        for address in addresses:
            for frame in frames(hardware, address):
                sock.send(frame)
