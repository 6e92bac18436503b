"""Removes the volumes of claims that are gone, if their reclaim policy says so.

Source: https://kubernetes.io/docs/concepts/storage/persistent-volumes/#reclaiming (KEP-2644)
"""

from __future__ import annotations

from tiphys.api.object import Object
from tiphys.client import errors
from tiphys.client.resources import PERSISTENT_VOLUMES, VOLUME_ATTACHMENTS
from tiphys.controlkit.objects import annotations_of, copy, finalizers_of, is_deleting, name_of, status_of
from tiphys.controlkit.retry import TryAgain
from tiphys.csi.context import DriverContext, read_secret
from tiphys.csi.local_nodes import is_on_node
from tiphys.csi.provisioner import plan
from tiphys.wire.grpc.caller import describe
from tiphys.wire.grpc.stream import GrpcError


class Reclaimer:
    def __init__(self, context: DriverContext) -> None:
        self._context = context
        self._client = context.client
        self._recorder = context.recorder.named(f"{context.facts.name}_{context.options.node or 'provisioner'}")
        self._volumes = context.informers.informer(PERSISTENT_VOLUMES)
        self._attachments = context.informers.informer(VOLUME_ATTACHMENTS)
        self._controller = context.controller("reclaim", self.reconcile)
        self._controller.watches(self._volumes)
        self._controller.reads(self._attachments)

    async def run(self) -> None:
        await self._controller.run()

    async def reconcile(self, name: str) -> None:
        """Delete a released volume, at the driver and then in the API."""
        volume = self._volumes.store.get("", name)
        if volume is None or not is_ours(volume, self._context.facts.name):
            return
        if not is_on_node(volume, self._context):
            return
        if not is_to_be_deleted(volume):
            await self._settle_finalizer(volume)
            return
        for attachment in self._attachments.store.list():
            if (attachment["spec"].get("source") or {}).get("persistentVolumeName") == name:
                raise TryAgain(f"persistentvolume {name} is still attached to node {attachment['spec']['nodeName']}")
        secrets = await read_secret(self._client, plan.deletion_secret(volume))
        handle, timeout = volume["spec"]["csi"]["volumeHandle"], self._context.options.timeout
        try:
            await self._context.connection.call("DeleteVolume", timeout, volume_id=handle, secrets=secrets)
        except GrpcError as error:
            self._recorder.event(volume, "Warning", "VolumeFailedDelete", describe(error))
            raise TryAgain(f"volume {name} cannot be deleted: {describe(error)}") from error
        await self._forget(volume)

    async def _forget(self, volume: Object) -> None:
        try:
            if not is_deleting(volume):
                await self._client.delete(PERSISTENT_VOLUMES, name_of(volume))
                volume = await self._client.get(PERSISTENT_VOLUMES, name_of(volume))
            await self._without_finalizer(volume)
        except errors.NotFound:
            return

    async def _without_finalizer(self, volume: Object) -> None:
        if plan.FINALIZER in finalizers_of(volume):
            wanted = copy(volume)
            wanted["metadata"]["finalizers"] = [each for each in finalizers_of(volume) if each != plan.FINALIZER]
            await self._client.update(PERSISTENT_VOLUMES, wanted)

    async def _settle_finalizer(self, volume: Object) -> None:
        """Only a volume that is to be deleted with its claim is protected, and its policy may change."""
        deletes = volume["spec"].get("persistentVolumeReclaimPolicy") == "Delete"
        protected = plan.FINALIZER in finalizers_of(volume)
        if protected and not deletes:
            await self._without_finalizer(volume)
        elif deletes and not protected and not is_deleting(volume):
            wanted = copy(volume)
            wanted["metadata"]["finalizers"] = [*finalizers_of(volume), plan.FINALIZER]
            await self._client.update(PERSISTENT_VOLUMES, wanted)


def is_ours(volume: Object, driver: str) -> bool:
    """Whether this driver's provisioner made the volume."""
    source = volume["spec"].get("csi") or {}
    return source.get("driver") == driver and annotations_of(volume).get(plan.PROVISIONED_BY) == driver


def is_to_be_deleted(volume: Object) -> bool:
    if volume["spec"].get("persistentVolumeReclaimPolicy") != "Delete":
        return False
    if is_deleting(volume):  # and no protection but ours holds it
        phase = status_of(volume).get("phase")
        return phase != "Bound" and "kubernetes.io/pv-protection" not in finalizers_of(volume)
    return status_of(volume).get("phase") in ("Released", "Failed")
