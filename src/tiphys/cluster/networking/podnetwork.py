"""`tiphys pod-network`: the pods' network on one node, for a DaemonSet.

It writes the CNI configuration for the range that the node was given, keeps the routes to other nodes' pods, lets pods
reach the world by the node's address, and enforces network policies. `tiphys up` has the same parts beside its proxy.
"""

from __future__ import annotations

import argparse
import socket
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any

from tiphys.client.kubeconfig import SERVICE_ACCOUNT, connected
from tiphys.cluster.containerd import PodNetwork, has_plugin
from tiphys.cluster.networking.network import configure
from tiphys.cluster.settings import split
from tiphys.proxy.podnetwork import follower
from tiphys.proxy.policy.follower import NetworkPolicies
from tiphys.proxy.state import Family
from tiphys.runtime.clock import SystemClock
from tiphys.runtime.component import CannotStart, Ready, launch, whenever
from tiphys.runtime.flags import FlagParser
from tiphys.runtime.tasks import MENDS_ITSELF_SECONDS, Runner
from tiphys.wire.health import HealthHandler, listening


def main(argv: Sequence[str]) -> int:
    return launch(_parser(), argv, _run)


def _parser() -> FlagParser:
    parser = FlagParser("pod-network", "Writes the pods' network on this node, its routes and its network policies.")
    add = parser.add_argument
    add("--kubeconfig", type=Path, default=SERVICE_ACCOUNT, help="how to reach the API server (default: as this pod)")
    add("--node-name", default=socket.gethostname().lower(), help="this node's name")
    add("--cluster-cidr", required=True, help="the addresses of all pods: what goes there keeps the pod's address")
    add("--cni-conf-dir", type=Path, default=Path("/etc/cni/net.d"), help="where the runtime looks for networks")
    add("--ipam-data-dir", default="", help="where the node's host-local plugin keeps addresses; empty for its default")
    add("--bridge", default="cni0", help="the name of the pods' bridge")
    add(
        "--mtu",
        type=int,
        default=0,
        help="of the pods' interfaces; 0 leaves it to the bridge, or to the tunnel if there is one",
    )
    parser.add_bool("--network-policies", default=True, help="enforce network policies")
    add("--healthz-bind-address", default="127.0.0.1:10265", help="where /healthz is served; empty turns it off")
    parser.add_verbosity()
    return parser


def _run(flags: argparse.Namespace) -> Coroutine[Any, Any, None]:
    if not flags.cni_conf_dir.is_dir():
        raise CannotStart(f"--cni-conf-dir: {flags.cni_conf_dir} is no folder")
    return run(flags)


async def run(flags: argparse.Namespace, ready: Ready = whenever) -> None:
    """Keep the node's network in step until cancelled; one part that fails is started again, and disturbs no other."""
    clock = SystemClock()

    cluster_cidrs = split(flags.cluster_cidr)

    def network(ranges: tuple[str, ...], mtu: int) -> PodNetwork:
        return PodNetwork(
            ranges,
            bridge=flags.bridge,
            cluster_cidrs=cluster_cidrs,
            mtu=flags.mtu or mtu,
            bandwidth=has_plugin("bandwidth"),
            data_dir=flags.ipam_data_dir,
        )

    async with connected(flags.kubeconfig, "pod-network") as client, Runner(clock, "pod-network ") as runner:
        changed = configure(flags.cni_conf_dir, network)
        routes = follower.PodNetwork(node_name=flags.node_name, client=client, clock=clock, configure=changed)
        checks = {
            "/healthz": lambda: runner.troubles(MENDS_ITSELF_SECONDS),
            "/livez": lambda: runner.troubles(MENDS_ITSELF_SECONDS),
            "/readyz": runner.troubles,
        }
        async with listening(flags.healthz_bind_address, HealthHandler(checks)):
            if flags.network_policies:
                families: list[Family] = ["ip6" if ":" in cidr else "ip" for cidr in cluster_cidrs]
                policies = NetworkPolicies(node_name=flags.node_name, client=client, clock=clock, families=families)
                runner.supervise(policies.run, "network policies")
            ready()
            await runner.supervise(routes.run, "pod network")
