"""`tiphys load-balancer`: addresses for Services of type LoadBalancer, for a DaemonSet on clusters without a cloud.

One pod of it at a time gives addresses, by a Lease. With a pool each pod announces those that fall to its node. `tiphys
up` has the same parts in its controllers and beside its proxies.

Source: https://kubernetes.io/docs/concepts/services-networking/service/#loadbalancer
"""

from __future__ import annotations

import argparse
import asyncio
import socket
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tiphys.api.meta.addresspools import AddressPool, parse_pool
from tiphys.client.informer import Informer
from tiphys.client.kubeconfig import SERVICE_ACCOUNT, connected
from tiphys.client.resources import ENDPOINT_SLICES, NODES, SERVICES
from tiphys.client.rest import Client
from tiphys.cloud.context import CloudConfig
from tiphys.cloud.manager import CloudControllerManager
from tiphys.cloud.providers.local.nodes import NodesAsCloud
from tiphys.controlkit.leaderelection import LeaderElectionConfig, own_identity
from tiphys.proxy.loadbalancer.announcer import Announcer, Sources
from tiphys.runtime.clock import Clock, SystemClock
from tiphys.runtime.component import CannotStart, Ready, launch, whenever
from tiphys.runtime.flags import FlagParser
from tiphys.runtime.tasks import MENDS_ITSELF_SECONDS, Runner
from tiphys.wire.health import HealthHandler, listening

NAME = "tiphys-load-balancer"
NODES_OWN = "node"
RESERVED = {
    22: "ssh",
    2379: "etcd",
    2380: "etcd",
    6443: "the API server",
    10250: "the kubelet",
    10256: "the proxy's health",
    10257: "the controller manager",
    10259: "the scheduler",
}
"""Ports of the nodes' own addresses that no load balancer gets on clusters as kubeadm makes them."""


@dataclass(frozen=True, slots=True)
class _Configuration:
    """``pool`` is None for the nodes' own addresses."""

    kubeconfig: Path
    node_name: str
    node_ip: str
    pool: AddressPool | None
    health_address: str


def main(argv: Sequence[str]) -> int:
    return launch(_parser(), argv, _run)


def _parser() -> FlagParser:
    parser = FlagParser("load-balancer", "Gives Services of type LoadBalancer addresses, and announces them.")
    add = parser.add_argument
    add("--kubeconfig", type=Path, default=SERVICE_ACCOUNT, help="how to reach the API server (default: as this pod)")
    add("--node-name", default=socket.gethostname().lower(), help="this node's name")
    add("--node-ip", required=True, help="this node's address")
    add("--pool", default=NODES_OWN, help="NETWORK or FIRST-LAST, commas between; node for the nodes' own addresses")
    add("--healthz-bind-address", default="127.0.0.1:10266", help="where /healthz is served; empty turns it off")
    parser.add_verbosity()
    return parser


def _run(flags: argparse.Namespace) -> Coroutine[Any, Any, None]:
    return run(
        _Configuration(
            flags.kubeconfig, flags.node_name, flags.node_ip, pool_of(flags.pool), flags.healthz_bind_address
        )
    )


def pool_of(text: str) -> AddressPool | None:
    """What ``--pool`` names; None for the nodes' own addresses. Raises ``CannotStart``."""
    if text == NODES_OWN:
        return None
    try:
        return parse_pool(text)
    except ValueError as error:
        raise CannotStart(f"--pool={text}: {error}; name ranges with commas between, or node") from error


def service_controller(
    client: Client,
    clock: Clock,
    pool: AddressPool | None,
    reserved: Mapping[int, str],
    cluster_name: str = "kubernetes",
    election: LeaderElectionConfig | None = None,
) -> CloudControllerManager:
    """The controller that gives Services addresses of a pool, or the nodes' own but for their ports ``reserved``."""
    config = CloudConfig(
        controllers=("service-lb-controller",),
        cluster_name=cluster_name,
        # Who announces addresses of a pool finds out which nodes are there; the nodes' own are shown as they are.
        balance_only_ready_nodes=pool is None,
        leader_election=election,
    )
    return CloudControllerManager(config=config, cloud=NodesAsCloud(client, pool, reserved), client=client, clock=clock)


async def run(configuration: _Configuration, ready: Ready = whenever) -> None:
    """Work until cancelled; one part that fails is started again, and disturbs no other."""
    clock, pool = SystemClock(), configuration.pool
    async with connected(configuration.kubeconfig, NAME) as client, Runner(clock, "load balancer ") as runner:
        election = LeaderElectionConfig(own_identity(), NAME, release_on_cancel=True)
        runner.supervise(
            lambda: service_controller(client, clock, pool, RESERVED, election=election).run(), "service controller"
        )
        checks = {
            "/healthz": lambda: runner.troubles(MENDS_ITSELF_SECONDS),
            "/livez": lambda: runner.troubles(MENDS_ITSELF_SECONDS),
            "/readyz": runner.troubles,
        }
        async with listening(configuration.health_address, HealthHandler(checks)):
            if pool is not None:
                runner.supervise(_announcer(configuration, pool, client, clock, runner).run, "announcer")
            ready()
            await asyncio.Event().wait()


def _announcer(
    configuration: _Configuration, pool: AddressPool, client: Client, clock: Clock, runner: Runner
) -> Announcer:
    services, slices = Informer(client, SERVICES, clock), Informer(client, ENDPOINT_SLICES, clock)
    name = configuration.node_name
    nodes = Informer(client, NODES, clock, field_selector=f"metadata.name={name}")
    for informer in (services, slices, nodes):
        runner.supervise(informer.run, f"informer {informer.resource.plural}")
    return Announcer(
        node_name=name,
        node_address=configuration.node_ip,
        pool=pool,
        sources=Sources(services, slices, lambda: nodes.store.get("", name)),
        client=client,
        clock=clock,
    )
