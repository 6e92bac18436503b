"""A node's addresses: what the cloud says of its machine, as the node prefers it. Pure.

Source: https://kubernetes.io/docs/reference/node/node-status/#addresses
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from tiphys.api.cloudnodes import PROVIDED_NODE_IP
from tiphys.api.meta.objects import annotations_of
from tiphys.api.object import Object
from tiphys.cloud.provider import CloudError

HOSTNAME = "Hostname"


def node_addresses(node: Object, known: Sequence[Object]) -> list[Object]:
    """The addresses that a node is to show. Raises ``CloudError`` if its kubelet insists on one that is not known."""
    addresses = list(known)
    if not any(address["type"] == HOSTNAME for address in addresses):
        shown = (node.get("status") or {}).get("addresses") or []
        addresses += [address for address in shown if address["type"] == HOSTNAME]
    return preferred(node, addresses)


def preferred(node: Object, known: Sequence[Object]) -> list[Object]:
    """Those that the kubelet insists on first, each the only one of its type; then those of other types."""
    insisted = annotations_of(node).get(PROVIDED_NODE_IP)
    if insisted is None:
        return list(known)
    chosen: list[Object] = []
    for text in insisted.split(","):
        wanted = _parsed(text.strip())
        if wanted is None:
            raise CloudError(f'failed to parse node IP "{insisted}"')
        matching = [address for address in known if _parsed(address["address"]) == wanted]
        if not matching:
            raise CloudError(f"failed to get node address from cloud provider that matches ip: {wanted}")
        chosen += matching
    types = {address["type"] for address in chosen}
    return chosen + [address for address in known if address["type"] not in types]


def differ(shown: Sequence[Object], wanted: Sequence[Object]) -> bool:
    """Whether two lists hold other addresses; their order is of no matter."""

    def key(address: Object) -> tuple[str, str]:
        return address["type"], address["address"]

    return sorted(map(key, shown)) != sorted(map(key, wanted))


def _parsed(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
