"""The cluster's ranges of addresses: which pairs of IP families make sense together (pure).

Source: https://kubernetes.io/docs/concepts/services-networking/dual-stack/
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from dataclasses import replace

from tiphys.cluster.settings import Settings, SettingsError, network_address, split

SECOND_NODE_CIDR = {4: "10.243.0.0/24", 6: "fd00:10:243::/64"}
"""What the nodes' wire has of a family that its range does not name."""


def completed(settings: Settings, node_ip: str | None, routed: Callable[[int], str | None]) -> Settings:
    """The settings with what two IP families need beside their ranges: a second address of the node and of the wire.

    ``node_ip`` is what the user named: one address, or one of each family. ``routed`` gives the machine's address of a
    family (4 or 6), if it has one. Raises ``SettingsError`` for ranges that do not go together.
    """
    if node_ip is not None:
        named = split(node_ip)
        settings = replace(settings, node_ip=named[0], second_node_ip=named[1] if len(named) > 1 else "")
    if settings.node_cidr == SECOND_NODE_CIDR[4] and ":" in settings.pod_cidrs[0]:
        settings = replace(settings, node_cidr=SECOND_NODE_CIDR[6])
    check(settings)
    if len(settings.pod_cidrs) == 1:
        return replace(settings, second_node_ip="")
    other = 4 if ":" in settings.node_ip else 6
    if len(settings.node_cidrs) == 1:
        settings = replace(settings, node_cidr=f"{settings.node_cidr},{SECOND_NODE_CIDR[other]}")
    return settings if settings.second_node_ip else replace(settings, second_node_ip=routed(other) or "")


def check(settings: Settings) -> None:
    """Raises ``SettingsError`` that names the flag."""
    pods = _families("--pod-cidr", settings.pod_cidrs)
    services = _families("--service-cidr", settings.service_cidrs)
    nodes = _families("--node-ip", settings.node_ips)
    wire = _families("--node-cidr", settings.node_cidrs)
    if services[0] != pods[0] or len(services) > len(pods):
        raise SettingsError(
            f"--service-cidr={settings.service_cidr} and --pod-cidr={settings.pod_cidr} name different IP families; "
            "name one range of each family in both, in the same order"
        )
    if nodes[0] != pods[0]:
        raise SettingsError(
            f"--node-ip={settings.node_ip} is an IPv{nodes[0]} address, and the pods' first range is IPv{pods[0]}; "
            f"name an IPv{pods[0]} address first"
        )
    if wire[0] != pods[0]:
        raise SettingsError(f"--node-cidr={settings.node_cidr}: name the IPv{pods[0]} range first, as in --pod-cidr")

    _check_pool(settings)


def _check_pool(settings: Settings) -> None:
    """Addresses for load balancers are those of nobody else. Raises ``SettingsError``."""
    pool = settings.address_pool
    if pool is None:
        return
    flag = f"--load-balancer-pool={settings.load_balancer_pool}"
    for other, ranges in (("--pod-cidr", settings.pod_cidrs), ("--service-cidr", settings.service_cidrs)):
        if taken := next((cidr for cidr in ranges if pool.overlaps(cidr)), None):
            raise SettingsError(f"{flag} overlaps {other}={taken}; name addresses of the nodes' network that are free")
    own = [*settings.node_ips, *(network_address(cidr, 1) for cidr in settings.node_cidrs)]
    if taken := next((address for address in own if address in pool), None):
        raise SettingsError(f"{flag} contains {taken}, which is this machine's own; leave it out")


def _families(flag: str, ranges: Sequence[str]) -> list[int]:
    """4 or 6 of each range or address."""
    try:
        families: list[int] = [ipaddress.ip_network(text).version for text in ranges]
    except ValueError as error:
        raise SettingsError(f"{flag}={','.join(ranges)}: {error}") from error
    if not 1 <= len(families) <= 2 or len(set(families)) != len(families):
        raise SettingsError(f"{flag}={','.join(ranges)}: one range, or one of IPv4 and one of IPv6, is possible")
    return families
