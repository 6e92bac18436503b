"""ConfigMaps and Secrets that pods on this node refer to: each is watched by its name for as long as a pod needs it.

Watching single objects is what a node is allowed (the node authorizer), and it makes a changed ConfigMap reach its pods
at once instead of with the next look. Source: KEP-1412 and the kubelet's ``configMapAndSecretChangeDetectionStrategy``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tiphys.api.object import Object
from tiphys.client import errors
from tiphys.client.informer import Callbacks, Informer
from tiphys.client.resources import ResourcePath
from tiphys.client.rest import Client
from tiphys.runtime.clock import Clock
from tiphys.runtime.tasks import Runner

_Key = tuple[ResourcePath, str, str]
_SYNC_TIMEOUT = 5.0


@dataclass(slots=True)
class _Watched:
    informer: Informer
    task: asyncio.Task[Any]
    users: set[str] = field(default_factory=set)


class ApiObjects:
    """Single objects by name. ``changed`` is called with a pod's uid when an object that it uses has changed."""

    def __init__(self, client: Client, clock: Clock, runner: Runner, changed: Callable[[str], None]) -> None:
        self._client = client
        self._clock = clock
        self._runner = runner
        self._changed = changed
        self._watched: dict[_Key, _Watched] = {}

    async def get(self, pod_uid: str, resource: ResourcePath, namespace: str, name: str) -> Object | None:
        """The object, or None if it does not exist. Raises ``ApiError`` and ``ConnectionError``."""
        watched = self._watch(pod_uid, resource, namespace, name)
        try:
            async with asyncio.timeout(_SYNC_TIMEOUT):
                await watched.informer.wait_synced()
            obj = watched.informer.store.get(namespace, name)
        except TimeoutError:
            obj = None
        if obj is not None:
            return obj
        try:  # the first list may come from a cache that does not have a new object yet
            fresh = await self._client.get(resource, name, namespace)
        except errors.NotFound:
            return None
        fresh.setdefault("kind", "Secret" if resource.plural == "secrets" else "ConfigMap")
        return fresh

    def release(self, pod_uid: str) -> None:
        """The pod is gone: stop watching what no other pod needs."""
        for key, watched in list(self._watched.items()):
            watched.users.discard(pod_uid)
            if not watched.users:
                watched.task.cancel()
                del self._watched[key]

    def _watch(self, pod_uid: str, resource: ResourcePath, namespace: str, name: str) -> _Watched:
        key = (resource, namespace, name)
        watched = self._watched.get(key)
        if watched is None:
            informer = Informer(
                self._client, resource, self._clock, namespace=namespace, field_selector=f"metadata.name={name}"
            )
            task = self._runner.supervise(informer.run, f"watch {resource.plural} {namespace}/{name}")
            watched = self._watched[key] = _Watched(informer, task)

            def note(_: Object) -> None:
                for user in list(watched.users):
                    self._changed(user)

            informer.add_handler(Callbacks(updated=lambda _, new: note(new), changed=note))
        watched.users.add(pod_uid)
        return watched
