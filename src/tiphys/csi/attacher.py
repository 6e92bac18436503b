"""Does what VolumeAttachments ask for: has the driver publish volumes to nodes, and take them back.

Source: https://kubernetes-csi.github.io/docs/external-attacher.html
"""

from __future__ import annotations

from tiphys.api.csi.capabilities import capability
from tiphys.api.object import Object
from tiphys.client import errors
from tiphys.client.informer import Callbacks
from tiphys.client.resources import CSI_NODES, PERSISTENT_VOLUMES, VOLUME_ATTACHMENTS
from tiphys.controlkit.objects import (
    annotations_of,
    copy,
    finalizers_of,
    is_deleting,
    name_of,
    status_of,
    timestamp,
)
from tiphys.controlkit.retry import TryAgain
from tiphys.csi.context import DriverContext, read_secret, secret_of
from tiphys.runtime.tasks import Runner
from tiphys.wire.grpc.caller import describe
from tiphys.wire.grpc.stream import GrpcError

_NODE_ID = "csi.alpha.kubernetes.io/node-id"
"""On an attachment: the node's id for the driver, for when the node is gone."""


class Attacher:
    def __init__(self, context: DriverContext) -> None:
        self._context = context
        self._client = context.client
        self._driver = context.facts.name
        self._finalizer = f"external-attacher/{self._driver.replace('/', '-')}"
        self._works = "PUBLISH_UNPUBLISH_VOLUME" in context.facts.controller
        informer = context.informers.informer
        self._attachments = informer(VOLUME_ATTACHMENTS)
        self._volumes, self._csi_nodes = informer(PERSISTENT_VOLUMES), informer(CSI_NODES)
        self._controller = context.controller("attacher", self.reconcile)
        self._controller.handles(
            self._attachments, Callbacks(added=self._seen, updated=self._updated, deleted=_nothing)
        )
        self._controller.reads(self._csi_nodes)
        self._releases = context.controller("attacher_volumes", self.release)
        self._releases.watches(self._volumes)
        self._releases.handles(self._attachments, Callbacks(added=_nothing, deleted=self._detached))

    async def run(self) -> None:
        async with Runner(self._context.clock, "attacher ") as runner:
            runner.supervise(self._releases.run, "volumes")
            await self._controller.run()

    def _updated(self, old: Object, new: Object) -> None:
        """An error that this controller has written is no reason to look again."""
        if is_deleting(old) != is_deleting(new) or status_of(old).get("attached") != status_of(new).get("attached"):
            self._seen(new)

    def _seen(self, attachment: Object) -> None:
        if attachment["spec"]["attacher"] == self._driver:
            self._controller.queue.add(name_of(attachment))

    def _detached(self, attachment: Object) -> None:
        self._releases.queue.add(_volume_of(attachment))

    async def reconcile(self, name: str) -> None:
        attachment = self._attachments.store.get("", name)
        if attachment is None:
            return
        if is_deleting(attachment):
            await self._detach(attachment)
        elif not status_of(attachment).get("attached"):
            await self._attach(attachment)

    # Attaching

    async def _attach(self, attachment: Object) -> None:
        if not self._works:
            await self._set_status(attachment, {"attached": True})
            return
        try:
            metadata = await self._publish(attachment)
        except (GrpcError, TryAgain) as error:
            why = describe(error) if isinstance(error, GrpcError) else str(error)
            code = {"errorCode": int(error.code)} if isinstance(error, GrpcError) else {}
            await self._set_status(attachment, {"attached": False, "attachError": self._error(why) | code})
            raise TryAgain(f"{name_of(attachment)}: {why}") from error
        await self._set_status(attachment, {"attached": True, "attachmentMetadata": metadata, "attachError": None})

    async def _publish(self, attachment: Object) -> dict[str, str]:
        """Call the driver; what it says is for the node. Raises ``GrpcError`` and ``TryAgain``."""
        volume = self._volumes.store.get("", _volume_of(attachment))
        if volume is None:
            raise TryAgain(f'persistentvolume "{_volume_of(attachment)}" not found')
        if is_deleting(volume):
            raise TryAgain(f'PersistentVolume "{name_of(volume)}" is marked for deletion')
        node_id = self._node_id(attachment)
        await self._protect(attachment, volume, node_id)
        source = volume["spec"]["csi"]
        modes = volume["spec"].get("accessModes") or ("ReadWriteOnce",)
        answer = await self._context.connection.call(
            "ControllerPublishVolume",
            self._context.options.timeout,
            volume_id=source["volumeHandle"],
            node_id=node_id,
            volume_capability=capability(
                modes[0],
                block=volume["spec"].get("volumeMode") == "Block",
                fs_type=source.get("fsType") or "",
                mount_options=volume["spec"].get("mountOptions") or (),
                single_node="SINGLE_NODE_MULTI_WRITER" in self._context.facts.controller,
            ),
            readonly=bool(source.get("readOnly")) and "PUBLISH_READONLY" in self._context.facts.controller,
            secrets=await read_secret(self._client, secret_of(source.get("controllerPublishSecretRef"))),
            volume_context=source.get("volumeAttributes") or {},
        )
        return dict(answer.publish_context)

    async def _protect(self, attachment: Object, volume: Object, node_id: str) -> None:
        """Before the driver acts: neither may go before the volume is detached."""
        if self._finalizer not in finalizers_of(volume):
            wanted = copy(volume)
            wanted["metadata"]["finalizers"] = [*finalizers_of(volume), self._finalizer]
            await self._client.update(PERSISTENT_VOLUMES, wanted)
        known = annotations_of(attachment).get(_NODE_ID) == node_id
        if self._finalizer not in finalizers_of(attachment) or not known:
            finalizers = sorted({*finalizers_of(attachment), self._finalizer})
            patch = {"metadata": {"finalizers": finalizers, "annotations": {_NODE_ID: node_id}}}
            await self._client.patch(VOLUME_ATTACHMENTS, name_of(attachment), patch)

    def _node_id(self, attachment: Object) -> str:
        """Raises ``TryAgain``."""
        node = attachment["spec"]["nodeName"]
        csi_node = self._csi_nodes.store.get("", node)
        for each in ((csi_node or {}).get("spec") or {}).get("drivers") or []:
            if each["name"] == self._driver:
                return str(each["nodeID"])
        if known := annotations_of(attachment).get(_NODE_ID):
            return str(known)
        raise TryAgain(f"CSINode {node} does not contain driver {self._driver}")

    # Detaching

    async def _detach(self, attachment: Object) -> None:
        if self._finalizer not in finalizers_of(attachment):
            return
        volume = self._volumes.store.get("", _volume_of(attachment))
        try:
            if volume is not None:
                await self._unpublish(attachment, volume["spec"]["csi"])
        except (GrpcError, TryAgain) as error:
            why = describe(error) if isinstance(error, GrpcError) else str(error)
            await self._set_status(attachment, {"detachError": self._error(why)})
            raise TryAgain(f"{name_of(attachment)}: {why}") from error
        finalizers = [each for each in finalizers_of(attachment) if each != self._finalizer]
        try:
            patch = {"metadata": {"finalizers": finalizers or None}}
            await self._client.patch(VOLUME_ATTACHMENTS, name_of(attachment), patch)
        except errors.NotFound:
            return

    async def _unpublish(self, attachment: Object, source: Object) -> None:
        await self._context.connection.call(
            "ControllerUnpublishVolume",
            self._context.options.timeout,
            volume_id=source["volumeHandle"],
            node_id=self._node_id(attachment),
            secrets=await read_secret(self._client, secret_of(source.get("controllerPublishSecretRef"))),
        )

    async def release(self, name: str) -> None:
        """Let a volume go that is deleted and attached nowhere."""
        volume = self._volumes.store.get("", name)
        if volume is None or not is_deleting(volume) or self._finalizer not in finalizers_of(volume):
            return
        if any(_volume_of(each) == name for each in self._attachments.store.list()):
            return
        wanted = copy(volume)
        wanted["metadata"]["finalizers"] = [each for each in finalizers_of(volume) if each != self._finalizer]
        await self._client.update(PERSISTENT_VOLUMES, wanted)

    # Status

    async def _set_status(self, attachment: Object, status: Object) -> None:
        patch = {"status": {"attached": bool(status_of(attachment).get("attached")), **status}}
        await self._client.patch(VOLUME_ATTACHMENTS, name_of(attachment), patch, subresource="status")

    def _error(self, why: str) -> Object:
        return {"message": why, "time": timestamp(self._context.clock.now())}


def _volume_of(attachment: Object) -> str:
    return str((attachment["spec"].get("source") or {}).get("persistentVolumeName") or "")


def _nothing(obj: Object) -> None:
    """A new attachment releases no volume; one that is gone asks for nothing."""
