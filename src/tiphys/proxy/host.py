"""What the kernel must allow before packets can pass: forwarding, localhost NodePorts, connection tracking's bounds.

Sources: https://kubernetes.io/docs/reference/config-api/kube-proxy-config.v1alpha1/#kubeproxy-config-k8s-io-v1alpha1-KubeProxyConntrackConfiguration
and the kernel's Documentation/networking/ip-sysctl.rst, nf_conntrack-sysctl.rst.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tiphys.runtime.system import hosttools
from tiphys.runtime.system.hosttools import CommandError

log = logging.getLogger(__name__)

PROC_SYS = Path("/proc/sys")


@dataclass(frozen=True, slots=True)
class ConntrackSettings:
    """Bounds on connection tracking; 0 leaves the kernel's value. Times in seconds."""

    max_per_core: int = 32768
    minimum: int = 131072
    tcp_established: float = 86400
    tcp_close_wait: float = 3600
    udp: float = 0
    udp_stream: float = 0
    tcp_be_liberal: bool = False


class Sysctls:
    """The kernel's settings as files; ``root`` is /proc/sys, or another folder in tests."""

    def __init__(self, root: Path = PROC_SYS) -> None:
        self._root = root

    def get(self, name: str) -> int | None:
        try:
            return int((self._root / name).read_text().split()[0])
        except (OSError, ValueError, IndexError):
            return None

    def ensure(self, name: str, value: int) -> bool:
        """Set if it differs; returns whether it has the value, and logs if it cannot be had."""
        if self.get(name) == value:
            return True
        try:
            (self._root / name).write_text(str(value))
        except OSError as error:
            log.warning("cannot set %s to %d: %s", name.replace("/", "."), value, error.strerror)
            return False
        return True


def allow_forwarding(sysctls: Sysctls, families: Iterable[str]) -> None:
    """Let packets pass from one interface to another.

    IPv6 only if services use it: a host that forwards IPv6 stops taking router advertisements.
    """
    for family in families:
        sysctls.ensure("net/ipv4/ip_forward" if family == "ip" else "net/ipv6/conf/all/forwarding", 1)


async def filter_bridged(sysctls: Sysctls) -> None:
    """Let the rules see packets between pods on one bridge: without it the answer of a service's endpoint on the
    asking pod's own bridge goes straight to that pod, from an address that it never spoke to."""
    if sysctls.get("net/bridge/bridge-nf-call-iptables") is None and hosttools.have("modprobe"):
        try:
            await hosttools.run(("modprobe", "br_netfilter"))
        except CommandError as error:
            log.warning("%s", error)
    if sysctls.get("net/bridge/bridge-nf-call-iptables") is None:
        log.warning("the kernel has no br_netfilter: pods on one bridge may not reach each other by a service")
        return
    sysctls.ensure("net/bridge/bridge-nf-call-iptables", 1)
    sysctls.ensure("net/bridge/bridge-nf-call-ip6tables", 1)


def allow_localhost_node_ports(sysctls: Sysctls) -> bool:
    """Let packets from 127.0.0.1 leave for a pod, so that NodePorts answer there; whether it worked."""
    return sysctls.ensure("net/ipv4/conf/all/route_localnet", 1)


def bound_conntrack(sysctls: Sysctls, settings: ConntrackSettings) -> None:
    """Raise the table's size and set its timeouts. The size is the machine's and cannot be set in a namespace."""
    wanted = max(settings.max_per_core * (os.cpu_count() or 1), settings.minimum) if settings.max_per_core else 0
    current = sysctls.get("net/netfilter/nf_conntrack_max")
    if wanted and current is not None and current < wanted:
        sysctls.ensure("net/netfilter/nf_conntrack_max", wanted)
    timeouts = {
        "nf_conntrack_tcp_timeout_established": settings.tcp_established,
        "nf_conntrack_tcp_timeout_close_wait": settings.tcp_close_wait,
        "nf_conntrack_udp_timeout": settings.udp,
        "nf_conntrack_udp_timeout_stream": settings.udp_stream,
    }
    for name, seconds in timeouts.items():
        if seconds and sysctls.get(f"net/netfilter/{name}") is not None:
            sysctls.ensure(f"net/netfilter/{name}", int(seconds))
    if settings.tcp_be_liberal:
        sysctls.ensure("net/netfilter/nf_conntrack_tcp_be_liberal", 1)
