"""Makes the volume that a claim asks for, and the PersistentVolume that shows it; the binder ties the two together.

A driver that may still be at work on a call is asked again with the same arguments until it has decided. One that has
no room on the node that the scheduler chose sends the claim back to the scheduler. Source:
https://kubernetes-csi.github.io/docs/external-provisioner.html and
https://kubernetes.io/docs/concepts/storage/dynamic-provisioning/
"""

from __future__ import annotations

import contextlib
from typing import Any

from tiphys.api.object import Object
from tiphys.api.volumes import matching
from tiphys.api.volumes.claims import SELECTED_NODE
from tiphys.client import errors
from tiphys.client.informer import Callbacks
from tiphys.client.resources import (
    CSI_NODES,
    NODES,
    PERSISTENT_VOLUME_CLAIMS,
    PERSISTENT_VOLUMES,
    STORAGE_CLASSES,
    VOLUME_ATTRIBUTES_CLASSES,
)
from tiphys.controlkit.objects import copy, key_of, name_of, split_key
from tiphys.controlkit.retry import TryAgain
from tiphys.csi.connection import is_final
from tiphys.csi.context import DriverContext, read_secret
from tiphys.csi.provisioner import plan, topology
from tiphys.csi.provisioner.parameters import ParameterError
from tiphys.csi.provisioner.plan import Wanted
from tiphys.csi.provisioner.sources import Sources, SourceTrouble
from tiphys.csi.provisioner.topology import Segments, TopologyError
from tiphys.wire.grpc.caller import describe
from tiphys.wire.grpc.codes import StatusCode
from tiphys.wire.grpc.stream import GrpcError


class Provisioner:
    def __init__(self, context: DriverContext, identity: str) -> None:
        self._context = context
        self._client = context.client
        self._driver = context.facts.name
        self._identity = identity
        self._recorder = context.recorder.named(f"{self._driver}_{identity}")
        informer = context.informers.informer
        self._claims = informer(PERSISTENT_VOLUME_CLAIMS)
        self._classes = informer(STORAGE_CLASSES)
        self._volumes = informer(PERSISTENT_VOLUMES)
        self._nodes = informer(NODES)
        self._csi_nodes = informer(CSI_NODES)
        self._sources = Sources(context, self._claims, self._volumes)
        self._undecided: dict[str, Object] = {}
        """Claims by key whose volumes the driver may be making. If such a claim is deleted its volume must come about
        all the same, or nobody would remove it."""
        self._controller = context.controller("provisioner", self.reconcile)
        for each in (self._classes, self._volumes, self._nodes, self._csi_nodes):
            self._controller.reads(each)
        self._controller.handles(
            self._claims,
            Callbacks(added=self._seen, updated=lambda old, new: self._seen(new), deleted=_nothing),
        )

    async def run(self) -> None:
        await self._controller.run()

    def _seen(self, claim: Object) -> None:
        if plan.is_asked_for(claim, self._driver):
            self._controller.queue.add(key_of(claim))

    async def reconcile(self, key: str) -> None:
        """Make the volume that a claim asks this driver for. ``key`` is the claim's."""
        claim = self._claims.store.get(*split_key(key)) or self._undecided.get(key)
        if claim is None or not plan.is_asked_for(claim, self._driver):
            return
        if self._volumes.store.get("", plan.volume_name(claim)) is not None:
            return  # it is made, and the binder's
        storage_class = self._classes.store.get("", matching.class_of(claim))
        if storage_class is None or storage_class["provisioner"] != self._driver:
            return  # the binder says so in an event
        if not await self._is_ours(claim, storage_class):
            return
        self._event(claim, "Normal", "Provisioning", f'External provisioner is provisioning volume for claim "{key}"')
        try:
            await self._provision(claim, storage_class)
        except (GrpcError, ParameterError, TopologyError, SourceTrouble, errors.ApiError) as error:
            await self._failed(claim, storage_class, error)

    async def _is_ours(self, claim: Object, storage_class: Object) -> bool:
        """Whether it is this process that is to act, now. A driver on every node acts for the node that is chosen."""
        node, selected = self._context.options.node, plan.selected_node(claim)
        if plan.waits_for_consumer(storage_class) and not selected:
            return False
        if not node or selected == node:
            return True
        if not selected and not plan.waits_for_consumer(storage_class):
            await self._propose(claim, node)
        return False

    async def _propose(self, claim: Object, node: str) -> None:
        """Nobody chooses a node for this claim: the first that can take it does. All others meet a conflict."""
        wanted = copy(claim)
        wanted["metadata"].setdefault("annotations", {})[SELECTED_NODE] = node
        try:
            await self._client.update(PERSISTENT_VOLUME_CLAIMS, wanted)
        except errors.Conflict:
            return  # another node was first

    async def _provision(self, claim: Object, storage_class: Object) -> None:
        wanted = await self._wanted(claim, storage_class)
        request = plan.create_request(wanted)
        secrets = await read_secret(self._client, wanted.secret("provisioner"))
        answer = await self._context.connection.call(
            "CreateVolume", self._context.options.timeout, **request, secrets=secrets
        )
        self._undecided.pop(key_of(claim), None)
        made = answer.volume
        if problem := _answer_problem(made, request):
            await self._delete(made.volume_id, secrets)
            raise GrpcError(StatusCode.INTERNAL, problem)
        with contextlib.suppress(errors.AlreadyExists):  # an earlier attempt made it, and did not hear of it
            await self._client.create(PERSISTENT_VOLUMES, plan.persistent_volume(wanted, made, self._identity))
        self._event(claim, "Normal", "ProvisioningSucceeded", f"Successfully provisioned volume {wanted.name}")

    async def _wanted(self, claim: Object, storage_class: Object) -> Wanted:
        return Wanted(
            claim=claim,
            storage_class=storage_class,
            driver=self._driver,
            requirement=self._requirement(claim, storage_class),
            source=await self._sources.source(claim),
            mutable=await self._mutable(claim),
            single_node="SINGLE_NODE_MULTI_WRITER" in self._context.facts.controller,
            default_fs_type=self._context.options.default_fs_type,
            extra_metadata=self._context.options.extra_create_metadata,
        )

    def _requirement(self, claim: Object, storage_class: Object) -> dict[str, Any] | None:
        """Raises ``TopologyError``."""
        if not self._context.facts.has_topology:
            return None
        selected, name = None, plan.selected_node(claim)
        if name:
            node, csi_node = self._nodes.store.get("", name), self._csi_nodes.store.get("", name)
            if node is None or csi_node is None:
                raise TopologyError(f'error getting CSINode for selected node "{name}"')
            selected = topology.segments_of(node, topology.keys_of(csi_node, self._driver))
            if selected is None:
                raise TopologyError(f'node "{name}" lacks labels of the driver\'s topology')
        return topology.requirement(
            selected=selected,
            everywhere=self._everywhere(),
            allowed=topology.allowed_segments(storage_class),
            strict=bool(self._context.options.node),
        )

    def _everywhere(self) -> list[Segments]:
        places = []
        for csi_node in self._csi_nodes.store.list():
            keys = topology.keys_of(csi_node, self._driver)
            node = self._nodes.store.get("", name_of(csi_node))
            if keys and node is not None and (segments := topology.segments_of(node, keys)):
                places.append(segments)
        return places

    async def _mutable(self, claim: Object) -> dict[str, str] | None:
        """Parameters of the claim's VolumeAttributesClass (KEP-3751)."""
        name = claim["spec"].get("volumeAttributesClassName")
        if not name:
            return None
        attributes_class = await self._client.get(VOLUME_ATTRIBUTES_CLASSES, name)
        if attributes_class["driverName"] != self._driver:
            raise ParameterError(f"VolumeAttributesClass {name} is for driver {attributes_class['driverName']}")
        return dict(attributes_class.get("parameters") or {})

    async def _failed(self, claim: Object, storage_class: Object, error: Exception) -> None:
        """Report, and say when to try again. Raises ``TryAgain``."""
        text = describe(error) if isinstance(error, GrpcError) else str(error)
        name, key = name_of(storage_class), key_of(claim)
        message = f'failed to provision volume with StorageClass "{name}": {text}'
        self._event(claim, "Warning", "ProvisioningFailed", message)
        undecided = isinstance(error, GrpcError) and not is_final(error) and error.code != StatusCode.RESOURCE_EXHAUSTED
        if undecided:
            self._undecided[key] = claim
        elif isinstance(error, GrpcError):
            self._undecided.pop(key, None)
        full = isinstance(error, GrpcError) and error.code == StatusCode.RESOURCE_EXHAUSTED
        if full and plan.selected_node(claim) and key not in self._undecided:
            await self._reschedule(claim)
            return
        raise TryAgain(message)

    async def _reschedule(self, claim: Object) -> None:
        """Another node may have room: let the scheduler choose again."""
        wanted = copy(claim)
        del wanted["metadata"]["annotations"][SELECTED_NODE]
        await self._client.update(PERSISTENT_VOLUME_CLAIMS, wanted)

    async def _delete(self, volume_id: str, secrets: dict[str, str]) -> None:
        if volume_id:
            timeout = self._context.options.timeout
            await self._context.connection.call("DeleteVolume", timeout, volume_id=volume_id, secrets=secrets)

    def _event(self, claim: Object, type: Any, reason: str, message: str) -> None:
        self._recorder.event(claim, type, reason, message)


def _answer_problem(made: Any, request: dict[str, Any]) -> str:
    """Why a volume is not what was asked for; empty if it is."""
    required = request["capacity_range"].get("required_bytes", 0)
    if made.capacity_bytes and made.capacity_bytes < required:
        return f"created volume capacity {made.capacity_bytes} less than requested capacity {required}"
    if request.get("volume_content_source") and not made.HasField("content_source"):
        return "volume content source missing"
    return ""


def _nothing(obj: Object) -> None:
    """A claim that is gone asks for nothing; its volume is released."""
