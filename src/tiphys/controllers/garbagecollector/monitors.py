"""Watches over every kind that can be deleted, for the graph.

A kind that another controller follows anyway is followed through that informer; of all others only the metadata that
the graph needs is asked for and kept. Kinds change with custom resource definitions, so discovery is asked again
and again. Source: https://kubernetes.io/docs/concepts/architecture/garbage-collection/
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from tiphys.api.object import Object
from tiphys.client.informer import Callbacks, Informer, InformerFactory
from tiphys.client.resources import ResourcePath
from tiphys.client.rest import Client
from tiphys.controlkit.discovery import Discovered, ServedResource, discover
from tiphys.runtime.clock import Clock
from tiphys.runtime.tasks import Runner

IGNORED = frozenset((("", "events"), ("events.k8s.io", "events")))
"""Kinds that have no owners and are too many to follow."""

_KEPT = ("name", "namespace", "uid", "resourceVersion", "ownerReferences", "finalizers", "deletionTimestamp")

Changed = Callable[[ServedResource, Object, Object | None], None]
Deleted = Callable[[ServedResource, Object], None]


def skeleton(obj: Object) -> Object:
    """The part of an object's metadata that the graph needs."""
    meta = obj["metadata"]
    return {"metadata": {field: meta[field] for field in _KEPT if field in meta}}


@dataclass(slots=True)
class _Monitor:
    informer: Informer
    task: asyncio.Task[object] | None
    stopped: bool = False


class Monitors:
    """One monitor for each kind that can be deleted, listed and watched."""

    def __init__(
        self, *, client: Client, informers: InformerFactory, clock: Clock, changed: Changed, deleted: Deleted
    ) -> None:
        self._client, self._metadata = client, client.metadata_only()
        self._informers, self._clock = informers, clock
        self._changed, self._deleted = changed, deleted
        self._monitors: dict[ResourcePath, _Monitor] = {}
        self.discovered = Discovered((), {})

    async def resync(self, runner: Runner) -> bool:
        """Ask discovery and follow what is new; whether anything changed."""
        discovered = await discover(self._client, every_version=True)
        self.discovered = discovered
        wanted = {served.path: served for served in _preferred(discovered) if _is_followed(served)}
        gone = [path for path in self._monitors if path not in wanted and not _failed(path, discovered)]
        for path in gone:
            self._stop(path)
        new = [served for path, served in wanted.items() if path not in self._monitors]
        for served in new:
            self._start(served, runner)
        return bool(new or gone)

    async def wait_synced(self) -> None:
        for monitor in list(self._monitors.values()):
            await monitor.informer.wait_synced()

    def _start(self, served: ServedResource, runner: Runner) -> None:
        shared = self._informers.existing(served.path)
        if shared is not None:
            monitor = _Monitor(shared, None)
        else:
            informer = Informer(self._metadata, served.path, self._clock, transform=skeleton)
            monitor = _Monitor(informer, runner.supervise(informer.run, f"metadata of {served.path.plural}"))
        self._monitors[served.path] = monitor

        def changed(obj: Object, old: Object | None = None) -> None:
            if not monitor.stopped:
                self._changed(served, obj, old)

        def deleted(obj: Object) -> None:
            if not monitor.stopped:
                self._deleted(served, obj)

        monitor.informer.add_handler(
            Callbacks(added=changed, updated=lambda old, new: changed(new, old), deleted=deleted)
        )

    def stop_all(self) -> None:
        for path in list(self._monitors):
            self._stop(path)

    def _stop(self, path: ResourcePath) -> None:
        monitor = self._monitors.pop(path)
        monitor.stopped = True
        if monitor.task is not None:
            monitor.task.cancel()


def _preferred(discovered: Discovered) -> list[ServedResource]:
    """Each resource once, in the version that comes first."""
    first: dict[tuple[str, str], ServedResource] = {}
    for served in discovered.resources:
        first.setdefault((served.path.group, served.path.plural), served)
    return list(first.values())


def _is_followed(served: ServedResource) -> bool:
    return served.verbs >= {"delete", "list", "watch"} and (served.path.group, served.path.plural) not in IGNORED


def _failed(path: ResourcePath, discovered: Discovered) -> bool:
    return f"{path.group}/{path.version}" in discovered.failures
