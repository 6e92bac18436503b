"""Talking to the cluster as its administrator: retried for a while, and written as a dry run would say it.

Source: https://kubernetes.io/docs/reference/setup-tools/kubeadm/implementation-details/
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from pathlib import Path
from typing import TypeVar

import yaml

from tiphys.api.object import Object
from tiphys.client.errors import AlreadyExists, ApiError, Conflict, Forbidden
from tiphys.client.kubeconfig import connected
from tiphys.client.resources import (
    CLUSTER_ROLE_BINDINGS,
    CLUSTER_ROLES,
    CONFIG_MAPS,
    ROLE_BINDINGS,
    ROLES,
    SECRETS,
    ResourcePath,
)
from tiphys.client.rest import Client
from tiphys.cluster.kubeadm import layout
from tiphys.cluster.kubeadm.context import Installation
from tiphys.cluster.kubeadm.failures import KubeadmError
from tiphys.runtime import durations
from tiphys.runtime.component import CannotStart

Answer = TypeVar("Answer")

RBAC = "rbac.authorization.k8s.io"
ADMINS = "kubeadm:cluster-admins"
_RETRY_SECONDS = 0.5
_PATHS: dict[str, ResourcePath] = {
    "ClusterRole": CLUSTER_ROLES,
    "ClusterRoleBinding": CLUSTER_ROLE_BINDINGS,
    "ConfigMap": CONFIG_MAPS,
    "Role": ROLES,
    "RoleBinding": ROLE_BINDINGS,
    "Secret": SECRETS,
}


@contextlib.asynccontextmanager
async def administrator(context: Installation) -> AsyncIterator[Client]:
    """A client with the administrator's kubeconfig, whose rights are made sure of. Raises ``KubeadmError``."""
    async with connection(context.places.on_disk(context.kubeconfig)) as client:
        seconds = durations.seconds(context.configuration.node["timeouts"]["kubernetesAPICall"])
        await retried(lambda: _ensure_rights(context, client), seconds, "the administrator's rights")
        yield client


@contextlib.asynccontextmanager
async def connection(kubeconfig: Path) -> AsyncIterator[Client]:
    """A client of a kubeconfig. Raises ``KubeadmError``, also for what the API server refuses in the block."""
    try:
        async with connected(kubeconfig, "kubeadm") as client:
            yield client
    except CannotStart as error:
        raise KubeadmError(str(error)) from error
    except ApiError as error:
        raise KubeadmError(f"the API server refused: {error}") from error
    except (ConnectionError, TimeoutError) as error:
        raise KubeadmError(
            f"the API server of {kubeconfig} cannot be reached: {error or 'timed out'}; is it running? `crictl ps` on "
            "its node shows, and the kubelet's log says why it is not"
        ) from error


async def _ensure_rights(context: Installation, client: Client) -> None:
    """Let the administrators' group be administrators: by the super-admin, while nobody else may."""
    binding = cluster_binding(ADMINS, "cluster-admin", [group(ADMINS)])
    try:
        await client.get(CLUSTER_ROLE_BINDINGS, ADMINS)
    except Forbidden:
        path = context.places.on_disk(layout.SUPER_ADMIN)
        if not path.exists():
            raise
        async with connected(path, "kubeadm") as super_client:
            await write(super_client, binding)
        await client.get(CLUSTER_ROLE_BINDINGS, ADMINS)


async def retried(call: Callable[[], Awaitable[Answer]], seconds: float, what: str) -> Answer:
    """Call until it succeeds, as long as the API server may only be about to serve. Raises ``KubeadmError``."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return await call()
        except (ApiError, ConnectionError, TimeoutError) as error:
            if time.monotonic() > deadline:
                raise KubeadmError(f"{what}: no success within {seconds:.0f} s: {error or 'timed out'}") from error
            await asyncio.sleep(_RETRY_SECONDS)


async def ensure(context: Installation, objects: Iterable[Object]) -> None:
    """Create objects, or replace those that are there; a dry run shows them."""
    if context.dry_run:
        for obj in objects:
            show(context, obj)
        return
    async with administrator(context) as client:
        seconds = durations.seconds(context.configuration.node["timeouts"]["kubernetesAPICall"])
        for obj in objects:
            await retried(lambda obj=obj: write(client, obj), seconds, describe(obj))  # type: ignore[misc]


async def write(client: Client, obj: Object) -> Object:
    """Create an object, or replace the one that is there; what is there of others' labels goes."""
    path = _PATHS[obj["kind"]]
    meta = obj["metadata"]
    while True:
        try:
            return await client.create(path, obj)
        except AlreadyExists:
            current = await client.get(path, meta["name"], meta.get("namespace", ""))
        version = current["metadata"]["resourceVersion"]
        try:
            return await client.update(path, {**obj, "metadata": {**meta, "resourceVersion": version}})
        except Conflict:
            continue


def show(context: Installation, obj: Object) -> None:
    """Say what would be written; of a Secret only which fields it has."""
    shown = obj
    if obj["kind"] == "Secret":
        shown = {**obj, "data": dict.fromkeys(obj.get("data", {}), "(hidden)")}
    context.say(f"[dryrun] Would create or update {describe(obj)}:")
    context.say(yaml.dump(shown, Dumper=yaml.CSafeDumper, sort_keys=False).rstrip())


def describe(obj: Object) -> str:
    namespace = obj["metadata"].get("namespace")
    return f'{obj["kind"]} "{obj["metadata"]["name"]}"' + (f' in namespace "{namespace}"' if namespace else "")


# Objects that several phases write.


def config_map(name: str, namespace: str, data: dict[str, str], annotations: dict[str, str] | None = None) -> Object:
    meta: Object = {"name": name, "namespace": namespace}
    if annotations:
        meta["annotations"] = annotations
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data}


def reader_role(name: str, namespace: str, resource: str, named: str) -> Object:
    """A Role to get one object."""
    rule = {"verbs": ["get"], "apiGroups": [""], "resources": [resource], "resourceNames": [named]}
    meta = {"name": name, "namespace": namespace}
    return {"apiVersion": f"{RBAC}/v1", "kind": "Role", "metadata": meta, "rules": [rule]}


def role_binding(name: str, namespace: str, subjects: list[Object]) -> Object:
    """A binding to the Role of the same name."""
    return {
        "apiVersion": f"{RBAC}/v1",
        "kind": "RoleBinding",
        "metadata": {"name": name, "namespace": namespace},
        "roleRef": {"apiGroup": RBAC, "kind": "Role", "name": name},
        "subjects": subjects,
    }


def cluster_binding(name: str, role: str, subjects: list[Object]) -> Object:
    return {
        "apiVersion": f"{RBAC}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": name},
        "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": role},
        "subjects": subjects,
    }


def group(name: str) -> Object:
    return {"apiGroup": RBAC, "kind": "Group", "name": name}


def user(name: str) -> Object:
    return {"apiGroup": RBAC, "kind": "User", "name": name}
