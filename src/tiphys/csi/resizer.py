"""Lets volumes grow when their claims ask for more, and changes their attributes when claims name another class.

Growth is done in two parts if the driver says so: the volume here, its file system on the node. Source:
https://kubernetes-csi.github.io/docs/external-resizer.html, KEP-1790 and KEP-3751
"""

from __future__ import annotations

from typing import Any

from tiphys.api.csi.capabilities import capability
from tiphys.api.meta.quantity import Format, Quantity
from tiphys.api.object import Object
from tiphys.api.volumes.matching import capacity, request
from tiphys.client import errors
from tiphys.client.informer import Callbacks
from tiphys.client.resources import PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, VOLUME_ATTRIBUTES_CLASSES
from tiphys.controlkit.objects import copy, key_of, name_of, namespace_of, split_key, status_of, timestamp, uid_of
from tiphys.controlkit.retry import TryAgain
from tiphys.csi.context import DriverContext, read_secret, secret_of
from tiphys.csi.local_nodes import is_on_node
from tiphys.wire.grpc.caller import describe
from tiphys.wire.grpc.codes import StatusCode
from tiphys.wire.grpc.stream import GrpcError

_INFEASIBLE = (StatusCode.INVALID_ARGUMENT, StatusCode.OUT_OF_RANGE, StatusCode.NOT_FOUND)
_OF_GROWTH = ("Resizing", "FileSystemResizePending", "ControllerResizeError", "NodeResizeError")
_OF_MODIFICATION = ("ModifyingVolume", "ModifyVolumeError")
_WAITS = "Waiting for user to (re-)start a pod to finish file system resize of volume on node."


class Resizer:
    def __init__(self, context: DriverContext) -> None:
        self._context = context
        self._client = context.client
        self._driver = context.facts.name
        self._recorder = context.recorder.named(f"external-resizer {self._driver}")
        informer = context.informers.informer
        self._claims, self._volumes = informer(PERSISTENT_VOLUME_CLAIMS), informer(PERSISTENT_VOLUMES)
        self._classes = informer(VOLUME_ATTRIBUTES_CLASSES)
        self._controller = context.controller("resizer", self.reconcile)
        self._controller.handles(
            self._claims,
            Callbacks(added=self._seen, updated=self._updated, deleted=lambda obj: None),
        )
        self._controller.reads(self._volumes)
        self._controller.watches(self._classes, self._claims_of_class)

    async def run(self) -> None:
        await self._controller.run()

    def _updated(self, old: Object, new: Object) -> None:
        """What this controller writes into the status is no reason to look again."""
        if old["spec"] != new["spec"] or status_of(old).get("phase") != status_of(new).get("phase"):
            self._seen(new)

    def _seen(self, claim: Object) -> None:
        if is_growing(claim) or is_changing(claim):
            self._controller.queue.add(key_of(claim))

    def _claims_of_class(self, attributes_class: Object) -> list[str]:
        name = name_of(attributes_class)
        return [
            key_of(claim)
            for claim in self._claims.store.list()
            if claim["spec"].get("volumeAttributesClassName") == name and is_changing(claim)
        ]

    async def reconcile(self, key: str) -> None:
        claim = self._claims.store.get(*split_key(key))
        volume = None if claim is None else self._volume_of(claim)
        if claim is None or volume is None or not is_on_node(volume, self._context):
            return
        try:  # what was written the last time may not have come back yet
            claim = await self._client.get(PERSISTENT_VOLUME_CLAIMS, name_of(claim), namespace_of(claim))
            volume = await self._client.get(PERSISTENT_VOLUMES, name_of(volume))
        except errors.NotFound:
            return
        if is_growing(claim):
            await self._grow(claim, volume)
        elif is_changing(claim) and "MODIFY_VOLUME" in self._context.facts.controller:
            await self._modify(claim, volume)

    def _volume_of(self, claim: Object) -> Object | None:
        """The claim's volume, if it is this driver's, and theirs is a pair."""
        volume = self._volumes.store.get("", claim["spec"].get("volumeName") or "")
        if volume is None or (volume["spec"].get("csi") or {}).get("driver") != self._driver:
            return None
        return volume if (volume["spec"].get("claimRef") or {}).get("uid") == uid_of(claim) else None

    # Growth

    async def _grow(self, claim: Object, volume: Object) -> None:
        wanted = request(claim)
        if capacity(volume) >= wanted and waits_for_node(claim):
            return
        if "EXPAND_VOLUME" not in self._context.facts.controller:
            await self._set_capacity(volume, wanted)
            await self._hand_to_node(claim, wanted)
            return
        claim = await self._begin(claim, wanted)
        try:
            grown, needs_node = await self._expand(volume, wanted)
        except GrpcError as error:
            await self._growth_failed(claim, volume, error)
            return
        await self._set_capacity(volume, grown)
        if needs_node:
            await self._hand_to_node(claim, wanted)
        else:
            await self._finish(claim, grown)

    async def _begin(self, claim: Object, wanted: Quantity) -> Object:
        message = f"External resizer is resizing volume {claim['spec']['volumeName']}"
        self._recorder.event(claim, "Normal", "Resizing", message)
        status = {
            "allocatedResources": {"storage": str(wanted)},
            "allocatedResourceStatuses": {"storage": "ControllerResizeInProgress"},
            "conditions": self._with_condition(claim, "Resizing", _OF_GROWTH),
        }
        return await self._set_status(claim, status)

    async def _expand(self, volume: Object, wanted: Quantity) -> tuple[Quantity, bool]:
        """The new size, and whether the node has a part in it. Raises ``GrpcError``."""
        source = volume["spec"]["csi"]
        answer = await self._context.connection.call(
            "ControllerExpandVolume",
            self._context.options.timeout,
            volume_id=source["volumeHandle"],
            capacity_range={"required_bytes": wanted.value()},
            secrets=await read_secret(self._client, secret_of(source.get("controllerExpandSecretRef"))),
            volume_capability=self._capability(volume),
        )
        grown = Quantity.of(answer.capacity_bytes, Format.BINARY_SI)
        return max(grown, wanted), answer.node_expansion_required

    def _capability(self, volume: Object) -> dict[str, Any]:
        spec = volume["spec"]
        return capability(
            (spec.get("accessModes") or ("ReadWriteOnce",))[0],
            block=spec.get("volumeMode") == "Block",
            fs_type=spec["csi"].get("fsType") or "",
            mount_options=spec.get("mountOptions") or (),
            single_node="SINGLE_NODE_MULTI_WRITER" in self._context.facts.controller,
        )

    async def _set_capacity(self, volume: Object, size: Quantity) -> None:
        wanted = copy(volume)
        wanted["spec"]["capacity"] = {**(volume["spec"].get("capacity") or {}), "storage": str(size)}
        await self._client.update(PERSISTENT_VOLUMES, wanted)

    async def _hand_to_node(self, claim: Object, wanted: Quantity) -> None:
        status = {
            "allocatedResources": {"storage": str(wanted)},
            "allocatedResourceStatuses": {"storage": "NodeResizePending"},
            "conditions": self._with_condition(claim, "FileSystemResizePending", _OF_GROWTH, _WAITS),
        }
        await self._set_status(claim, status)
        message = "Require file system resize of volume on node"
        self._recorder.event(claim, "Normal", "FileSystemResizeRequired", message)

    async def _finish(self, claim: Object, size: Quantity) -> None:
        left = [each for each in status_of(claim).get("conditions") or [] if each["type"] not in _OF_GROWTH]
        status = {
            "capacity": {"storage": str(size)},
            "allocatedResourceStatuses": {"storage": None},
            "conditions": left or None,
        }
        await self._set_status(claim, status)
        self._recorder.event(claim, "Normal", "VolumeResizeSuccessful", "Resize volume succeeded")

    async def _growth_failed(self, claim: Object, volume: Object, error: GrpcError) -> None:
        """Report, and try again; what can never be is not tried again before the claim changes. Raises ``TryAgain``."""
        text = describe(error)
        message = f'resize volume "{name_of(volume)}" by resizer "{self._driver}" failed: {text}'
        self._recorder.event(claim, "Warning", "VolumeResizeFailed", message)
        infeasible = error.code in _INFEASIBLE
        status = {
            "allocatedResourceStatuses": {
                "storage": "ControllerResizeInfeasible" if infeasible else "ControllerResizeInProgress"
            },
            "conditions": self._with_condition(claim, "ControllerResizeError", ("ControllerResizeError",), text),
        }
        await self._set_status(claim, status)
        raise TryAgain(message)

    # Attributes

    async def _modify(self, claim: Object, volume: Object) -> None:
        target = claim["spec"]["volumeAttributesClassName"]
        attributes = self._classes.store.get("", target)
        if attributes is None or attributes["driverName"] != self._driver:
            why = f'VolumeAttributesClass "{target}" does not exist or is of another driver'
            await self._set_status(claim, {"modifyVolumeStatus": _modification(target, "Pending")})
            self._recorder.event(claim, "Warning", "VolumeModifyFailed", why)
            raise TryAgain(why)
        self._recorder.event(claim, "Normal", "VolumeModify", f"external resizer is modifying volume {name_of(volume)}")
        conditions = self._with_condition(claim, "ModifyingVolume", _OF_MODIFICATION)
        status = {"modifyVolumeStatus": _modification(target, "InProgress"), "conditions": conditions}
        claim = await self._set_status(claim, status)
        source = volume["spec"]["csi"]
        try:
            await self._context.connection.call(
                "ControllerModifyVolume",
                self._context.options.timeout,
                volume_id=source["volumeHandle"],
                secrets=await read_secret(self._client, secret_of(source.get("controllerExpandSecretRef"))),
                mutable_parameters=attributes.get("parameters") or {},
            )
        except GrpcError as error:
            await self._modification_failed(claim, target, error)
            return
        wanted = copy(volume)
        wanted["spec"]["volumeAttributesClassName"] = target
        await self._client.update(PERSISTENT_VOLUMES, wanted)
        left = [each for each in status_of(claim).get("conditions") or [] if each["type"] not in _OF_MODIFICATION]
        done = {"currentVolumeAttributesClassName": target, "modifyVolumeStatus": None, "conditions": left or None}
        await self._set_status(claim, done)
        message = f"external resizer modified volume {name_of(volume)} successfully"
        self._recorder.event(claim, "Normal", "VolumeModifySuccessful", message)

    async def _modification_failed(self, claim: Object, target: str, error: GrpcError) -> None:
        """Raises ``TryAgain``."""
        text = describe(error)
        self._recorder.event(claim, "Warning", "VolumeModifyFailed", text)
        state = "Infeasible" if error.code in _INFEASIBLE else "InProgress"
        conditions = self._with_condition(claim, "ModifyVolumeError", ("ModifyVolumeError",), text)
        await self._set_status(claim, {"modifyVolumeStatus": _modification(target, state), "conditions": conditions})
        raise TryAgain(text)

    # Status

    def _with_condition(self, claim: Object, type: str, replaced: tuple[str, ...], message: str = "") -> list[Object]:
        """The claim's conditions with a new one in place of those that it ends."""
        left = [each for each in status_of(claim).get("conditions") or [] if each["type"] not in replaced]
        condition: Object = {"type": type, "status": "True", "lastTransitionTime": timestamp(self._context.clock.now())}
        if message:
            condition["message"] = message
        return [*left, condition]

    async def _set_status(self, claim: Object, status: Object) -> Object:
        name, namespace = name_of(claim), namespace_of(claim)
        patch = {"status": status}
        return await self._client.patch(PERSISTENT_VOLUME_CLAIMS, name, patch, namespace, subresource="status")


def is_growing(claim: Object) -> bool:
    present = (status_of(claim).get("capacity") or {}).get("storage")
    return status_of(claim).get("phase") == "Bound" and present is not None and request(claim) > Quantity(present)


def is_changing(claim: Object) -> bool:
    target = claim["spec"].get("volumeAttributesClassName")
    current = status_of(claim).get("currentVolumeAttributesClassName")
    return status_of(claim).get("phase") == "Bound" and bool(target) and target != current


def waits_for_node(claim: Object) -> bool:
    return (status_of(claim).get("allocatedResourceStatuses") or {}).get("storage") in (
        "NodeResizePending",
        "NodeResizeInProgress",
    )


def _modification(target: str, state: str) -> Object:
    return {"targetVolumeAttributesClassName": target, "status": state}
