"""The packet rules and the bridge that a cluster leaves on its machine when its processes have ended."""

from __future__ import annotations

import asyncio

from tiphys.cluster.containerd import PodNetwork
from tiphys.cluster.settings import Settings
from tiphys.proxy import command_runner, forward_policy, nft, service_route
from tiphys.proxy.state import Family

_FAMILIES: tuple[Family, ...] = ("ip", "ip6")


def pod_network(settings: Settings) -> PodNetwork:
    """The bridge network of this node's pods: the first /24 of the cluster's range belongs to the first node."""
    return PodNetwork(
        pod_cidr=settings.node_pod_cidr,
        bridge=settings.bridge,
        cluster_cidr=settings.pod_cidr,
        data_dir=str(settings.data_dir / "cni" / "networks"),
    )


def remove_service_rules() -> list[str]:
    """Take the rules of Services away, so that their addresses lead nowhere; returns what could not be done."""

    async def remove() -> list[str]:
        problems = []
        for family in _FAMILIES:
            try:
                await nft.cleanup(family)
                await forward_policy.cleanup(family)
                await service_route.cleanup(family)
            except command_runner.CommandError as error:
                problems.append(f"cannot remove the {family} rules of Services: {error}")
        return problems

    return asyncio.run(remove())
