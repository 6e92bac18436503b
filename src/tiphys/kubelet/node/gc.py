"""Removes what no pod needs any more: dead containers and sandboxes, and folders of logs.

Source: https://kubernetes.io/docs/concepts/architecture/garbage-collection/#container-image-garbage-collection
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import stat
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from tiphys.kubelet import labels
from tiphys.kubelet.container.logs import open_links
from tiphys.kubelet.runtime.service import (
    Container,
    ContainerState,
    RuntimeNotFound,
    RuntimeService,
    Sandbox,
)
from tiphys.runtime.system.folders import Folder, remove_tree

log = logging.getLogger(__name__)

KEEP_DEAD = 1
"""Dead runs of each container that are kept, for `kubectl logs --previous`."""


def dead_containers(
    containers: Sequence[Container], is_gone: Callable[[str], bool], keep: int = KEEP_DEAD
) -> list[str]:
    """Ids of the containers to remove: all that belong to pods that are gone, and all but the newest dead runs, of
    which ``keep`` stay."""
    ids: list[str] = []
    kept: dict[tuple[str, str], int] = {}
    for container in sorted(containers, key=lambda c: (c.created_at, c.attempt), reverse=True):
        uid = container.labels.get(labels.POD_UID, "")
        if container.state is ContainerState.RUNNING:
            continue
        if is_gone(uid):
            ids.append(container.id)
            continue
        key = (uid, container.labels.get(labels.CONTAINER_NAME, container.name))
        # The newest record is the container's status itself; older ones only serve its history.
        kept[key] = kept.get(key, 0) + 1
        if kept[key] > keep + 1 >= 1:
            ids.append(container.id)
    return ids


def dead_sandboxes(
    sandboxes: Sequence[Sandbox], containers: Iterable[Container], is_gone: Callable[[str], bool]
) -> list[str]:
    """Ids of the sandboxes to remove: those of pods that are gone, and old ones that hold no container."""
    used = {container.sandbox_id for container in containers}
    newest: dict[str, Sandbox] = {}
    for sandbox in sandboxes:
        if sandbox.uid not in newest or sandbox.created_at > newest[sandbox.uid].created_at:
            newest[sandbox.uid] = sandbox
    return [
        sandbox.id
        for sandbox in sandboxes
        if not sandbox.ready
        and sandbox.id not in used
        and (is_gone(sandbox.uid) or newest[sandbox.uid].id != sandbox.id)
    ]


class ContainerGC:
    def __init__(self, runtime: RuntimeService, log_root: str, log_links: str, keep: int = KEEP_DEAD) -> None:
        """``keep``: dead runs of each container that stay; less than none for all."""
        self._keep = keep
        self._runtime = runtime
        self._log_root = Path(log_root)
        self._log_links = Path(log_links) if log_links else None

    async def collect(self, is_gone: Callable[[str], bool]) -> None:
        """One round; ``is_gone`` says whether the pod of a uid is no longer known now. Raises ``RuntimeFailure``."""
        containers = await self._runtime.list_containers()
        doomed = set(dead_containers(containers, is_gone, self._keep))
        await self._remove_containers(doomed)
        left = [container for container in containers if container.id not in doomed]
        for sandbox_id in dead_sandboxes(await self._runtime.list_sandboxes(), left, is_gone):
            await self._runtime.remove_sandbox(sandbox_id)
        self._remove_dead_links()

    async def remove_pod(self, uid: str) -> None:
        """Everything of a pod that has been deleted: containers, sandboxes, logs. Raises ``RuntimeFailure``."""
        await self._remove_containers([container.id for container in await self._runtime.list_containers(uid)])
        for sandbox in await self._runtime.list_sandboxes(uid):
            await self._runtime.stop_sandbox(sandbox.id)
            await self._runtime.remove_sandbox(sandbox.id)
        if self._log_root.is_dir():
            for folder in self._log_root.glob(f"*_{uid}"):
                await asyncio.to_thread(_remove_logs, folder)
        self._remove_dead_links()

    async def _remove_containers(self, ids: Iterable[str]) -> None:
        for container_id in ids:
            with contextlib.suppress(RuntimeNotFound):
                await self._runtime.remove_container(container_id)

    def _remove_dead_links(self) -> None:
        if self._log_links is None:
            return
        try:
            with open_links(self._log_links) as links:
                for name in links.names():
                    if name.endswith(".log") and self._is_dead_link(links, name):
                        links.unlink(name)
        except OSError as error:
            log.warning("cannot remove links to logs that are gone: %s", error)

    def _is_dead_link(self, links: Folder, name: str) -> bool:
        if not stat.S_ISLNK(links.stat(name).st_mode):
            return False
        target = os.readlink(name, dir_fd=links.descriptor)
        return target.startswith(f"{self._log_root}/") and not os.path.lexists(target)


def _remove_logs(folder: Path) -> None:
    try:
        remove_tree(folder)
    except OSError as error:
        log.warning("cannot remove the logs in %s: %s", folder, error.strerror)
