"""Which addresses the API server connects to on behalf of a caller: those of the cluster's network, never its own.

A node, a pod or an endpoint says where it is; whoever may write that could otherwise reach what listens on the API
server's own loopback, or a cloud's metadata service on a link-local address. Source: Go's ``IP.IsGlobalUnicast``,
which upstream asks in the registries of nodes and pods.
"""

from __future__ import annotations

import ipaddress

NOT_ALLOWED = "address not allowed"


def is_allowed(address: str) -> bool:
    """Whether an IP address is one of a host in a network; what is no IP address is not."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        ip = ip.ipv4_mapped or ip
    limited_broadcast = ip == ipaddress.IPv4Address("255.255.255.255")
    return not (ip.is_loopback or ip.is_unspecified or ip.is_link_local or ip.is_multicast or limited_broadcast)
