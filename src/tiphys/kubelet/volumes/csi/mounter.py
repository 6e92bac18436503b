"""Makes CSI volumes ready for pods, and undoes that: stage once per node, publish once per pod.

Each operation runs to its end even if the pod is removed meanwhile, under a lock of its volume, and what was begun is
noted on the disk first (layout.py): whatever is interrupted is undone as if it were done. Source:
https://github.com/container-storage-interface/spec/blob/master/spec.md#volume-lifecycle
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import errno
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, Protocol, TypeVar

from tiphys.api.csi.capabilities import capability
from tiphys.api.object import Object
from tiphys.api.volumes.attachments import attachment_name, unique_volume_name
from tiphys.client import errors
from tiphys.client.resources import CSI_DRIVERS, SECRETS, VOLUME_ATTACHMENTS
from tiphys.client.rest import Client
from tiphys.controlkit.objects import timestamp
from tiphys.kubelet.pod import pods
from tiphys.kubelet.pod.pods import Pod
from tiphys.kubelet.tokens import Token
from tiphys.kubelet.volumes.csi import requests
from tiphys.kubelet.volumes.csi.drivers import CSIDriver, DriverMissing, update_period
from tiphys.kubelet.volumes.csi.layout import Layout, PodVolume, StagedVolume
from tiphys.kubelet.volumes.csi.requests import CSIVolume, SecretName
from tiphys.kubelet.volumes.failures import AttachLimitReached, MountFailure, StepFailure
from tiphys.kubelet.volumes.payloads import TokenSpec, fs_group
from tiphys.runtime.backoff import KeyedBackoff
from tiphys.runtime.clock import Clock, backoff
from tiphys.runtime.system.folders import Folder
from tiphys.runtime.system.mounts import is_mounted
from tiphys.wire.grpc.caller import describe
from tiphys.wire.grpc.stream import RESOURCE_EXHAUSTED, GrpcError

log = logging.getLogger(__name__)

T = TypeVar("T")
_FIRST_RETRY, _LAST_RETRY = 0.5, 122.0
_ATTACH_PATIENCE = 30.0
_ONE_POD = "volume uses the ReadWriteOncePod access mode and is already in use by another pod"


class Drivers(Protocol):
    def get(self, name: str) -> CSIDriver:
        """Raises ``DriverMissing``."""
        ...

    def find(self, name: str) -> CSIDriver | None: ...

    async def update_limit(self, name: str) -> None:
        """Read again how many of a driver's volumes the node can have."""
        ...


class Tokens(Protocol):
    async def issued(self, pod: Pod, spec: TokenSpec) -> Token: ...


class CSIMounter:
    """``give(pod, folder)`` gives a volume's files to the pod's group, as its policy says.

    ``report_in_use(name)`` returns when the Node says that it uses the volume of this unique name, so that nobody
    detaches it; ``freed()`` is called when a volume is no longer used.
    """

    def __init__(
        self,
        *,
        root: Path,
        client: Client,
        node_name: str,
        drivers: Drivers,
        tokens: Tokens,
        clock: Clock,
        give: Callable[[Pod, Path], Awaitable[None]],
        report_in_use: Callable[[str], Awaitable[None]],
        freed: Callable[[], None],
    ) -> None:
        self.layout = Layout(root)
        self._client = client
        self._node_name = node_name
        self._drivers = drivers
        self._tokens = tokens
        self._clock = clock
        self._give = give
        self._report_in_use = report_in_use
        self._freed = freed
        self._waiting: dict[tuple[str, str], int] = {}
        """Volumes by driver and handle that pods are about to have, and how many pods wait for each."""
        self._attachable: dict[str, bool] = {}
        """Whether a driver's volumes are attached, as its CSIDriver last said."""
        self._locks: dict[tuple[str, str], _Lock] = {}
        self._backoff = KeyedBackoff(_FIRST_RETRY, _LAST_RETRY)
        self._running: set[asyncio.Task[Any]] = set()
        self._published: set[PodVolume] = set()
        """By this process: a driver need not mount anything."""

    # A pod that is to have a volume.

    async def mount(self, pod: Pod, volume: CSIVolume) -> Path:
        """Where the volume is on the node: a folder, or a block device. Raises ``MountFailure``."""
        key = volume.driver, volume.handle
        self._waiting[key] = self._waiting.get(key, 0) + 1
        try:
            context = await self._publish_context(volume)
            return await self._to_its_end(self._mount(pod, volume, context))
        finally:
            self._waiting[key] -= 1
            if not self._waiting[key]:
                del self._waiting[key]

    async def _mount(self, pod: Pod, volume: CSIVolume, context: dict[str, str]) -> Path:
        step = "MapVolume.SetUpDevice" if volume.block else "MountVolume.SetUp"
        try:
            async with self._locked(volume.driver, volume.handle):
                return await self._mount_locked(pod, volume, context)
        except GrpcError as error:
            raise StepFailure(step, volume.name, describe(error)) from error
        except DriverMissing as error:
            raise StepFailure(step, volume.name, f"kubernetes.io/csi: {error}") from error
        except errors.ApiError as error:
            raise StepFailure(step, volume.name, error.message) from error

    async def _mount_locked(self, pod: Pod, volume: CSIVolume, context: dict[str, str]) -> Path:
        driver = self._drivers.get(volume.driver)
        about = await self._about(volume.driver)
        noted = PodVolume(pods.uid_of(pod), volume.name, volume.driver, volume.handle, volume.block, volume.ephemeral)
        target = self._target(noted)
        present = noted in self._published or (self.layout.is_noted(noted) and _is_there(target, block=volume.block))
        if present and not ((about or {}).get("spec") or {}).get("requiresRepublish"):
            return target
        if volume.access_modes == ("ReadWriteOncePod",) and self._is_with_another(noted):
            raise StepFailure("MountVolume.SetUp", volume.name, _ONE_POD)
        if problem := requests.lifecycle_problem(volume, about):
            raise StepFailure("MountVolume.SetUp", volume.name, problem)
        volume = requests.labelled(volume, about)
        attachment = attachment_name(volume.driver, volume.handle, self._node_name)
        more = {"nodeName": self._node_name, "attachmentID": attachment}
        self.layout.note_pod(noted, more)
        staging = await self._stage(driver, pod, volume, context) if not volume.ephemeral else ""
        await self._publish(driver, pod, volume, context, about, staging, target)
        delegated = await driver.can("VOLUME_MOUNT_GROUP")
        if not present and not delegated and requests.kubelet_gives_group(volume, about, fs_group(pod)):
            await self._give(pod, target)
        self._published.add(noted)
        return target

    def _is_with_another(self, wanted: PodVolume) -> bool:
        """Whether another pod has the volume, or is about to have it."""
        volume = wanted.driver, wanted.handle
        return any(
            (each.driver, each.handle) == volume and each.pod_uid != wanted.pod_uid for each in self.layout.all_pods()
        )

    def _target(self, volume: PodVolume) -> Path:
        layout = self.layout.block_target if volume.block else self.layout.target
        return layout(volume.pod_uid, volume.name)

    async def _stage(self, driver: CSIDriver, pod: Pod, volume: CSIVolume, context: dict[str, str]) -> str:
        """The staging path, for the driver; empty if it stages nothing. Staging twice is nothing new to a driver."""
        if not await driver.can("STAGE_UNSTAGE_VOLUME"):
            return ""
        step = "MapVolume.SetUpDevice" if volume.block else "MountVolume.MountDevice"
        try:
            secrets = await self._secret(volume.stage_secret, "NodeStageSecretRef")
            layout = self.layout
            staging = (
                layout.note_block_staged(volume.name)
                if volume.block
                else layout.note_staged(volume.driver, volume.handle)
            )
            await driver.call(
                "NodeStageVolume",
                volume_id=volume.handle,
                publish_context=context,
                staging_target_path=str(staging),
                volume_capability=await self._capability(driver, pod, volume),
                secrets=secrets,
                volume_context=dict(volume.attributes),
            )
        except GrpcError as error:
            raise StepFailure(step, volume.name, describe(error)) from error
        return str(staging)

    async def _publish(
        self,
        driver: CSIDriver,
        pod: Pod,
        volume: CSIVolume,
        context: dict[str, str],
        about: Object | None,
        staging: str,
        target: Path,
    ) -> None:
        attributes = dict(volume.attributes)
        secrets = await self._secret(volume.publish_secret, "NodePublishSecretRef")
        spec = (about or {}).get("spec") or {}
        if spec.get("podInfoOnMount"):
            attributes |= requests.pod_attributes(pod, ephemeral=volume.ephemeral)
        if audiences := requests.token_audiences(about):
            tokens = {requests.TOKENS: await self._issue(pod, audiences)}
            if spec.get("serviceAccountTokenInSecrets"):
                secrets |= tokens
            else:
                attributes |= tokens
        await driver.call(
            "NodePublishVolume",
            volume_id=volume.handle,
            publish_context=context,
            staging_target_path=staging,
            target_path=str(target),
            volume_capability=await self._capability(driver, pod, volume),
            readonly=volume.read_only,
            secrets=secrets,
            volume_context=attributes,
        )

    async def _capability(self, driver: CSIDriver, pod: Pod, volume: CSIVolume) -> dict[str, Any]:
        delegated = await driver.can("VOLUME_MOUNT_GROUP")
        return capability(
            volume.access_mode,
            block=volume.block,
            fs_type=volume.fs_type,
            mount_options=volume.mount_options,
            group=fs_group(pod) if delegated else None,
            single_node=await driver.can("SINGLE_NODE_MULTI_WRITER"),
        )

    async def _issue(self, pod: Pod, audiences: list[tuple[str, int]]) -> str:
        """The tokens that the driver asks for, as JSON by audience."""
        issued = {}
        for audience, seconds in audiences:
            token = await self._tokens.issued(pod, TokenSpec(audience, seconds))
            issued[audience] = {"token": token.text, "expirationTimestamp": timestamp(token.expires)}
        return json.dumps(issued, separators=(",", ":"))

    async def _about(self, driver: str) -> Object | None:
        try:
            about: Object | None = await self._client.get(CSI_DRIVERS, driver)
        except errors.NotFound:
            about = None
        self._attachable[driver] = requests.is_attachable(about)
        return about

    async def _publish_context(self, volume: CSIVolume) -> dict[str, str]:
        """What the attacher has said about the volume on this node. Raises ``MountFailure`` if it is not attached."""
        about = await self._about(volume.driver)
        if volume.ephemeral or not self._attachable[volume.driver]:
            return {}
        await self._report_in_use(unique_volume_name(volume.driver, volume.handle))
        deadline = self._clock.monotonic() + _ATTACH_PATIENCE
        for delay in backoff(0.1, 1.5, 2):
            status, why = await self._attachment(volume)
            if not why:
                return dict(status.get("attachmentMetadata") or {})
            if self._clock.monotonic() + delay > deadline:
                if (status.get("attachError") or {}).get("errorCode") == RESOURCE_EXHAUSTED and update_period(about):
                    await self._drivers.update_limit(volume.driver)
                    raise AttachLimitReached("MountVolume.WaitForAttach", volume.name, why)
                raise StepFailure("MountVolume.WaitForAttach", volume.name, why)
            await self._clock.sleep(delay)
        raise AssertionError("there is no last delay")

    async def _attachment(self, volume: CSIVolume) -> tuple[Object, str]:
        """The status of the VolumeAttachment, and why the volume is not attached, if it is not."""
        name = attachment_name(volume.driver, volume.handle, self._node_name)
        try:
            attachment = await self._client.get(VOLUME_ATTACHMENTS, name)
        except (errors.NotFound, errors.Forbidden):
            return {}, f"volume {volume.handle} has no volume attachment {name} yet"
        status = attachment.get("status") or {}
        if status.get("attached") and not attachment["metadata"].get("deletionTimestamp"):
            return status, ""
        return status, (status.get("attachError") or {}).get(
            "message"
        ) or f"volume attachment {name} is not attached yet"

    def in_use(self) -> list[str]:
        """Unique names of the attachable volumes that pods have, or are about to have."""
        present = [(each.driver, each.handle) for each in self.layout.all_pods() if not each.ephemeral]
        present += [(each.driver, each.handle) for each in self.layout.all_staged()]
        both = {*present, *self._waiting}
        return sorted(unique_volume_name(*pair) for pair in both if self._attachable.get(pair[0], True))

    def driver(self, name: str) -> CSIDriver | None:
        return self._drivers.find(name)

    # A volume that has grown.

    async def expand(self, pod_uid: str, volume: CSIVolume, size: int) -> bool:
        """Let the node see a volume's new size; whether that is done. Raises ``StepFailure``."""
        key = f"{pod_uid}/{volume.name}/growth"
        if volume.read_only or self._backoff.waits(key, self._clock.monotonic()):
            return False
        try:
            async with self._locked(volume.driver, volume.handle):
                driver = self._drivers.get(volume.driver)
                if not await driver.can("EXPAND_VOLUME"):
                    return False
                await self._expand(driver, pod_uid, volume, size)
        except (GrpcError, DriverMissing) as error:
            self._backoff.next(key, self._clock.monotonic(), self._clock.monotonic())
            why = describe(error) if isinstance(error, GrpcError) else str(error)
            raise StepFailure("MountVolume.NodeExpandVolume", volume.name, why) from error
        self._backoff.forget(key)
        return True

    async def _expand(self, driver: CSIDriver, pod_uid: str, volume: CSIVolume, size: int) -> None:
        layout, name = self.layout, volume.name
        target = layout.block_target(pod_uid, name) if volume.block else layout.target(pod_uid, name)
        staging = layout.block_staging(name) if volume.block else layout.staging(volume.driver, volume.handle)
        await driver.call(
            "NodeExpandVolume",
            volume_id=volume.handle,
            volume_path=str(target),
            capacity_range={"required_bytes": size},
            staging_target_path=str(staging) if await driver.can("STAGE_UNSTAGE_VOLUME") else "",
            volume_capability=capability(
                volume.access_mode,
                block=volume.block,
                fs_type=volume.fs_type,
                mount_options=volume.mount_options,
                single_node=await driver.can("SINGLE_NODE_MULTI_WRITER"),
            ),
            secrets=await self._secret(volume.expand_secret, "NodeExpandSecretRef"),
        )

    async def _secret(self, name: SecretName | None, field: str) -> dict[str, str]:
        if name is None:
            return {}
        try:
            secret = await self._client.get(SECRETS, name.name, name.namespace)
        except errors.ApiError as error:
            raise MountFailure(f"fetching {field} {name.namespace}/{name.name} failed: {error.message}") from error
        return {key: base64.b64decode(text or "").decode() for key, text in (secret.get("data") or {}).items()}

    # A pod that is over.

    async def unmount(self, pod_uid: str) -> None:
        """Take every CSI volume from a pod, and from the node if no other pod has it. Raises ``OSError``."""
        for volume in list(self.layout.volumes_of(pod_uid)):
            await self._to_its_end(self._unmount(volume))

    async def _unmount(self, volume: PodVolume) -> None:
        key = f"{volume.pod_uid}/{volume.name}"
        if self._backoff.waits(key, self._clock.monotonic()):
            raise OSError(errno.EBUSY, f"volume {volume.name} is tried again later")
        try:
            async with self._locked(volume.driver, volume.handle):
                await self._unpublish(volume)
                await self._unstage(StagedVolume(volume.driver, volume.handle, volume.name if volume.block else ""))
        except (GrpcError, DriverMissing, OSError) as error:
            self._backoff.next(key, self._clock.monotonic(), self._clock.monotonic())
            text = describe(error) if isinstance(error, GrpcError) else str(error)
            raise OSError(errno.EBUSY, f'UnmountVolume.TearDown failed for volume "{volume.name}" : {text}') from error
        self._backoff.forget(key)
        if not volume.ephemeral and self._attachable.get(volume.driver, True):
            self._freed()

    async def _unpublish(self, volume: PodVolume) -> None:
        driver = self._drivers.get(volume.driver)
        target = str(self._target(volume))
        await driver.call("NodeUnpublishVolume", volume_id=volume.handle, target_path=target)
        self._published.discard(volume)
        self.layout.forget_pod(volume)

    async def _unstage(self, staged: StagedVolume) -> None:
        """Under the volume's lock: no pod can come meanwhile."""
        if not self.layout.is_staged(staged) or self.layout.is_used(staged):
            return
        driver = self._drivers.get(staged.driver)
        if await driver.can("STAGE_UNSTAGE_VOLUME"):
            named = staged.name
            staging = self.layout.block_staging(named) if named else self.layout.staging(staged.driver, staged.handle)
            await driver.call("NodeUnstageVolume", volume_id=staged.handle, staging_target_path=str(staging))
        self.layout.forget_staged(staged)

    async def sweep(self) -> None:
        """Unstage what no pod has any more: a kubelet that ended in between has left it."""
        used = {(each.driver, each.handle, each.block) for each in self.layout.all_pods()}
        for staged in list(self.layout.all_staged()):
            key = f"{staged.driver}/{staged.handle}"
            if (staged.driver, staged.handle, bool(staged.name)) in used or self._backoff.waits(
                key, self._clock.monotonic()
            ):
                continue
            try:
                async with self._locked(staged.driver, staged.handle):
                    await self._unstage(staged)
            except (GrpcError, DriverMissing, OSError) as error:
                self._backoff.next(key, self._clock.monotonic(), self._clock.monotonic())
                log.warning("volume %s of %s cannot be unstaged: %s", staged.handle, staged.driver, error)

    # Operations

    async def _to_its_end(self, work: Coroutine[Any, Any, T]) -> T:
        """A driver that is at work is not interrupted, whoever has stopped waiting."""
        task = asyncio.get_running_loop().create_task(work)
        self._running.add(task)
        task.add_done_callback(self._ended)
        return await asyncio.shield(task)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # whoever waited has it; nobody may

    async def close(self) -> None:
        """Stop what runs: with the kubelet's end nobody is left to wait for it."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    @contextlib.asynccontextmanager
    async def _locked(self, driver: str, handle: str) -> AsyncIterator[None]:
        """One operation at a time for each volume."""
        entry = self._locks.setdefault((driver, handle), _Lock())
        entry.users += 1
        try:
            async with entry.lock:
                yield
        finally:
            entry.users -= 1
            if not entry.users:
                self._locks.pop((driver, handle), None)


class _Lock:
    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.users = 0


def _is_there(target: Path, *, block: bool) -> bool:
    """Whether the driver's mount is in place. A folder that is no mount counts for nothing."""
    if block:
        return target.is_block_device()
    if not target.parent.is_dir():
        return False
    with Folder.at(target.parent) as parent:
        return is_mounted(parent, target.name)
