"""The packet rules and the bridge that a cluster leaves on its machine when its processes have ended."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from tiphys.cluster.containerd import PodNetwork, has_plugin, masquerade_rules, settings_for_node, write_network
from tiphys.cluster.settings import Settings
from tiphys.proxy import forward_policy, nft, service_route
from tiphys.proxy.iptables import backend as iptables
from tiphys.proxy.podnetwork import follower
from tiphys.proxy.podnetwork.follower import Configure
from tiphys.proxy.policy import follower as policies
from tiphys.proxy.state import Family
from tiphys.runtime.system import hosttools

_FAMILIES: tuple[Family, ...] = ("ip", "ip6")


def pod_network(settings: Settings, ranges: tuple[str, ...] = (), mtu: int = 0) -> PodNetwork:
    """The bridge network of this node's pods. ``ranges`` are what it was given; without them those are taken for
    granted which the first node is given: the first block of each of the cluster's ranges."""
    return PodNetwork(
        pod_cidrs=ranges or settings.node_pod_cidrs,
        bridge=settings.bridge,
        cluster_cidrs=settings.pod_cidrs,
        mtu=mtu,
        bandwidth=has_plugin("bandwidth"),
        data_dir=str(settings.data_dir / "cni" / "networks"),
    )


def configure_pods(settings: Settings) -> Configure:
    """What a node of `tiphys up` does when its pods' addresses are known; those of the first node are known before."""
    return configure(
        settings_for_node(settings).cni_conf_dir,
        lambda ranges, mtu: pod_network(settings, ranges, mtu),
        masqueraded=() if settings.joined else settings.node_pod_cidrs,
    )


def configure(
    folder: Path, network_of: Callable[[tuple[str, ...], int], PodNetwork], masqueraded: tuple[str, ...] = ()
) -> Configure:
    """What a node does when its pods' ranges are known: it writes the network configuration to ``folder``, and the
    rules once for each set of ranges but ``masqueraded``, which has them."""
    written = [masqueraded] if masqueraded else []

    async def write(ranges: tuple[str, ...], mtu: int) -> None:
        network = network_of(ranges, mtu)
        ours = write_network(folder, network)
        if ours and written != [ranges]:
            await hosttools.run(("nft", "-f", "-"), masquerade_rules(network))
            written[:] = [ranges]

    return write


def remove_service_rules(settings: Settings) -> list[str]:
    """Take the rules of Services away, so that their addresses lead nowhere; returns what could not be done."""

    async def remove() -> list[str]:
        problems = []
        for family in _FAMILIES:
            try:
                await nft.cleanup(family)
                if settings.proxy_mode == "iptables":
                    await iptables.cleanup(family)
                await policies.cleanup(family)
                await forward_policy.cleanup(family)
                await service_route.cleanup(family)
            except hosttools.CommandError as error:
                problems.append(f"cannot remove the {family} rules of Services: {error}")
        try:
            await follower.cleanup()
        except hosttools.CommandError as error:
            problems.append(f"cannot remove the routes to other nodes' pods: {error}")
        return problems

    return asyncio.run(remove())
