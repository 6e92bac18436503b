"""Node IPAM: gives every node its share of the cluster's pod addresses, as ``spec.podCIDRs``.

Source: https://kubernetes.io/docs/concepts/architecture/nodes/#node-controller and the flags --allocate-node-cidrs,
--cluster-cidr and --node-cidr-mask-size of kube-controller-manager.
"""

from __future__ import annotations

import ipaddress
import logging

from tiphys.api.object import Object
from tiphys.client import errors
from tiphys.client.informer import Callbacks
from tiphys.client.resources import NODES
from tiphys.controlkit.consistency import Consistency
from tiphys.controlkit.controller import Result
from tiphys.controlkit.objects import (
    is_deleting,
    name_of,
    uid_of,
)
from tiphys.controlkit.retry import TryAgain
from tiphys.controllers.context import ControllerContext

log = logging.getLogger(__name__)

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

MAX_CIDRS = 65536
"""Blocks of one cluster range that are handed out at most."""
PATCH_RETRIES = 3


class NoFreeCIDR(TryAgain):
    """The cluster's range has no block left."""


class CIDRSet:
    """Blocks of one size in one range: which are taken. Pure."""

    def __init__(self, network: Network, prefix: int) -> None:
        if prefix < network.prefixlen:
            raise ValueError(f"the node mask /{prefix} is wider than the cluster CIDR {network}")
        self.network, self.prefix = network, prefix
        self._count = min(2 ** (prefix - network.prefixlen), MAX_CIDRS)
        self._size = 2 ** (network.max_prefixlen - prefix)
        self._taken: set[int] = set()
        self._next = 0

    def _block(self, index: int) -> Network:
        address = self.network.network_address + index * self._size
        return ipaddress.ip_network((address, self.prefix))

    def allocate(self) -> Network:
        """The next free block after the last one given out. Raises ``NoFreeCIDR``."""
        for step in range(self._count):
            index = (self._next + step) % self._count
            if index not in self._taken:
                self._taken.add(index)
                self._next = (index + 1) % self._count
                return self._block(index)
        raise NoFreeCIDR("CIDR allocation failed; there are no remaining CIDRs left to allocate in the accepted range")

    def _indexes(self, network: Network) -> range:
        if network.version != self.network.version or not network.overlaps(self.network):
            return range(0)
        base = int(self.network.network_address)
        first = max(0, (int(network.network_address) - base) // self._size)
        last = min(self._count - 1, (int(network.broadcast_address) - base) // self._size)
        return range(first, last + 1)

    def occupy(self, network: Network) -> None:
        """Mark every block that overlaps ``network`` as taken."""
        self._taken.update(self._indexes(network))

    def release(self, network: Network) -> None:
        self._taken.difference_update(self._indexes(network))

    def contains(self, network: Network) -> bool:
        return len(self._indexes(network)) > 0


class NodeIPAMController:
    def __init__(self, context: ControllerContext) -> None:
        config = context.config
        self._client = context.client
        self._recorder = context.recorder.named("cidrAllocator")
        self._sets = [
            CIDRSet(network, config.node_cidr_mask_sizes[network.version])
            for network in map(ipaddress.ip_network, config.cluster_cidrs)
        ]
        for cidr in config.service_cluster_ip_ranges:
            for taken in self._sets:
                taken.occupy(ipaddress.ip_network(cidr))
        self._consistency = Consistency(context.clock)
        self._nodes = context.informers.informer(NODES)
        self._controller = context.controller("cidrallocator_node", self.reconcile)
        self._controller.watches(self._nodes)
        self._controller.handles(self._nodes, Callbacks(added=self._occupy, deleted=self._release))

    async def run(self) -> None:
        await self._controller.run()

    def _occupy(self, node: Object) -> None:
        """All blocks that nodes have are taken before the first one is given out."""
        for taken, network in zip(self._sets, _networks(node), strict=False):
            taken.occupy(network)

    def _release(self, node: Object) -> None:
        for taken, network in zip(self._sets, _networks(node), strict=False):
            taken.release(network)

    async def reconcile(self, name: str) -> Result | None:
        """Assign a node its CIDRs. Raises ``NoFreeCIDR`` if a range is used up; what was allocated is released."""
        node = self._nodes.store.get("", name)
        if node is None or is_deleting(node):
            self._consistency.forget(name)
            return None
        if _networks(node):
            self._occupy(node)
            return None
        if not self._consistency.ready(name):
            return Result(retry=True)
        allocated: list[Network] = []
        try:
            for taken in self._sets:
                allocated.append(taken.allocate())  # noqa: PERF401 - what was allocated is released on failure
            await self._assign(node, [str(network) for network in allocated])
        except NoFreeCIDR:
            self._release_all(allocated)
            self._report(node, "CIDRNotAvailable")
            raise
        except (errors.ApiError, ConnectionError, TimeoutError) as error:
            self._report(node, "CIDRAssignmentFailed")
            if not isinstance(error, errors.ServerTimeout | TimeoutError):
                self._release_all(allocated)
            raise
        return None

    def _release_all(self, allocated: list[Network]) -> None:
        for taken, network in zip(self._sets, allocated, strict=False):
            taken.release(network)

    async def _assign(self, node: Object, cidrs: list[str]) -> None:
        patch = {"spec": {"podCIDR": cidrs[0], "podCIDRs": cidrs}} if cidrs else {}
        for attempt in range(PATCH_RETRIES):
            try:
                patched = await self._client.patch(NODES, name_of(node), patch)
            except (errors.ApiError, ConnectionError) as error:
                if attempt == PATCH_RETRIES - 1:
                    raise
                log.debug("cannot assign %s to node %s: %s", cidrs, name_of(node), error)
            else:
                self._consistency.wrote(name_of(node), self._nodes, patched)
                return

    def _report(self, node: Object, reason: str) -> None:
        about = {"apiVersion": "v1", "kind": "Node", "name": name_of(node), "uid": uid_of(node)}
        self._recorder.event(about, "Normal", reason, f"Node {name_of(node)} status is now: {reason}")


def _networks(node: Object) -> list[Network]:
    spec = node["spec"]
    cidrs = spec.get("podCIDRs") or ([spec["podCIDR"]] if spec.get("podCIDR") else [])
    return [ipaddress.ip_network(cidr, strict=False) for cidr in cidrs]
