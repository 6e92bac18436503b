"""Takes snapshots of this driver's volumes: VolumeSnapshots get contents, and contents get snapshots of the driver.

Upstream has two programs for the two halves; here one does both for its driver, and either of upstream's may run beside
it: what one has made the other finds. Source: https://kubernetes-csi.github.io/docs/external-snapshotter.html
"""

from __future__ import annotations

import asyncio
import contextlib
import logging

from tiphys.api.object import Object
from tiphys.client import errors
from tiphys.client.informer import Callbacks, InformerFactory
from tiphys.client.resources import PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES
from tiphys.controlkit.controller import Result
from tiphys.controlkit.objects import (
    annotations_of,
    finalizers_of,
    is_deleting,
    key_of,
    labels_of,
    name_of,
    namespace_of,
    split_key,
    status_of,
    timestamp,
    uid_of,
)
from tiphys.controlkit.retry import TryAgain
from tiphys.csi.context import DriverContext, read_secret
from tiphys.csi.local_nodes import is_on_node
from tiphys.csi.snapshots import plan
from tiphys.csi.snapshots.resources import VOLUME_SNAPSHOT_CLASSES, VOLUME_SNAPSHOT_CONTENTS, VOLUME_SNAPSHOTS
from tiphys.runtime.tasks import Runner
from tiphys.wire.grpc.caller import describe
from tiphys.wire.grpc.stream import GrpcError

log = logging.getLogger(__name__)

_LOOK_FOR_KINDS = 10.0
_NOT_READY_YET = 2.0


class Snapshotter:
    def __init__(self, context: DriverContext) -> None:
        self._context = context
        self._client = context.client
        self._driver = context.facts.name
        self._recorder = context.recorder.named(f"snapshot-controller {self._driver}")
        self._claims = context.informers.informer(PERSISTENT_VOLUME_CLAIMS)
        self._volumes = context.informers.informer(PERSISTENT_VOLUMES)
        self._own = InformerFactory(context.client, context.clock)
        self._snapshots = self._own.informer(VOLUME_SNAPSHOTS)
        self._contents = self._own.informer(VOLUME_SNAPSHOT_CONTENTS)
        self._classes = self._own.informer(VOLUME_SNAPSHOT_CLASSES)
        self._for_snapshots = context.controller("snapshots", self.reconcile)
        self._for_contents = context.controller("snapshot_contents", self.reconcile_content)
        self._for_snapshots.watches(self._snapshots)
        self._for_snapshots.watches(self._contents, _snapshot_key)
        self._for_contents.handles(
            self._contents, Callbacks(added=self._content_seen, updated=self._content_updated, deleted=lambda obj: None)
        )
        for controller in (self._for_snapshots, self._for_contents):
            for informer in (self._claims, self._volumes, self._classes, self._contents, self._snapshots):
                controller.reads(informer)

    async def run(self) -> None:
        """Works once the kinds are there: their CRDs may be installed at any time."""
        await self._wait_for_kinds()
        async with Runner(self._context.clock, "snapshotter ") as runner:
            runner.supervise(self._own.run, "informers")
            runner.supervise(self._for_contents.run, "contents")
            runner.supervise(self._for_snapshots.run, "snapshots")
            await asyncio.Event().wait()

    def _content_updated(self, old: Object, new: Object) -> None:
        """An error that this controller has written is no reason to look again."""
        if old["spec"] != new["spec"] or is_deleting(old) != is_deleting(new):
            self._content_seen(new)

    def _content_seen(self, content: Object) -> None:
        if content["spec"]["driver"] == self._driver:
            self._for_contents.queue.add(name_of(content))

    async def _wait_for_kinds(self) -> None:
        while True:
            try:
                for resource in (VOLUME_SNAPSHOTS, VOLUME_SNAPSHOT_CONTENTS, VOLUME_SNAPSHOT_CLASSES):
                    await self._client.list(resource, limit=1)
            except (errors.ApiError, ConnectionError, TimeoutError) as error:
                log.debug("the kinds of snapshots are not there: %s", error)
                await self._context.clock.sleep(_LOOK_FOR_KINDS)
            else:
                return

    # Snapshots

    async def reconcile(self, key: str) -> None:
        snapshot = self._snapshots.store.get(*split_key(key))
        if snapshot is None:
            return
        content = self._content_of(snapshot)
        if content is not None and content["spec"]["driver"] != self._driver:
            return
        if is_deleting(snapshot):
            await self._release(snapshot, content)
        elif content is None:
            await self._make_content(snapshot)
        elif self._is_mine(content):
            await self._bind(snapshot, content)

    def _content_of(self, snapshot: Object) -> Object | None:
        name = snapshot["spec"]["source"].get("volumeSnapshotContentName") or plan.content_name(snapshot)
        content = self._contents.store.get("", name)
        return content if content is not None and plan.is_bound_to(content, snapshot) else None

    def _is_mine(self, content: Object) -> bool:
        """Whether it is this process that looks after a content; a driver on every node says whose each is."""
        node = self._context.options.node
        return not node or labels_of(content).get(plan.MANAGED_BY) == node

    async def _make_content(self, snapshot: Object) -> None:
        claim_name = snapshot["spec"]["source"].get("persistentVolumeClaimName")
        claim = self._claims.store.get(namespace_of(snapshot), claim_name) if claim_name else None
        volume = self._volumes.store.get("", claim["spec"].get("volumeName") or "") if claim else None
        if volume is None or (volume["spec"].get("csi") or {}).get("driver") != self._driver:
            return
        if not is_on_node(volume, self._context):
            return
        snapshot_class = self._class_of(snapshot)
        if snapshot_class is None:
            why = f"failed to get a VolumeSnapshotClass of driver {self._driver}: name one, or mark one as the default"
            await self._set_error(snapshot, why)
            self._recorder.event(snapshot, "Warning", "GetSnapshotClassFailed", why)
            return
        await self._protect(snapshot)
        content = plan.new_content(snapshot, snapshot_class, volume, self._context.options.node)
        try:
            await self._client.create(VOLUME_SNAPSHOT_CONTENTS, content)
        except errors.AlreadyExists:
            return  # the informer will show it
        message = f"Waiting for a snapshot {key_of(snapshot)} to be created by the CSI driver."
        self._recorder.event(snapshot, "Normal", "CreatingSnapshot", message)

    def _class_of(self, snapshot: Object) -> Object | None:
        name = snapshot["spec"].get("volumeSnapshotClassName")
        if name is None:
            return plan.default_class(self._classes.store.list(), self._driver)
        snapshot_class = self._classes.store.get("", name)
        return snapshot_class if snapshot_class is not None and snapshot_class["driver"] == self._driver else None

    async def _protect(self, snapshot: Object) -> None:
        wanted = {plan.BOUND, plan.SOURCE}
        if not wanted <= set(finalizers_of(snapshot)):
            patch = {"metadata": {"finalizers": sorted({*finalizers_of(snapshot), *wanted})}}
            await self._client.patch(VOLUME_SNAPSHOTS, name_of(snapshot), patch, namespace_of(snapshot))

    async def _bind(self, snapshot: Object, content: Object) -> None:
        """Let the two know each other, and the snapshot show what has become of its content."""
        await self._protect(snapshot)
        if not content["spec"]["volumeSnapshotRef"].get("uid"):
            patch = {"spec": {"volumeSnapshotRef": {"uid": uid_of(snapshot)}}}
            await self._client.patch(VOLUME_SNAPSHOT_CONTENTS, name_of(content), patch)
        status = plan.snapshot_status(content)
        if not plan.differs(snapshot, status):
            return
        became_ready = status["readyToUse"] and not status_of(snapshot).get("readyToUse")
        await self._set_status(snapshot, status)
        if became_ready:
            message = f"Snapshot {key_of(snapshot)} is ready to use."
            self._recorder.event(snapshot, "Normal", "SnapshotReady", message)

    async def _release(self, snapshot: Object, content: Object | None) -> None:
        """The snapshot is deleted: its content goes with it, if its policy says so, and then the snapshot."""
        if content is not None:
            if not self._is_mine(content):
                return
            if content["spec"]["deletionPolicy"] == "Delete":
                if plan.BEING_DELETED not in annotations_of(content):
                    patch = {"metadata": {"annotations": {plan.BEING_DELETED: "yes"}}}
                    await self._client.patch(VOLUME_SNAPSHOT_CONTENTS, name_of(content), patch)
                if not is_deleting(content):
                    await self._client.delete(VOLUME_SNAPSHOT_CONTENTS, name_of(content))
                return  # the content's end is heard of
        left = [each for each in finalizers_of(snapshot) if each not in (plan.BOUND, plan.SOURCE)]
        if len(left) != len(finalizers_of(snapshot)):
            without = {"metadata": {"finalizers": left or None}}
            with contextlib.suppress(errors.NotFound):
                await self._client.patch(VOLUME_SNAPSHOTS, name_of(snapshot), without, namespace_of(snapshot))

    async def _set_error(self, snapshot: Object, why: str) -> None:
        error = {"message": why, "time": timestamp(self._context.clock.now())}
        if (status_of(snapshot).get("error") or {}).get("message") != why:
            await self._set_status(snapshot, {"error": error, "readyToUse": False})

    async def _set_status(self, snapshot: Object, status: Object) -> None:
        name, namespace = name_of(snapshot), namespace_of(snapshot)
        await self._client.patch(VOLUME_SNAPSHOTS, name, {"status": status}, namespace, subresource="status")

    # Contents

    async def reconcile_content(self, name: str) -> Result | None:
        """Take the snapshot that a content stands for, or delete it; the result says when to look again."""
        content = self._contents.store.get("", name)
        if content is None or content["spec"]["driver"] != self._driver or not self._is_mine(content):
            return None
        if is_deleting(content):
            await self._delete(content)
            return None
        if status_of(content).get("readyToUse"):
            return None
        try:
            status = await self._take(content)
        except GrpcError as error:
            why = (
                f"Failed to check and update snapshot content: failed to take snapshot of the volume: {describe(error)}"
            )
            self._recorder.event(content, "Warning", "SnapshotContentCheckandUpdateFailed", why)
            problem = {"message": why, "time": timestamp(self._context.clock.now())}
            await self._set_content_status(content, {"error": problem, "readyToUse": False})
            raise TryAgain(why) from error
        await self._set_content_status(content, status)
        return None if status["readyToUse"] else Result(after=_NOT_READY_YET)

    async def _take(self, content: Object) -> Object:
        """The content's status, from the driver. Taking a snapshot twice under one name is no second snapshot."""
        source, timeout = content["spec"]["source"], self._context.options.timeout
        if (handle := source.get("snapshotHandle")) is not None:
            return await self._find(handle)
        class_name = content["spec"].get("volumeSnapshotClassName") or ""
        answer = await self._context.connection.call(
            "CreateSnapshot",
            timeout,
            source_volume_id=source["volumeHandle"],
            name=f"snapshot-{content['spec']['volumeSnapshotRef']['uid']}",
            parameters=plan.parameters_for_driver(self._classes.store.get("", class_name)),
            secrets=await read_secret(self._client, _deletion_secret(content)),
        )
        return plan.content_status(answer.snapshot)

    async def _find(self, handle: str) -> Object:
        """The status of a snapshot that somebody else has taken."""
        if "LIST_SNAPSHOTS" not in self._context.facts.controller:
            return {"snapshotHandle": handle, "readyToUse": True, "error": None}
        timeout = self._context.options.timeout
        answer = await self._context.connection.call("ListSnapshots", timeout, snapshot_id=handle)
        if not answer.entries:
            raise TryAgain(f"can not find snapshot for snapshotID {handle}")
        return plan.content_status(answer.entries[0].snapshot)

    async def _delete(self, content: Object) -> None:
        """The driver's snapshot goes first, unless it is to be kept or its VolumeSnapshot is still there."""
        handle = status_of(content).get("snapshotHandle") or content["spec"]["source"].get("snapshotHandle")
        key = _snapshot_key(content)[0]
        snapshot = self._snapshots.store.get(*split_key(key))
        if snapshot is not None and not is_deleting(snapshot) and plan.is_bound_to(content, snapshot):
            return  # it is in use
        if content["spec"]["deletionPolicy"] == "Delete" and handle:
            secrets = await read_secret(self._client, _deletion_secret(content))
            try:
                await self._context.connection.call(
                    "DeleteSnapshot", self._context.options.timeout, snapshot_id=handle, secrets=secrets
                )
            except GrpcError as error:
                self._recorder.event(
                    content, "Warning", "SnapshotDeleteError", f"Failed to delete snapshot: {describe(error)}"
                )
                raise TryAgain(describe(error)) from error
        left = [each for each in finalizers_of(content) if each != plan.CONTENT_BOUND]
        without = {"metadata": {"finalizers": left or None}}
        with contextlib.suppress(errors.NotFound):
            await self._client.patch(VOLUME_SNAPSHOT_CONTENTS, name_of(content), without)
        self._for_snapshots.queue.add(key)

    async def _set_content_status(self, content: Object, status: Object) -> None:
        if plan.differs(content, status):
            await self._client.patch(
                VOLUME_SNAPSHOT_CONTENTS, name_of(content), {"status": status}, subresource="status"
            )


def _snapshot_key(content: Object) -> list[str]:
    reference = content["spec"]["volumeSnapshotRef"]
    return [f"{reference.get('namespace')}/{reference.get('name')}"]


def _deletion_secret(content: Object) -> tuple[str, str] | None:
    annotations = annotations_of(content)
    namespace, name = (annotations.get(f"{plan.DELETION_SECRET}{part}") for part in ("namespace", "name"))
    return (namespace, name) if namespace and name else None
