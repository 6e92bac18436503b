"""The objects that make a cluster ours: manifests/bootstrap.yaml, applied by the API server's own process before it is
ready, as kubeadm's phases do it from outside."""

from __future__ import annotations

from importlib.resources import files

from tiphys.api.object import Object
from tiphys.client.resources import CLUSTER_ROLE_BINDINGS, CLUSTER_ROLES, ROLE_BINDINGS, ROLES, SERVICE_ACCOUNTS
from tiphys.client.rest import Client
from tiphys.runtime import yamltext

FIELD_MANAGER = "tiphys"
_PATHS = {
    "ClusterRole": CLUSTER_ROLES,
    "ClusterRoleBinding": CLUSTER_ROLE_BINDINGS,
    "Role": ROLES,
    "RoleBinding": ROLE_BINDINGS,
    "ServiceAccount": SERVICE_ACCOUNTS,
}


def load_balancer_objects() -> list[Object]:
    """What nodes need to say who announces addresses of load balancers: manifests/loadbalancer.yaml."""
    text = files("tiphys.cluster").joinpath("manifests/loadbalancer.yaml").read_text()
    return list(yamltext.load_all(text))


async def apply_bootstrap(client: Client) -> None:
    """Apply the objects; ``client`` acts as a member of system:masters. What a user added to them stays."""
    text = files("tiphys.cluster").joinpath("manifests/bootstrap.yaml").read_text()
    for obj in yamltext.load_all(text):
        await client.apply(_PATHS[obj["kind"]], obj, FIELD_MANAGER, force=True)
