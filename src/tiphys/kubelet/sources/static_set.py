"""The static pods of this node as their folder and URL show them now, and what becomes of their mirrors in the API.

Source: https://kubernetes.io/docs/tasks/configure-pod-container/static-pod/
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection

from tiphys.client import errors
from tiphys.kubelet.pod import pods
from tiphys.kubelet.pod.pods import Pod
from tiphys.kubelet.pod.workers import PodWorkers
from tiphys.kubelet.recorder import PodEvents
from tiphys.kubelet.sources.static import MirrorPodClient, is_mirror_of
from tiphys.kubelet.status.manager import StatusManager
from tiphys.runtime.tasks import Runner

log = logging.getLogger(__name__)


class StaticSet:
    """``shown(namespace, name)`` gives a pod of the API; ``offer`` admits a new pod, or turns it away for good, as any
    other; ``sources`` are where pods come from. Until each has been heard nobody's absence means anything."""

    def __init__(
        self,
        *,
        workers: PodWorkers,
        status: StatusManager,
        mirrors: MirrorPodClient,
        events: PodEvents,
        runner: Runner,
        shown: Callable[[str, str], Pod | None],
        offer: Callable[[Pod], None],
        sources: Collection[str],
    ) -> None:
        self._workers = workers
        self._status = status
        self._mirrors = mirrors
        self._events = events
        self._runner = runner
        self._shown = shown
        self._offer = offer
        self._silent = set(sources)
        self._listed: dict[str, list[Pod]] = {source: [] for source in sources}
        self._doubtful: set[tuple[str, str]] = set()
        """Mirrors of which nobody knows yet whose they are."""
        self.complete = asyncio.Event()
        """Every source has been heard."""
        if not self._silent:
            self.complete.set()
        self.by_uid: dict[str, Pod] = {}

    def find(self, namespace: str, name: str) -> Pod | None:
        return next((pod for pod in self.by_uid.values() if pods.key_of(pod) == f"{namespace}/{name}"), None)

    def follow(self, source: str) -> Callable[[list[Pod]], None]:
        """What to call with all pods of a source whenever they change."""

        def changed(listed: list[Pod]) -> None:
            self._listed[source] = listed
            self._silent.discard(source)
            self._changed([pod for pods_of in self._listed.values() for pod in pods_of])
            if not self._silent and not self.complete.is_set():
                self.complete.set()
                self._settle_doubts()

        return changed

    def _settle_doubts(self) -> None:
        for place in self._doubtful:
            if (shown := self._shown(*place)) is not None and pods.is_mirror(shown):
                self.mirror_changed(shown)
        self._doubtful.clear()

    def _changed(self, listed: list[Pod]) -> None:
        now = {pods.uid_of(pod): pod for pod in self._without_doubles(listed)}
        before, self.by_uid = self.by_uid, now
        for uid, pod in before.items():
            if uid not in now:
                if self._workers.phase(uid) is not None:
                    self._workers.kill(pod)
                else:  # it was turned away
                    self._status.forget(uid)
                mirror = self._shown(pods.namespace_of(pod), pods.name_of(pod))
                if mirror is not None and is_mirror_of(mirror, pod):
                    self._runner.spawn(self._delete_mirror(mirror), "mirror pod")
        for uid, pod in now.items():
            if self._workers.phase(uid) is not None:
                self._workers.update(pod)
            elif uid not in before:
                self._offer(pod)

    def _without_doubles(self, listed: list[Pod]) -> list[Pod]:
        """The first of several static pods with one name counts."""
        by_name: dict[str, Pod] = {}
        for pod in listed:
            if by_name.setdefault(pods.key_of(pod), pod) is not pod:
                text = f"Error validating pod {pods.describe(pod)} from {pods.source_of(pod)} due to duplicate pod name"
                message = f'{text} "{pods.name_of(pod)}", ignoring'
                self._events.pod(pod, "Warning", "FailedValidation", message)
        return list(by_name.values())

    def mirror_changed(self, mirror: Pod) -> None:
        """The API has another version of a mirror; one that shows no static pod of this node is deleted."""
        pod = self.find(pods.namespace_of(mirror), pods.name_of(mirror))
        if pod is not None:
            self._status.api_changed(pods.uid_of(pod))
            if pods.is_deleting(mirror) or not is_mirror_of(mirror, pod):
                self._workers.poke(pods.uid_of(pod))
        elif not self.complete.is_set():
            self._doubtful.add((pods.namespace_of(mirror), pods.name_of(mirror)))
        else:
            self._runner.spawn(self._delete_mirror(mirror), "mirror pod")

    def mirror_deleted(self, mirror: Pod) -> None:
        """The mirror is gone: whose it was makes another."""
        for uid, static in self.by_uid.items():
            if is_mirror_of(mirror, static):
                self._workers.poke(uid)

    async def _delete_mirror(self, mirror: Pod) -> None:
        try:
            await self._mirrors.delete(mirror)
        except (errors.ApiError, ConnectionError, TimeoutError) as error:
            log.warning("cannot delete the mirror pod %s: %s", pods.key_of(mirror), error)
