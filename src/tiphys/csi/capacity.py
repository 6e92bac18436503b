"""Publishes how much room the driver has where, for the scheduler: a CSIStorageCapacity for each class and place.

Objects have names made of what they say, so that two processes never make two for the same. Source:
https://kubernetes.io/docs/concepts/storage/storage-capacity/ (KEP-1472)
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from typing import Any

from tiphys.api.csi.capabilities import capability
from tiphys.api.meta.quantity import Format, Quantity
from tiphys.api.object import Object
from tiphys.client import errors
from tiphys.client.informer import Callbacks
from tiphys.client.resources import CSI_NODES, CSI_STORAGE_CAPACITIES, NODES, PERSISTENT_VOLUMES, STORAGE_CLASSES
from tiphys.controlkit.controller import Result
from tiphys.controlkit.objects import name_of, uid_of
from tiphys.csi.context import DriverContext
from tiphys.csi.provisioner import parameters, plan, topology
from tiphys.csi.provisioner.topology import Segments

DRIVER_LABEL = "csi.storage.k8s.io/drivername"
MANAGER_LABEL = "csi.storage.k8s.io/managed-by"
_ALL = "all"
_SETTLING = 0.1
"""Seconds in which changes of volumes are taken together."""


class CapacityPublisher:
    def __init__(self, context: DriverContext, manager: str) -> None:
        self._context = context
        self._client = context.client
        self._driver = context.facts.name
        self._manager = manager
        self._namespace = context.options.capacity_namespace
        self._slots = asyncio.Semaphore(context.options.workers)
        informer = context.informers.informer
        self._classes, self._nodes, self._csi_nodes = informer(STORAGE_CLASSES), informer(NODES), informer(CSI_NODES)
        self._volumes = informer(PERSISTENT_VOLUMES)
        self._capacities = informer(
            CSI_STORAGE_CAPACITIES, namespace=self._namespace, label_selector=f"{DRIVER_LABEL}={self._driver}"
        )
        self._controller = context.controller("capacity", self.reconcile)
        self._controller.watches(self._classes, lambda obj: [_ALL])
        self._controller.watches(self._csi_nodes, lambda obj: [_ALL])
        self._controller.reads(self._nodes)
        self._controller.reads(self._capacities)
        self._controller.handles(
            self._volumes, Callbacks(added=self._volume_changed, updated=self._updated, deleted=self._volume_changed)
        )

    async def run(self) -> None:
        self._controller.queue.add(_ALL)
        await self._controller.run()

    def refresh(self) -> None:
        """Room may have changed."""
        self._controller.queue.add_after(_ALL, _SETTLING)

    def _volume_changed(self, volume: Object) -> None:
        if (volume["spec"].get("csi") or {}).get("driver") == self._driver:
            self.refresh()

    def _updated(self, old: Object, new: Object) -> None:
        if old["spec"].get("capacity") != new["spec"].get("capacity"):
            self._volume_changed(new)

    async def reconcile(self, _: str) -> Result:
        """Bring all objects up to date; again after a while, as room changes without anybody saying so."""
        classes = [each for each in self._classes.store.list() if self._is_published(each)]
        pairs = [(storage_class, place) for storage_class in classes for place in self._places()]
        wanted = dict(await asyncio.gather(*(self._capacity(*pair) for pair in pairs)))
        mine = {
            name_of(each): each
            for each in self._capacities.store.list()
            if (each["metadata"].get("labels") or {}).get(MANAGER_LABEL) == self._manager
        }
        for name, obj in wanted.items():
            await self._apply(mine.get(name), obj)
        for name in mine.keys() - wanted.keys():
            try:
                await self._client.delete(CSI_STORAGE_CAPACITIES, name, self._namespace)
            except errors.NotFound:
                continue
        return Result(after=self._context.options.capacity_poll)

    def _is_published(self, storage_class: Object) -> bool:
        return storage_class["provisioner"] == self._driver and plan.waits_for_consumer(storage_class)

    def _places(self) -> list[Segments]:
        """Where volumes can be: this node's place, or that of every node with the driver."""
        own, places = self._context.options.node, []
        for csi_node in self._csi_nodes.store.list():
            node = self._nodes.store.get("", name_of(csi_node))
            if node is None or own not in ("", name_of(node)):
                continue
            keys = topology.keys_of(csi_node, self._driver)
            segments = topology.segments_of(node, keys) if keys else None
            if segments and segments not in places:
                places.append(segments)
        return places

    async def _capacity(self, storage_class: Object, place: Segments) -> tuple[str, Object]:
        async with self._slots:
            return await self._ask(storage_class, place)

    async def _ask(self, storage_class: Object, place: Segments) -> tuple[str, Object]:
        given = storage_class.get("parameters") or {}
        fs_type = parameters.fs_type(given, self._context.options.default_fs_type)
        answer = await self._context.connection.call(
            "GetCapacity",
            self._context.options.timeout,
            volume_capabilities=[capability("ReadWriteOnce", fs_type=fs_type)],
            parameters=parameters.for_driver(given),
            accessible_topology={"segments": place},
        )
        name = capacity_name(self._driver, name_of(storage_class), place)
        labels = {DRIVER_LABEL: self._driver, MANAGER_LABEL: self._manager}
        meta: Object = {"name": name, "namespace": self._namespace, "labels": labels}
        if owners := self._owners():
            meta["ownerReferences"] = owners
        obj: Object = {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "CSIStorageCapacity",
            "metadata": meta,
            "storageClassName": name_of(storage_class),
            "nodeTopology": {"matchLabels": place},
            "capacity": _quantity(answer.available_capacity),
        }
        if answer.HasField("maximum_volume_size"):
            obj["maximumVolumeSize"] = _quantity(answer.maximum_volume_size.value)
        return name, obj

    def _owners(self) -> list[Object]:
        """What a node has room for is gone with the node."""
        node = self._nodes.store.get("", self._context.options.node) if self._context.options.node else None
        return (
            [] if node is None else [{"apiVersion": "v1", "kind": "Node", "name": name_of(node), "uid": uid_of(node)}]
        )

    async def _apply(self, existing: Object | None, wanted: Object) -> None:
        if existing is None:
            try:
                await self._client.create(CSI_STORAGE_CAPACITIES, wanted)
            except errors.AlreadyExists:
                existing = await self._client.get(CSI_STORAGE_CAPACITIES, name_of(wanted), self._namespace)
        if existing is not None and not _same(existing, wanted):
            meta = {**existing["metadata"], **wanted["metadata"]}
            await self._client.update(CSI_STORAGE_CAPACITIES, {**wanted, "metadata": meta})


def capacity_name(driver: str, storage_class: str, place: Segments) -> str:
    text = json.dumps([driver, storage_class, sorted(place.items())])
    return f"csisc-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def _quantity(size: int) -> str:
    return str(Quantity.of(size, Format.BINARY_SI))


def _same(existing: Object, wanted: Object) -> bool:
    return _said(existing) == _said(wanted) and (existing["metadata"].get("labels") == wanted["metadata"]["labels"])


def _said(obj: Object) -> list[Any]:
    return [obj.get(key) for key in ("storageClassName", "nodeTopology", "capacity", "maximumVolumeSize")]
