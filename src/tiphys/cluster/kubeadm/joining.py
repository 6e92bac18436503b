"""What the phases of join share: the cluster that was discovered, its configuration, and this node's.

Source: https://kubernetes.io/docs/reference/setup-tools/kubeadm/kubeadm-join/#join-workflow
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tiphys.api.object import Object
from tiphys.client.errors import ApiError, NotFound
from tiphys.client.resources import CONFIG_MAPS, NODES
from tiphys.client.rest import Client
from tiphys.cluster import kubeconfig as files
from tiphys.cluster.kubeadm import api, kubeconfigs
from tiphys.cluster.kubeadm.configuration import documents, dynamic, validate
from tiphys.cluster.kubeadm.configuration.defaults import DEFAULTS
from tiphys.cluster.kubeadm.configuration.load import Configuration
from tiphys.cluster.kubeadm.context import Installation, Say, print_now
from tiphys.cluster.kubeadm.discovery import Discovered, discover
from tiphys.cluster.kubeadm.failures import KubeadmError
from tiphys.cluster.kubeadm.layout import HostRoot
from tiphys.cluster.kubeadm.phases.upload import VIRTUAL_ADDRESS
from tiphys.runtime import yamltext

Document = dict[str, Any]
BOOTSTRAP_USER = "tls-bootstrap-token-user"


@dataclass(slots=True)
class Joining:
    """One run of join. What is asked of the cluster is asked once, when a phase first needs it."""

    join: Document
    places: HostRoot = field(default_factory=HostRoot)
    dry_run: bool = False
    ignored: frozenset[str] = frozenset()
    say: Say = print_now
    warn: Say = print_now
    cgroup_driver: str = ""
    """This machine's, where the cluster's configuration names another; empty: as that says."""
    etcd_follows: bool = False
    """Whether this run itself makes this node's etcd member, after the phase of the manifests that need it."""
    discovered: Discovered | None = None
    installation: Installation | None = None

    @property
    def control_plane(self) -> bool:
        return "controlPlane" in self.join

    @property
    def name(self) -> str:
        return str(self.join["nodeRegistration"]["name"])


async def discovered_cluster(joining: Joining) -> Discovered:
    if joining.discovered is None:
        joining.discovered = await discover(joining.join["discovery"], joining.join["timeouts"]["discovery"])
    return joining.discovered


async def installation(joining: Joining) -> Installation:
    """What a control plane's phases work with: the cluster's configuration, with this node's part."""
    if joining.installation is None:
        joining.say(
            '[preflight] Reading configuration from the "kubeadm-config" ConfigMap in namespace "kube-system"...'
        )
        joining.say(
            "[preflight] FYI: You can look at this config file with 'kubectl -n kube-system get cm kubeadm-config -o"
            " yaml'"
        )
        async with bootstrap_client(joining) as client:
            cluster, kubelet, held = await read_configuration(client)
        joining.installation = _installation(joining, cluster, kubelet)
        joining.installation.virtual_address = held
    return joining.installation


def _installation(joining: Joining, cluster: Document, kubelet: Document) -> Installation:
    node: Document = {}
    DEFAULTS["InitConfiguration"](node)
    control_plane = joining.join.get("controlPlane") or {}
    node["nodeRegistration"] = joining.join["nodeRegistration"]
    node["timeouts"] = joining.join["timeouts"]
    node["localAPIEndpoint"] = control_plane.get("localAPIEndpoint") or {
        "advertiseAddress": "127.0.0.1",
        "bindPort": 6443,
    }
    if patches := joining.join.get("patches"):
        node["patches"] = patches
    if joining.cgroup_driver:
        kubelet = {**kubelet, "cgroupDriver": joining.cgroup_driver}
    return Installation(
        Configuration(node, cluster, kubelet),
        joining.places,
        dry_run=joining.dry_run,
        ignored=joining.ignored,
        say=joining.say,
        warn=joining.warn,
        secondary=True,
    )


async def read_configuration(client: Client) -> tuple[Document, Document, bool]:
    """The ClusterConfiguration and the KubeletConfiguration that the cluster keeps, and whether its control planes hold
    the endpoint's address. Raises ``KubeadmError``."""
    try:
        stored = await client.get(CONFIG_MAPS, "kubeadm-config", "kube-system")
        kubelet = await client.get(CONFIG_MAPS, "kubelet-config", "kube-system")
    except NotFound as error:
        raise KubeadmError(
            f"the cluster does not have its configuration: {error}; on a control plane, run "
            "`tiphys init phase upload-config all`"
        ) from error
    except ApiError as error:
        raise KubeadmError(f"the cluster's configuration cannot be read: {error}") from error
    read = documents.read_text(stored["data"]["ClusterConfiguration"], "ConfigMap kubeadm-config")
    cluster = read["ClusterConfiguration"]
    dynamic.complete_cluster(cluster, 6443)
    validate.check(validate.validate_cluster(cluster))
    document = yamltext.load(kubelet["data"]["kubelet"])
    fields = {name: value for name, value in document.items() if name not in ("apiVersion", "kind")}
    held = (stored["metadata"].get("annotations") or {}).get(VIRTUAL_ADDRESS) == "true"
    return cluster, fields, held


async def bootstrap_config(joining: Joining) -> files.Config:
    """The kubeconfig by which this node asks for its certificate: the token's, or a discovery file's own user."""
    cluster = await discovered_cluster(joining)
    token = joining.join["discovery"].get("tlsBootstrapToken", "")
    if token:
        return kubeconfigs.with_token("kubernetes", cluster.server, cluster.authority, BOOTSTRAP_USER, token)
    if not cluster.user:
        raise KubeadmError(
            "the discovery file names no user that may ask for a certificate; give a token: --tls-bootstrap-token"
        )
    made = kubeconfigs.with_token("kubernetes", cluster.server, cluster.authority, BOOTSTRAP_USER, "")
    made["users"] = [{"name": BOOTSTRAP_USER, "user": cluster.user}]
    return made


@contextlib.asynccontextmanager
async def bootstrap_client(joining: Joining) -> AsyncIterator[Client]:
    """A client with the bootstrap token's rights. Raises ``KubeadmError``."""
    config = files.dump(await bootstrap_config(joining))
    with tempfile.TemporaryDirectory(prefix="tiphys-join-") as folder:
        path = Path(folder) / "bootstrap.conf"
        path.touch(mode=0o600)
        path.write_bytes(config)
        async with api.connection(path) as client:
            yield client


async def existing_node_problem(client: Client, name: str) -> str:
    """Why a node of this name cannot join; empty if it can."""
    try:
        node: Object = await client.get(NODES, name)
    except NotFound:
        return ""
    conditions = (node.get("status") or {}).get("conditions") or []
    if any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions):
        return (
            f'a Node with name "{name}" and status "Ready" already exists in the cluster. You must delete the existing '
            "Node or change the name of this new joining Node: --node-name"
        )
    return ""
