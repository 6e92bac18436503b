"""What every controller of the cloud is given, and how the manager is set up."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from tiphys.client.informer import InformerFactory
from tiphys.client.options import ClientOptions
from tiphys.client.rest import Client
from tiphys.cloud.provider import CloudProvider
from tiphys.controlkit.events import EventRecorder
from tiphys.controlkit.leaderelection import LeaderElectionConfig
from tiphys.controlkit.serving.settings import PortSettings
from tiphys.runtime.clock import Clock
from tiphys.runtime.metrics import Registry


@dataclass(frozen=True, slots=True)
class CloudConfig:
    """The defaults are upstream's. Times in seconds."""

    controllers: tuple[str, ...] = ("*",)
    cluster_name: str = "kubernetes"
    cluster_cidrs: tuple[str, ...] = ()
    allocate_node_cidrs: bool = False
    configure_cloud_routes: bool = True
    node_status_update_frequency: float = 300.0
    node_monitor_period: float = 5.0
    route_reconciliation_period: float = 10.0
    concurrent_service_syncs: int = 1
    concurrent_node_syncs: int = 1
    concurrent_node_status_updates: int = 1
    balance_only_ready_nodes: bool = False
    """For load balancers that do not find out by themselves which nodes are there."""
    leader_election: LeaderElectionConfig | None = None
    serving: PortSettings | None = None
    client: ClientOptions = field(default_factory=ClientOptions)
    """What is said about the client beside the kubeconfig."""


@dataclass(frozen=True, slots=True)
class CloudContext:
    cloud: CloudProvider
    client: Client
    informers: InformerFactory
    clock: Clock
    recorder: EventRecorder
    config: CloudConfig
    registry: Registry | None = None
    rng: random.Random = field(default_factory=random.Random)
