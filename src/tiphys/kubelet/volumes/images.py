"""Volumes that are images: pulled as a container's image is, and shown read-only.

A runtime with image mounts of its own (containerd 2.1) would mount them for each container; with older ones
containerd's client mounts the image in the pod's folder, and it is a volume as any other; its programs can be run,
as the CRI of those has no word for a mount that forbids it. Source: KEP-4639
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path, PurePosixPath

from tiphys.api.object import Object
from tiphys.kubelet.container.image_names import ImageNameError, parse_image
from tiphys.kubelet.pod.pods import Pod
from tiphys.kubelet.runtime.ctr import CtrFailure, ctr
from tiphys.kubelet.runtime.service import ImageService
from tiphys.kubelet.volumes.failures import MountFailure
from tiphys.runtime.system import mounts
from tiphys.runtime.system.folders import Folder

PLUGIN = "kubernetes.io~image"
_SNAPSHOTTER = "io.containerd.snapshotter.v1."


class ImageVolumes:
    """``pull(pod, volume)`` has the image on the node and returns its id; it raises ``MountFailure``."""

    def __init__(self, images: ImageService, socket: str, pull: Callable[[Pod, Object], Awaitable[str]]) -> None:
        self._images = images
        self._socket = socket
        self._pull = pull

    async def mount(self, pod: Pod, volume: Object, target: Path) -> None:
        """Show the image at ``target``, an empty folder, if it is not there yet. Raises ``MountFailure``."""
        if not self._socket:
            raise MountFailure("volumes of type image need containerd, whose socket is not known")
        with Folder.at(target.parent) as parent:
            if mounts.is_mounted(parent, target.name):
                return
            image = await self._pull(pod, volume)
            words = ("--snapshotter", await self._snapshotter(), image, str(target))
            try:
                await ctr(self._socket, "images", "mount", *words)
            except CtrFailure as failure:
                raise MountFailure(str(failure)) from failure
            mounts.make_read_only(parent, target.name)

    async def unmount(self, pod_folder: Path) -> None:
        """Unmount every image of a pod, and drop what held it. Raises ``OSError``."""
        folder = pod_folder / "volumes" / PLUGIN
        for target in sorted(folder.iterdir()) if folder.is_dir() else ():
            try:
                words = ("--snapshotter", await self._snapshotter(), "--rm", str(target))
                await ctr(self._socket, "images", "unmount", *words)
            except CtrFailure as failure:
                raise OSError(str(failure)) from failure

    async def _snapshotter(self) -> str:
        """What keeps the images' files: the CRI names the folder that it keeps them in."""
        filesystems = (await self._images.image_filesystems()).images
        name = PurePosixPath(filesystems[0].mountpoint).name if filesystems else ""
        return name.removeprefix(_SNAPSHOTTER) or "overlayfs"


def shown_images(known: Iterable[Pod]) -> set[str]:
    """The full names of the images that volumes of pods show: the runtime does not know that they are in use."""
    names = set()
    for volume in (volume for pod in known for volume in pod["spec"].get("volumes") or []):
        reference = (volume.get("image") or {}).get("reference")
        with contextlib.suppress(ImageNameError):
            image = parse_image(reference or "")
            names.add(f"{image.name}@{image.digest}" if image.digest else f"{image.name}:{image.tag or 'latest'}")
    return names
