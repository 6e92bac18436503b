"""`tiphys csi-cloud`: the driver ``cloud.tiphys``, its controllers, or its part on a node.

Source: https://kubernetes-csi.github.io/docs/deploying.html
"""

from __future__ import annotations

import argparse
import logging
import socket
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any

from tiphys.addons.csicloud.controller import NAME, ZONE_KEY, CloudController
from tiphys.addons.csicloud.node import CloudNode
from tiphys.api.cloudnodes import UNINITIALIZED
from tiphys.api.object import Object
from tiphys.client.errors import ApiError
from tiphys.client.kubeconfig import SERVICE_ACCOUNT, connected
from tiphys.client.resources import CSI_DRIVERS, NODES, STORAGE_CLASSES, ResourcePath
from tiphys.client.rest import Client
from tiphys.cloud.registry import make_provider
from tiphys.controlkit.elected import launch_elected
from tiphys.controlkit.leaderelection import LeaderElectionConfig, own_identity
from tiphys.csi.connection import InProcess
from tiphys.csi.context import DriverOptions
from tiphys.csi.identity import IdentityService
from tiphys.csi.manager import DriverControllers, ManagerConfig
from tiphys.csi.publish import publish
from tiphys.csi.served import served
from tiphys.runtime.clock import Clock, SystemClock
from tiphys.runtime.component import CannotStart, Ready, whenever
from tiphys.runtime.flags import FlagParser
from tiphys.runtime.tasks import Runner

log = logging.getLogger(__name__)

CLASS = "cloud"
_AGAIN = 2.0


def main(argv: Sequence[str]) -> int:
    return launch_elected(_parser(), argv, _run)


def _parser() -> FlagParser:
    """The parser of the driver's flags."""
    parser = FlagParser("csi-cloud", "Gives pods the disks of a cloud.")
    add = parser.add_argument
    add("--part", choices=("controller", "node"), required=True, help="which part this is: one controller, a node each")
    add("--kubeconfig", type=Path, default=SERVICE_ACCOUNT, help="how to reach the API server (default: as this pod)")
    add("--cloud-provider", default="", help="controller: the cloud, a name, or module:factory of a provider of yours")
    add("--cloud-config", type=Path, help="controller: the provider's own configuration")
    parser.add_bool("--leader-elect", default=False, help="controller: work only while holding a Lease")
    add("--node-name", default=socket.gethostname().lower(), help="node: its name")
    add("--kubelet-dir", type=Path, default=Path("/var/lib/kubelet"), help="node: the kubelet's folder")
    parser.add_verbosity()
    return parser


def _run(flags: argparse.Namespace) -> Coroutine[Any, Any, None]:
    if flags.part == "node":
        return run_node(flags.node_name, flags.kubelet_dir, flags.kubeconfig)
    return run_controller(flags.cloud_provider, flags.cloud_config, flags.kubeconfig, elects=flags.leader_elect)


async def run_controller(
    provider: str, config: Path | None, kubeconfig: Path, *, elects: bool, ready: Ready = whenever
) -> None:
    """Run the controllers over a cloud until cancelled. Raises ``CannotStart`` for one that has no volumes."""
    cloud, clock = make_provider(provider, config), SystemClock()
    try:
        if cloud.volumes is None:
            raise CannotStart(f"--cloud-provider={provider} has no volumes")
        services = (IdentityService(NAME, has_zones=cloud.volumes.has_zones), CloudController(cloud.volumes))
        election = LeaderElectionConfig(own_identity(), "csi-cloud", "kube-system") if elects else None
        wanted = ManagerConfig(identity=own_identity(), options=DriverOptions(first_retry=0.5), election=election)
        async with connected(kubeconfig, "csi-cloud") as client, Runner(clock, "csi-cloud ") as runner:
            runner.spawn(publish(client, clock, objects()), "publication")
            await DriverControllers(wanted, client, InProcess(services), clock).run(ready)
    finally:
        await cloud.close()


async def run_node(name: str, kubelet_dir: Path, kubeconfig: Path, ready: Ready = whenever) -> None:
    """Serve the node's part until cancelled, once the node is known: that a cloud still has to say who it is keeps
    nobody from being ready."""
    clock = SystemClock()
    ready()
    async with connected(kubeconfig, "csi-cloud") as client:
        node = await _own_node(client, clock, name)
        zone = (node["metadata"].get("labels") or {}).get(ZONE_KEY, "")
        service = CloudNode(node["spec"].get("providerID") or name, zone)
        async with served((IdentityService(NAME, has_zones=bool(zone)), service), kubelet_dir, NAME):
            while True:
                await clock.sleep(3600)


async def _own_node(client: Client, clock: Clock, name: str) -> Object:
    """The Node, when it is there and the cloud has said who it is, if one is to."""
    while True:
        try:
            node = await client.get(NODES, name)
            if all(taint["key"] != UNINITIALIZED for taint in node["spec"].get("taints") or ()):
                return node
        except (ApiError, ConnectionError, TimeoutError) as error:
            log.info("cannot read node %s yet: %s", name, error)
        await clock.sleep(_AGAIN)


def objects() -> list[tuple[ResourcePath, Object]]:
    """The driver's objects, each with where it is made."""
    driver: Object = {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "CSIDriver",
        "metadata": {"name": NAME},
        "spec": {"attachRequired": True, "podInfoOnMount": False, "fsGroupPolicy": "File"},
    }
    storage_class: Object = {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": CLASS},
        "provisioner": NAME,
        "reclaimPolicy": "Delete",
        "volumeBindingMode": "WaitForFirstConsumer",
        "allowVolumeExpansion": True,
        "parameters": {"csi.storage.k8s.io/fstype": "ext4"},
    }
    return [(CSI_DRIVERS, driver), (STORAGE_CLASSES, storage_class)]
