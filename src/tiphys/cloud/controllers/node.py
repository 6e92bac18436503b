"""The node controller of a cloud: completes a new node, and keeps its addresses right.

A kubelet that runs with ``--cloud-provider=external`` registers its node with a taint. Nothing is scheduled there until
the cloud has said what the machine is: its provider id, type, zone, region and addresses.

Source: https://kubernetes.io/docs/concepts/architecture/cloud-controller/#node-controller
"""

from __future__ import annotations

import asyncio
import logging
import re

from tiphys.api.cloudnodes import UNINITIALIZED
from tiphys.api.meta.objects import labels_of, name_of
from tiphys.api.object import Object
from tiphys.client.informer import Callbacks
from tiphys.client.resources import NODES
from tiphys.cloud.addresses import differ, node_addresses, preferred
from tiphys.cloud.context import CloudContext
from tiphys.cloud.provider import CloudError, InstanceMetadata, Instances
from tiphys.controlkit.controller import Controller, Result
from tiphys.controlkit.objects import copy, key_of

log = logging.getLogger(__name__)

_KUBERNETES_LABEL = re.compile(r"(^|\.)(kubernetes|k8s)\.io/")
_TYPE = ("beta.kubernetes.io/instance-type", "node.kubernetes.io/instance-type")
_ZONE = ("failure-domain.beta.kubernetes.io/zone", "topology.kubernetes.io/zone")
_REGION = ("failure-domain.beta.kubernetes.io/region", "topology.kubernetes.io/region")
"""Each label's older name, which counts, and the one that is made equal to it."""


class CloudNodeController:
    def __init__(self, context: CloudContext, instances: Instances) -> None:
        config = context.config
        self._client, self._clock, self._instances = context.client, context.clock, instances
        self._recorder = context.recorder.named("cloud-node-controller")
        self._nodes = context.informers.informer(NODES)
        self._frequency = config.node_status_update_frequency
        self._at_once = asyncio.Semaphore(config.concurrent_node_status_updates or config.concurrent_node_syncs)
        self._controller = Controller(
            "cloud_node",
            self.reconcile,
            context.clock,
            workers=config.concurrent_node_syncs,
            registry=context.registry,
        )
        self._controller.handles(self._nodes, Callbacks(changed=lambda node: self._controller.queue.add(key_of(node))))

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._controller.run())
            group.create_task(self._follow_addresses())

    async def reconcile(self, name: str) -> Result | None:
        """Initialise a node that waits for it; again later if the cloud cannot say what it is."""
        node = self._nodes.store.get("", name)
        if node is None:
            return None
        if not is_uninitialized(node):
            await self._renew_labels(node)
            return None
        try:
            await self._initialize(node)
        except CloudError as error:
            log.warning("cannot initialise node %s: %s", name, error)
            return Result(retry=True)
        return None

    async def _initialize(self, node: Object) -> None:
        metadata = await self._instances.metadata(node)
        if metadata is None:
            log.info("the cloud knows nothing of node %s yet", name_of(node))
            return
        preferred(node, metadata.addresses)  # what is wrong with them is to be mended before pods come
        made = await self._client.update(NODES, initialized(node, metadata))
        await self._show_addresses(made, metadata)
        self._recorder.event(made, "Normal", "Synced", "Node synced successfully")

    async def _renew_labels(self, node: Object) -> None:
        if labels := renewed_labels(node):
            await self._client.patch(NODES, name_of(node), {"metadata": {"labels": labels}})

    async def _follow_addresses(self) -> None:
        await self._nodes.wait_synced()
        while True:
            await asyncio.gather(*(self._follow(name_of(node)) for node in self._nodes.store.list()))
            await self._clock.sleep(self._frequency)

    async def _follow(self, name: str) -> None:
        async with self._at_once:
            node = self._nodes.store.get("", name)
            if node is None or is_uninitialized(node):
                return
            try:
                metadata = await self._instances.metadata(node)
                if metadata is not None:
                    await self._show_addresses(node, metadata)
            except Exception as error:  # noqa: BLE001 - one machine's trouble keeps no other node from being looked at
                log.warning("cannot follow the addresses of node %s: %s", name, error)

    async def _show_addresses(self, node: Object, metadata: InstanceMetadata) -> None:
        """Raises ``CloudError`` if the kubelet insists on an address that the cloud does not know."""
        if not metadata.addresses:
            return
        wanted = node_addresses(node, metadata.addresses)
        if differ((node.get("status") or {}).get("addresses") or [], wanted):
            patch = {"status": {"addresses": wanted}}  # a merge patch: the list is replaced, in its order
            await self._client.patch(NODES, name_of(node), patch, subresource="status")


def is_uninitialized(node: Object) -> bool:
    return any(taint["key"] == UNINITIALIZED for taint in node["spec"].get("taints") or ())


def initialized(node: Object, metadata: InstanceMetadata) -> Object:
    """The node as the cloud completes it. Raises ``CloudError`` if it gives no provider id."""
    made = copy(node)
    spec = made["spec"]
    if not spec.get("providerID"):
        if not metadata.provider_id:
            raise CloudError(f"cloud provider does not set node provider ID for node {name_of(node)}")
        spec["providerID"] = metadata.provider_id
    labels = made["metadata"].setdefault("labels", {})
    for names, text in ((_TYPE, metadata.instance_type), (_ZONE, metadata.zone), (_REGION, metadata.region)):
        if text:
            labels.update(dict.fromkeys(names, text))
    for name, text in metadata.labels.items():
        if _KUBERNETES_LABEL.search(name):
            log.warning("the cloud's label %s of node %s is left out: the name is Kubernetes' own", name, name_of(node))
        else:
            labels.setdefault(name, text)
    spec["taints"] = [taint for taint in spec.get("taints") or () if taint["key"] != UNINITIALIZED]
    return made


def renewed_labels(node: Object) -> dict[str, str]:
    """The labels that are to follow those of older names."""
    labels = labels_of(node)
    pairs = ((older, newer) for older, newer in (_ZONE, _REGION, _TYPE) if older in labels)
    return {newer: labels[older] for older, newer in pairs if labels.get(newer) != labels[older]}
