"""Volumes by claim, and those of CSI drivers: found, made ready, grown and measured.

Source: https://kubernetes.io/docs/concepts/storage/persistent-volumes/
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tiphys.api.object import Object
from tiphys.api.scheduling.volumes import reaches
from tiphys.api.volumes.matching import capacity
from tiphys.client import errors
from tiphys.client.resources import NODES, PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES
from tiphys.client.rest import Client
from tiphys.kubelet.pod import pods
from tiphys.kubelet.pod.pods import Pod
from tiphys.kubelet.recorder import EventType
from tiphys.kubelet.volumes import growth
from tiphys.kubelet.volumes.csi.figures import ClaimUse, PodClaim, measure
from tiphys.kubelet.volumes.csi.mounter import CSIMounter
from tiphys.kubelet.volumes.csi.requests import CSIVolume, inline_volume, persistent_volume
from tiphys.kubelet.volumes.failures import MountFailure, StepFailure
from tiphys.kubelet.volumes.figures import VolumeFigures, plugin_of
from tiphys.kubelet.volumes.hostpath import prepare_host_path
from tiphys.kubelet.volumes.selinux import label_of, machine_label


@dataclass(frozen=True, slots=True)
class MountedVolume:
    """Where a volume is on the node."""

    path: Path
    read_only: bool = False
    block: bool = False
    """The path is of a block device."""


class ClaimVolumes:
    """``give(pod, folder)`` gives a volume's files to the pod's group; ``labels()`` are the node's, as last seen."""

    def __init__(
        self,
        client: Client,
        csi: CSIMounter,
        *,
        node_name: str,
        labels: Callable[[], Mapping[str, str]],
        give: Callable[[Pod, Path], Awaitable[None]],
        event: Callable[[Pod, EventType, str, str], None],
        figures: VolumeFigures,
    ) -> None:
        self._figures = figures
        self._client = client
        self._csi = csi
        self._node_name = node_name
        self._labels = labels
        self._give = give
        self._machine_label = machine_label()
        self._event = event
        self._mounted: dict[str, dict[str, PodClaim]] = {}
        """CSI volumes by pod, and by the pod's name for them."""

    async def mount_inline(self, pod: Pod, volume: Object) -> MountedVolume:
        """An ephemeral volume of a CSI driver. Raises ``MountFailure``."""
        inline = inline_volume(pod, volume)
        path = await self._csi.mount(pod, inline)
        self._note(pod, PodClaim(volume["name"], inline, path, None))
        return MountedVolume(path, inline.read_only)

    async def mount(self, pod: Pod, volume_name: str, claim_name: str, *, read_only: bool) -> MountedVolume:
        """``volume_name`` is the pod's. Raises ``MountFailure`` and ``ApiError``."""
        namespace = pods.namespace_of(pod)
        claim = await self._client.get(PERSISTENT_VOLUME_CLAIMS, claim_name, namespace)
        bound = claim["spec"].get("volumeName")
        if (claim.get("status") or {}).get("phase") != "Bound" or not bound:
            raise MountFailure(f"PVC {namespace}/{claim_name} is not bound")
        persistent = await self._client.get(PERSISTENT_VOLUMES, bound)
        await self._check_reach(persistent)
        with self._figures.mounting(pods.uid_of(pod), volume_name, plugin_of(persistent["spec"])):
            if not persistent["spec"].get("csi"):
                return await self._mount_host(pod, persistent["spec"], read_only=read_only)
            label = label_of(pod, volume_name, self._machine_label)
            volume = persistent_volume(persistent, read_only=read_only, label=label)
            path = await self._csi.mount(pod, volume)
        self._note(pod, PodClaim(volume_name, volume, path, (namespace, claim_name)))
        await self._grow(pod, volume, claim, persistent)
        return MountedVolume(path, volume.read_only, volume.block)

    async def _check_reach(self, persistent: Object) -> None:
        """A pod that names its node has passed by the scheduler. Raises ``StepFailure``."""
        if reaches(persistent, self._labels()):
            return
        node = await self._client.get(NODES, self._node_name)  # its labels may be new
        if not reaches(persistent, node["metadata"].get("labels") or {}):
            step = "MapVolume" if persistent["spec"].get("volumeMode") == "Block" else "MountVolume"
            name = persistent["metadata"]["name"]
            raise StepFailure(f"{step}.NodeAffinity check", name, "no matching NodeSelectorTerms")

    async def _mount_host(self, pod: Pod, spec: Object, *, read_only: bool) -> MountedVolume:
        """A persistent volume that is a place on this node."""
        block = spec.get("volumeMode") == "Block"
        if host := spec.get("hostPath"):
            return MountedVolume(prepare_host_path(host["path"], host.get("type") or ""), read_only, block)
        if local := spec.get("local"):
            path = prepare_host_path(local["path"], "BlockDevice" if block else "Directory")
            if not block:
                await self._give(pod, path)
            return MountedVolume(path, read_only, block)
        kind = next((key for key in ("nfs", "iscsi", "fc") if key in spec), "unknown")
        raise MountFailure(f"persistent volumes of type {kind} are not supported by this kubelet; use a CSI driver")

    def _note(self, pod: Pod, claim: PodClaim) -> None:
        self._mounted.setdefault(pods.uid_of(pod), {})[claim.volume_name] = claim

    def forget(self, pod_uid: str) -> None:
        self._mounted.pop(pod_uid, None)

    # Growth

    async def _grow(self, pod: Pod, volume: CSIVolume, claim: Object, persistent: Object) -> None:
        """Finish the growth of a volume on this node; the pod runs on if that fails."""
        if not growth.is_due(claim, persistent):
            return
        try:
            done = await self._csi.expand(pods.uid_of(pod), volume, capacity(persistent).value())
        except MountFailure as failure:
            self._event(pod, "Warning", "VolumeResizeFailed", str(failure))
            return
        if done:
            status = {"status": growth.status_after(claim, persistent)}
            name, namespace = claim["metadata"]["name"], claim["metadata"]["namespace"]
            await self._client.patch(PERSISTENT_VOLUME_CLAIMS, name, status, namespace, subresource="status")
            message = f'MountVolume.NodeExpandVolume succeeded for volume "{volume.name}" '
            self._event(pod, "Normal", "FileSystemResizeSuccessful", message)

    async def pods_to_grow(self) -> list[str]:
        """Uids of pods that have a volume whose growth waits for this node."""
        waiting = []
        for uid, claims in list(self._mounted.items()):
            for namespace, name in [each.claim for each in claims.values() if each.claim]:
                with contextlib.suppress(errors.ApiError, ConnectionError, TimeoutError):
                    if growth.waits_for_node(await self._client.get(PERSISTENT_VOLUME_CLAIMS, name, namespace)):
                        waiting.append(uid)
        return waiting

    # Figures

    async def use(self) -> dict[str, list[ClaimUse]]:
        """What pods use of their CSI volumes, by uid."""
        owners = [(uid, each) for uid, claims in self._mounted.items() for each in claims.values()]
        uses = await measure((driver, each) for _, each in owners if (driver := self._csi.driver(each.volume.driver)))
        uids = {id(each): uid for uid, each in owners}
        by_uid: dict[str, list[ClaimUse]] = {}
        for use in uses:
            by_uid.setdefault(uids[id(use.of)], []).append(use)
        return by_uid
