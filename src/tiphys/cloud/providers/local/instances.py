"""Nodes of this machine as a cloud's instances: looked after, and made and ended, by ``Hosts``.

Source: docs/nodes.md, and https://kubernetes.io/docs/concepts/architecture/cloud-controller/
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from tiphys.api.meta.objects import name_of
from tiphys.api.object import Object
from tiphys.cloud.provider import CloudError, InstanceMetadata
from tiphys.cloud.providers.local.hosts import Hosts, LocalHost

SCHEME = "local://"
TYPE, ZONE, REGION = "namespace", "local", "local"
MACHINE = "machine"
"""The type of the first node, which is the machine itself."""


def name_in(node: Object) -> str:
    """The machine of a node: by its provider id, or by its name. Raises ``CloudError`` for another cloud's id."""
    identity = str(node["spec"].get("providerID") or "")
    if not identity:
        return name_of(node)
    if not identity.startswith(SCHEME):
        raise CloudError(f"{identity} is not the id of a node of this machine; it has the form {SCHEME}NAME")
    return identity.removeprefix(SCHEME)


class LocalInstances:
    def __init__(self, hosts: Hosts) -> None:
        self._hosts = hosts

    async def exists(self, node: Object) -> bool:
        return await self._find(node) is not None

    async def is_shut_down(self, node: Object) -> bool:
        host = await self._find(node)
        return host is not None and not host.is_running

    async def metadata(self, node: Object) -> InstanceMetadata | None:
        host = await self._find(node)
        if host is None:
            raise CloudError(f"this machine has no node {name_in(node)}; see `tiphys node list`")
        addresses = [{"type": "InternalIP", "address": address} for address in host.addresses]
        addresses.append({"type": "Hostname", "address": host.name})
        kind = MACHINE if host.is_first else TYPE
        return InstanceMetadata(SCHEME + host.name, kind, addresses, ZONE, REGION)

    async def _find(self, node: Object) -> LocalHost | None:
        name = name_in(node)
        return next((host for host in await self._hosts.look() if host.name == name), None)


class LocalMachines:
    """``capacity`` is what a new node is taken to have, beside what this machine has: its nodes share all of that."""

    def __init__(self, hosts: Hosts, capacity: Mapping[str, str]) -> None:
        self._hosts = hosts
        self._capacity = dict(capacity)

    async def template(self) -> Object:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 1024
        capacity = {"cpu": str(os.cpu_count() or 1), "memory": f"{memory}Ki", "pods": "110", **self._capacity}
        labels = {
            "kubernetes.io/os": "linux",
            "node.kubernetes.io/instance-type": TYPE,
            "topology.kubernetes.io/zone": ZONE,
            "topology.kubernetes.io/region": REGION,
        }
        status = {"capacity": capacity, "allocatable": dict(capacity)}
        return {"apiVersion": "v1", "kind": "Node", "metadata": {"labels": labels}, "spec": {}, "status": status}

    async def create(self, name: str) -> None:
        known = next((host for host in await self._hosts.look() if host.name == name), None)
        if known is None:
            await self._hosts.act("add", name)
        elif not known.is_running:
            await self._hosts.act("start", name)

    async def start(self, node: Object) -> None:
        await self._hosts.act("start", name_in(node))

    async def stop(self, node: Object) -> None:
        await self._hosts.act("stop", name_in(node))

    async def delete(self, node: Object) -> None:
        name = name_in(node)
        host = next((host for host in await self._hosts.look() if host.name == name), None)
        if host is not None and host.is_first:
            raise CloudError(f"{name} is the machine itself, and runs the control plane; it is not to be ended")
        if host is not None:
            await self._hosts.act("delete", name)
