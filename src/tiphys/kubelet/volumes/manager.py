"""Mounts a pod's volumes, keeps them up to date, and takes them away.

``<root>/pods/<uid>/volumes/kubernetes.io~<plugin>/<name>`` is where a volume lives, as upstream does. Secrets and
tokens are written to memory (tmpfs), never to disk. Source: https://kubernetes.io/docs/concepts/storage/volumes/
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Protocol

from tiphys.api.object import Object
from tiphys.api.volumes.claims import ephemeral_claim
from tiphys.client import errors
from tiphys.client.resources import CONFIG_MAPS, SECRETS, ResourcePath
from tiphys.client.rest import Client
from tiphys.kubelet.pod import pods
from tiphys.kubelet.pod.pods import Pod
from tiphys.kubelet.quantities import value
from tiphys.kubelet.recorder import EventType
from tiphys.kubelet.tokens import Token
from tiphys.kubelet.volumes import payloads
from tiphys.kubelet.volumes.atomic import PathError, write_payload
from tiphys.kubelet.volumes.claims import ClaimVolumes, MountedVolume
from tiphys.kubelet.volumes.csi.figures import ClaimUse
from tiphys.kubelet.volumes.csi.mounter import CSIMounter, Drivers
from tiphys.kubelet.volumes.failures import AttachLimitReached, MountFailure, StepFailure
from tiphys.kubelet.volumes.figures import VolumeFigures, plugin_of
from tiphys.kubelet.volumes.hostpath import prepare_host_path
from tiphys.kubelet.volumes.images import ImageVolumes
from tiphys.kubelet.volumes.ownership import already_given, give_to_group
from tiphys.kubelet.volumes.payloads import Material, TokenSpec
from tiphys.runtime.clock import Clock
from tiphys.runtime.system import mounts
from tiphys.runtime.system.folders import Folder, remove_tree

_PATIENCE = 30.0

_PLUGINS = {"configMap": "configmap", "secret": "secret", "downwardAPI": "downward-api", "projected": "projected"}


class VolumeFailure(Exception):
    """Volumes of a pod cannot be mounted: the message for the event, by volume."""

    def __init__(self, failures: Mapping[str, str]) -> None:
        self.failures = dict(failures)
        super().__init__("; ".join(self.failures.values()))


class TooManyVolumes(Exception):
    """The node cannot have all of a pod's volumes: the pod is to fail here, so that it can be elsewhere."""


class ObjectSource(Protocol):
    async def get(self, pod_uid: str, resource: ResourcePath, namespace: str, name: str) -> Object | None: ...


class TokenSource(Protocol):
    async def token(self, pod: Pod, spec: TokenSpec) -> str: ...

    async def issued(self, pod: Pod, spec: TokenSpec) -> Token: ...


def remove_mounted_tree(folder: Path) -> None:
    """Unmount what is mounted below a folder, and remove it. What cannot be unmounted is left as it is: ``OSError``."""
    if left := mounts.unmount_below(folder):
        raise OSError(left[0].error.errno, left[0].error.strerror, left[0].path)
    remove_tree(folder)


def _set_mode(folder: Path, mode: int) -> None:
    """The top of a volume: its folder is the kubelet's own, but a container may change the mode."""
    with Folder.at(folder.parent) as parent, parent.folder(folder.name) as top:
        if os.fstat(top.descriptor).st_mode & 0o777 != mode:
            os.fchmod(top.descriptor, mode)


async def _nobody_detaches(name: str) -> None:
    """For a kubelet without a Node, whose volumes nobody attaches or detaches."""


FieldReader = Callable[[Pod, Object], str]
"""(pod, downward API item) → its text at this moment."""


class VolumeManager:
    """``memory_size(pod, size limit)`` gives the bytes that a volume in memory may take; ``slow(pod, folder)`` is
    called if giving a volume to the pod's group takes long.

    ``memory`` is off if tmpfs cannot be mounted (not root): tests only, as secrets then touch the disk.
    """

    def __init__(
        self,
        *,
        root: Path,
        node_name: str,
        client: Client,
        clock: Clock,
        drivers: Drivers,
        images: ImageVolumes,
        objects: ObjectSource,
        tokens: TokenSource,
        field: FieldReader,
        memory: bool = True,
        memory_size: Callable[[Pod, str | None], int] = lambda pod, limit: value(limit),
        slow: Callable[[Pod, str], None] = lambda pod, folder: None,
        report_in_use: Callable[[str], Awaitable[None]] = _nobody_detaches,
        freed: Callable[[], None] = lambda: None,
        labels: Callable[[], Mapping[str, str]] = dict,
        event: Callable[[Pod, EventType, str, str], None] = lambda *_: None,
    ) -> None:
        self._csi = CSIMounter(
            root=root,
            client=client,
            node_name=node_name,
            drivers=drivers,
            tokens=tokens,
            clock=clock,
            give=self._own,
            report_in_use=report_in_use,
            freed=freed,
        )
        self._images = images
        self.figures = VolumeFigures()
        self._claims = ClaimVolumes(
            client,
            self._csi,
            node_name=node_name,
            labels=labels,
            give=self._own,
            event=event,
            figures=self.figures,
        )
        self._slow = slow
        self._memory_size = memory_size
        self._root = root
        self._client = client
        self._clock = clock
        self._objects = objects
        self._tokens = tokens
        self._field = field
        self._memory = memory

    def pod_dir(self, pod_uid: str) -> Path:
        return self._root / "pods" / pod_uid

    async def mount(self, pod: Pod) -> dict[str, MountedVolume]:
        """Mount or refresh every volume of the pod. Raises ``VolumeFailure`` with all that fail, ``TooManyVolumes``."""
        volumes = pod["spec"].get("volumes") or []
        results = await asyncio.gather(*(self._mount(pod, volume) for volume in volumes), return_exceptions=True)
        mounted: dict[str, MountedVolume] = {}
        failures: dict[str, str] = {}
        for volume, result in zip(volumes, results, strict=True):
            name = volume["name"]
            if isinstance(result, MountedVolume):
                mounted[name] = result
            elif isinstance(result, StepFailure):
                failures[name] = str(result)
            elif isinstance(result, (MountFailure, PathError, errors.ApiError, ConnectionError, TimeoutError, OSError)):
                text = result.message if isinstance(result, errors.ApiError) else str(result)
                failures[name] = f'MountVolume.SetUp failed for volume "{name}" : {text}'
            else:
                raise result
        if limit := [v["name"] for v, r in zip(volumes, results, strict=True) if isinstance(r, AttachLimitReached)]:
            late = sorted(failures)
            raise TooManyVolumes(
                f"Node has reached its volume attachment limit, rejecting pod. unmounted volumes=[{' '.join(late)}],"
                f" unattached volumes=[{' '.join(sorted(limit))}], failed to process volumes=[]:"
                " context deadline exceeded"
            )
        if failures:
            raise VolumeFailure(failures)
        return mounted

    async def refresh(self, pod: Pod) -> None:
        """Bring the volumes that show API data up to date. Raises ``VolumeFailure``."""
        changing = [volume for volume in pod["spec"].get("volumes") or [] if payloads.is_projection(volume)]
        if changing:
            await self.mount({**pod, "spec": {**pod["spec"], "volumes": changing}})

    async def _mount(self, pod: Pod, volume: Object) -> MountedVolume:
        with self.figures.mounting(pods.uid_of(pod), volume["name"], plugin_of(volume)):
            return await self._mount_kind(pod, volume)

    async def _mount_kind(self, pod: Pod, volume: Object) -> MountedVolume:
        if payloads.is_projection(volume):
            return await self._mount_projection(pod, volume)
        if (empty := volume.get("emptyDir")) is not None:
            return await self._mount_empty_dir(pod, volume["name"], empty)
        if (host := volume.get("hostPath")) is not None:
            return MountedVolume(prepare_host_path(host["path"], host.get("type") or ""))
        if (claim := volume.get("persistentVolumeClaim")) is not None:
            read_only = bool(claim.get("readOnly"))
            return await self._claims.mount(pod, volume["name"], claim["claimName"], read_only=read_only)
        if volume.get("ephemeral") is not None:
            return await self._claims.mount(pod, volume["name"], ephemeral_claim(pod, volume), read_only=False)
        if volume.get("image") is not None:
            folder = self._folder(pod, "image", volume["name"])
            await self._images.mount(pod, volume, folder)
            return MountedVolume(folder, read_only=True)
        if volume.get("csi") is not None:
            return await self._claims.mount_inline(pod, volume)
        kind = next((key for key in volume if key != "name"), "emptyDir")
        if kind == "emptyDir":
            return await self._mount_empty_dir(pod, volume["name"], {})
        raise MountFailure(f"volume type {kind} is not supported by this kubelet")

    def _folder(self, pod: Pod, plugin: str, name: str) -> Path:
        folder = self.pod_dir(pods.uid_of(pod)) / "volumes" / f"kubernetes.io~{plugin}" / name
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        return folder

    async def _mount_projection(self, pod: Pod, volume: Object) -> MountedVolume:
        kind = next(key for key in _PLUGINS if volume.get(key) is not None)
        payload = payloads.make_payload(pod, volume, await self._fetch(pod, volume))
        folder = self._folder(pod, _PLUGINS[kind], volume["name"])
        if kind != "configMap":
            self._in_memory(folder, self._memory_size(pod, None))
        _set_mode(folder, 0o777)
        group = payloads.fs_group(pod)
        permissions = None if group is None else lambda: give_to_group(folder, group, read_only=True)
        write_payload(folder, payload, self._clock.now(), permissions)
        return MountedVolume(folder, read_only=True)

    async def _fetch(self, pod: Pod, volume: Object) -> Material:
        needs = payloads.needs(volume)
        uid, namespace = pods.uid_of(pod), pods.namespace_of(pod)
        config_maps, secrets, tokens = await asyncio.gather(
            self._get_all(uid, CONFIG_MAPS, namespace, needs.config_maps),
            self._get_all(uid, SECRETS, namespace, needs.secrets),
            asyncio.gather(*(self._tokens.token(pod, spec) for spec in needs.tokens)),
        )
        owner = payloads.shared_user(pod)
        return Material(
            config_maps=config_maps,
            secrets=secrets,
            tokens=dict(zip(needs.tokens, tokens, strict=True)),
            field=lambda item: self._field(pod, item),
            token_owner=owner,
            token_mode_private=owner is not None or payloads.fs_group(pod) is not None,
        )

    async def _get_all(
        self, pod_uid: str, resource: ResourcePath, namespace: str, names: frozenset[str]
    ) -> dict[str, Object]:
        ordered = sorted(names)
        objects = await asyncio.gather(*(self._objects.get(pod_uid, resource, namespace, name) for name in ordered))
        return {name: obj for name, obj in zip(ordered, objects, strict=True) if obj is not None}

    async def _mount_empty_dir(self, pod: Pod, name: str, empty: Object) -> MountedVolume:
        folder = self._folder(pod, "empty-dir", name)
        medium = empty.get("medium") or ""
        if medium.startswith("HugePages"):
            raise MountFailure(f"emptyDir medium {medium} is not supported by this kubelet")
        if medium == "Memory":
            self._in_memory(folder, self._memory_size(pod, empty.get("sizeLimit")))
        group = payloads.fs_group(pod)
        _set_mode(folder, 0o777)
        if group is not None and not already_given(folder, group):
            await self._give(pod, folder, group)
        return MountedVolume(folder)

    def _in_memory(self, folder: Path, size: int) -> None:
        """Mount memory on a folder, at most ``size`` bytes of it; 0 for the kernel's default."""
        if not self._memory:
            return
        with Folder.at(folder.parent) as parent:
            if not mounts.is_mounted(parent, folder.name):
                mounts.mount_tmpfs(parent, folder.name, f"size={size}" if size else "")

    async def _own(self, pod: Pod, folder: Path) -> None:
        group = payloads.fs_group(pod)
        if group is None:
            return
        policy = (pod["spec"].get("securityContext") or {}).get("fsGroupChangePolicy")
        if policy != "OnRootMismatch" or not already_given(folder, group):
            await self._give(pod, folder, group)

    async def _give(self, pod: Pod, folder: Path, group: int) -> None:
        """Off the loop, as a volume may hold any number of files; a slow one is logged."""
        work = asyncio.ensure_future(asyncio.to_thread(give_to_group, folder, group))
        late = asyncio.ensure_future(self._clock.sleep(_PATIENCE))
        try:
            await asyncio.wait((work, late), return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                self._slow(pod, str(folder)[max(0, str(folder).find(pods.uid_of(pod))) :])
            await work
        finally:
            late.cancel()
            await asyncio.gather(late, return_exceptions=True)

    async def unmount(self, pod_uid: str) -> None:
        """Remove the pod's volumes and its folder. Raises ``OSError`` if something is still in use.

        Parts of volumes that are mounted elsewhere go first, and then what drivers have mounted. A pod may have left
        any number of files, so this is done off the loop.
        """
        await asyncio.to_thread(mounts.unmount_below, self.pod_dir(pod_uid) / "volume-subpaths")
        await self._images.unmount(self.pod_dir(pod_uid))
        await self._csi.unmount(pod_uid)
        self._claims.forget(pod_uid)
        await asyncio.to_thread(remove_mounted_tree, self.pod_dir(pod_uid))
        self.figures.unmounted(pod_uid)

    async def pods_to_grow(self) -> list[str]:
        """Uids of pods that have a volume whose growth waits for this node."""
        return await self._claims.pods_to_grow()

    async def claims_use(self) -> dict[str, list[ClaimUse]]:
        """What pods use of their CSI volumes, by uid."""
        return await self._claims.use()

    def in_use(self) -> list[str]:
        """Unique names of the volumes that must not be detached from this node."""
        return self._csi.in_use()

    async def sweep(self) -> None:
        """Take from the node what was staged for pods that are gone."""
        await self._csi.sweep()

    async def close(self) -> None:
        await self._csi.close()

    def known_pods(self) -> list[str]:
        """Uids of the pods that have a folder on this node."""
        folder = self._root / "pods"
        return [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
