"""Applying an add-on's objects to a cluster, and deleting them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tiphys.api.object import Object
from tiphys.client.errors import NotFound
from tiphys.client.resources import (
    API_SERVICES,
    CLUSTER_ROLE_BINDINGS,
    CLUSTER_ROLES,
    CONFIG_MAPS,
    DAEMON_SETS,
    DEPLOYMENTS,
    ENDPOINT_SLICES,
    INGRESS_CLASSES,
    NAMESPACES,
    ROLE_BINDINGS,
    ROLES,
    SERVICE_ACCOUNTS,
    SERVICES,
    ResourcePath,
)
from tiphys.client.rest import Client

FIELD_MANAGER = "tiphys-addons"
RESOURCES: dict[str, ResourcePath] = {
    "APIService": API_SERVICES,
    "ClusterRole": CLUSTER_ROLES,
    "ClusterRoleBinding": CLUSTER_ROLE_BINDINGS,
    "ConfigMap": CONFIG_MAPS,
    "DaemonSet": DAEMON_SETS,
    "Deployment": DEPLOYMENTS,
    "EndpointSlice": ENDPOINT_SLICES,
    "IngressClass": INGRESS_CLASSES,
    "Namespace": NAMESPACES,
    "Role": ROLES,
    "RoleBinding": ROLE_BINDINGS,
    "Service": SERVICES,
    "ServiceAccount": SERVICE_ACCOUNTS,
}
"""What add-ons consist of, by kind."""


async def apply_objects(client: Client, objects: Iterable[Object]) -> None:
    """Apply objects in their order. What a user added to them stays; what differs from the manifest is set again."""
    for obj in objects:
        await client.apply(RESOURCES[obj["kind"]], obj, FIELD_MANAGER, force=True)


async def delete_objects(client: Client, objects: Sequence[Object]) -> list[str]:
    """Delete objects, the last first; returns ``kind/name`` of those that were there."""
    deleted = []
    for obj in reversed(objects):
        meta = obj["metadata"]
        try:
            await client.delete(
                RESOURCES[obj["kind"]], meta["name"], meta.get("namespace", ""), propagation="Background"
            )
        except NotFound:
            continue
        deleted.append(f"{obj['kind'].lower()}/{meta['name']}")
    return deleted
