"""`tiphys csi-local`: the driver ``local.tiphys`` on one node, with its controllers in the same process.

Each node's process looks after the volumes of its own node, so none has to be elected. Source:
https://github.com/kubernetes-csi/external-provisioner#deployment-on-each-node
"""

from __future__ import annotations

import argparse
import logging
import os
import socket
from collections.abc import Sequence
from pathlib import Path

from tiphys.api.object import Object
from tiphys.client.kubeconfig import connected
from tiphys.client.resources import CSI_DRIVERS, STORAGE_CLASSES, ResourcePath
from tiphys.csi.connection import InProcess
from tiphys.csi.context import DriverOptions
from tiphys.csi.identity import IdentityService
from tiphys.csi.local.controller import ControllerService
from tiphys.csi.local.driver import NAME, Shop
from tiphys.csi.local.node import NodeService
from tiphys.csi.manager import DriverControllers, ManagerConfig
from tiphys.csi.publish import publish
from tiphys.csi.served import served
from tiphys.runtime.clock import SystemClock
from tiphys.runtime.component import Ready, launch, whenever
from tiphys.runtime.disks import programs
from tiphys.runtime.disks.files import VolumeStore
from tiphys.runtime.flags import FlagParser
from tiphys.runtime.tasks import Runner

log = logging.getLogger(__name__)

CLASS = "local"
_CONTROLLERS = ("provisioner", "resizer", "snapshotter")
_LOOP_CONTROL = "/dev/loop-control"


def main(argv: Sequence[str]) -> int:
    return launch(_parser(), argv, _run)


def _parser() -> FlagParser:
    """The parser of the driver's flags."""
    parser = FlagParser("csi-local", "Gives pods volumes on this node's disk.")
    add = parser.add_argument
    add("--kubeconfig", type=Path, required=True, help="how to reach the API server")
    add("--node-name", default=socket.gethostname().lower(), help="this node's name")
    add("--kubelet-dir", type=Path, default=Path("/var/lib/kubelet"), help="the kubelet's folder")
    add("--volumes", type=Path, default=Path("/var/lib/tiphys/volumes"), help="where volumes are kept")
    parser.add_verbosity()
    return parser


async def _run(flags: argparse.Namespace) -> None:
    await run(flags.node_name, flags.volumes, flags.kubelet_dir, flags.kubeconfig)


async def run(node: str, volumes: Path, kubelet_dir: Path, kubeconfig: Path, ready: Ready = whenever) -> None:
    """Serve the driver and run its controllers until cancelled; ``ready`` is called once the driver answers."""
    clock = SystemClock()
    loops = has_loops()
    if not loops:
        log.warning("this machine has no loop devices or no mkfs.ext4: volumes are folders, and their size is no limit")
    async with connected(kubeconfig, "csi-local") as client, Runner(clock, "csi-local ") as runner:
        shop = Shop(VolumeStore(volumes), node, loops=loops)
        services = (IdentityService(NAME), ControllerService(shop, clock), NodeService(shop))
        config = ManagerConfig(
            identity=node, options=DriverOptions(node=node, first_retry=0.5), controllers=_CONTROLLERS
        )
        async with served(services, kubelet_dir, NAME):
            ready()
            runner.spawn(publish(client, clock, objects()), "publication")
            await DriverControllers(config, client, InProcess(services), clock).run()


def objects() -> list[tuple[ResourcePath, Object]]:
    """The driver's objects, each with where it is made."""
    driver: Object = {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "CSIDriver",
        "metadata": {"name": NAME},
        "spec": {
            "attachRequired": False,
            "podInfoOnMount": True,
            "storageCapacity": True,
            "fsGroupPolicy": "File",
            "volumeLifecycleModes": ["Persistent", "Ephemeral"],
        },
    }
    storage_class: Object = {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": CLASS, "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
        "provisioner": NAME,
        "reclaimPolicy": "Delete",
        "volumeBindingMode": "WaitForFirstConsumer",
        "allowVolumeExpansion": True,
        "parameters": {"csi.storage.k8s.io/fstype": "ext4"},
    }
    return [(CSI_DRIVERS, driver), (STORAGE_CLASSES, storage_class)]


def has_loops() -> bool:
    """Whether images can be mounted on this machine."""
    usable = os.access(_LOOP_CONTROL, os.R_OK | os.W_OK)
    return usable and not programs.missing("mount", "mkfs.ext4", "e2fsck", "resize2fs", "losetup", "fsfreeze")
