"""Announces a new pod's address to its neighbours, so that a Ready pod answers at once.

Addresses are given out again once a range has been used around. Until a neighbour hears otherwise it sends to the
hardware address of the last owner: the node and the other pods on the bridge keep that for up to ten seconds. The
bridge plugin announces too, but before the bridge carries the frame. Source: RFC 5227, section 3 (ARP announcements).
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import logging
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor

from tiphys.wire.link.sockets import say_who_has

log = logging.getLogger(__name__)

_CLONE_NEWNET = 0x40000000


def network_namespace(info: Mapping[str, str]) -> str:
    """The path of a sandbox's network namespace, from the runtime's verbose status; empty for the node's own."""
    try:
        described = json.loads(info.get("info") or "{}")
        namespaces = described["runtimeSpec"]["linux"]["namespaces"]
    except (ValueError, KeyError, TypeError):
        return ""
    return next((str(entry.get("path") or "") for entry in namespaces if entry.get("type") == "network"), "")


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
    say_who_has(interface, addresses)
