"""Looks after definitions: gives them their names, says when they are served, and deletes their objects before them.

Every definition is looked at again after any change of any of them: names that one gives back are free for others.
What is written is status only, as upstream's controllers inside the server write it.

Source: https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from tiphys.api import errors
from tiphys.api.meta.conditions import is_condition
from tiphys.api.meta.copying import copy
from tiphys.api.object import Object
from tiphys.apiserver.bootstrap.apiservices import follow_custom
from tiphys.apiserver.crd.naming import ESTABLISHED, accept_names, establish
from tiphys.apiserver.crd.serving import Serving
from tiphys.apiserver.registry import updating
from tiphys.apiserver.registry.making import delete_own, owned_status
from tiphys.apiserver.registry.registries import Registries
from tiphys.apiserver.registry.registry import Registry
from tiphys.apiserver.registry.strategies.definitions import CLEANUP, TERMINATING, set_status_condition
from tiphys.runtime.clock import Clock
from tiphys.runtime.tasks import Runner

log = logging.getLogger(__name__)

Change = Callable[[Object, str], bool]
"""Changes a definition in place, at a time; whether it did."""

_GROUP, _PLURAL = "apiextensions.k8s.io", "customresourcedefinitions"
_MANAGER = "kube-apiserver"
_POLL_SECONDS = 5.0
_PATIENCE_SECONDS = 60.0
_RETRY_SECONDS = 1.0


class DefinitionController:
    def __init__(
        self, registries: Registries, clock: Clock, runner: Runner, scheme_changed: Callable[[], None]
    ) -> None:
        self._registries = registries
        self._clock = clock
        self._runner = runner
        self._emptying: set[str] = set()
        """The uids of definitions whose objects are being deleted."""
        self._registry: Registry = registries.get(_GROUP, _PLURAL)
        self._serving = Serving(registries, self._registry, scheme_changed)
        self._wake = asyncio.Event()

    async def start(self) -> None:
        """Serve what is defined; from then on follow every change at once."""
        cacher = self._registry.store.cacher
        cacher.follow(self._changed)
        await cacher.ready()
        self._changed()

    def _changed(self) -> None:
        self._serving.update()
        self._wake.set()

    async def run(self) -> None:
        self._wake.set()  # what made this loop fail, if it did, has not been looked at
        while True:
            await self._wake.wait()
            self._wake.clear()
            if not await self._look_at_all():
                await self._clock.sleep(_RETRY_SECONDS)
                self._wake.set()
            await follow_custom(self._registries)

    async def _look_at_all(self) -> bool:
        """Whether every definition could be seen to; one that could not does not keep the next ones waiting."""
        well = True
        for entry in await self._registry.all():
            try:
                await self._look_at(self._registry.shared_object(entry))
            except errors.StatusError as error:
                log.warning("definition %s could not be written: %s", entry.name, error)
                well = False
            except Exception:
                log.exception("definition %s could not be looked after", entry.name)
                well = False
        return well

    async def _look_at(self, obj: Object) -> None:
        if is_terminating(obj):
            self._start_to_empty(obj)
        else:
            await self._settle(obj)

    async def _settle(self, obj: Object) -> None:
        """Names first, then that it is served: who watches sees the two steps, as from upstream."""
        from tiphys.apiserver.crd.approval import approve

        group = obj["spec"]["group"]
        for change in (approve, lambda new, now: accept_names(new, self._of_group(group), now), establish):
            await self._write(obj["metadata"]["name"], change)

    def _of_group(self, group: str) -> list[Object]:
        cacher = self._registry.store.cacher
        definitions = [self._registry.shared_object(entry) for entry in cacher.under(cacher.prefix)]
        return [obj for obj in definitions if obj["spec"].get("group") == group]

    async def _write(self, name: str, change: Change) -> Object | None:
        """Write the status of a definition if ``change`` changes it; None if the definition is gone."""
        registry = self._registry
        entry = await registry.store.get("", name)
        if entry is None:
            return None
        if not change(current := registry.object(entry), registry.write_context().now):
            return current
        write = registry.write_context(manager=_MANAGER, subresource="status")

        async def transform(stored: Object | None) -> Object:
            assert stored is not None
            new = copy(stored)
            change(new, write.now)
            return owned_status(registry, stored, new, write.now)

        update = updating.Update("", name, transform, updating.StatusRules(registry))
        try:
            written, _ = await updating.update(registry, update, write)
        except errors.StatusError as error:
            if error.code == 404:
                return None
            raise
        return registry.object(written)

    # -- deletion

    def _start_to_empty(self, obj: Object) -> None:
        """On the side: objects may have finalizers that take their time, and other definitions do not wait for them."""
        meta = obj["metadata"]
        if meta["uid"] not in self._emptying:
            self._emptying.add(meta["uid"])
            self._runner.spawn(self._empty_until_done(meta["name"], meta["uid"]), f"deletion of {meta['name']}")

    async def _empty_until_done(self, name: str, uid: str) -> None:
        try:
            while not await self._empty_contained(name):
                await self._clock.sleep(_RETRY_SECONDS)
        finally:
            self._emptying.discard(uid)

    async def _empty_contained(self, name: str) -> bool:
        """One round; one that failed is made again."""
        try:
            return await self._empty(name)
        except Exception:
            log.exception("the objects of definition %s could not be deleted", name)
            return False

    async def _empty(self, name: str) -> bool:
        """Delete the objects of a definition, then its finalizer; returns whether that is done."""

        def begin(obj: Object, now: str) -> bool:
            text = "CustomResource deletion is in progress"
            return set_status_condition(obj, TERMINATING, "True", "InstanceDeletionInProgress", text, now)

        obj = await self._write(name, begin)
        if obj is None:
            return True
        if is_condition(obj["status"].get("conditions"), ESTABLISHED):
            reason, text = "InstanceDeletionCompleted", "removed all instances"
            if not await self._delete_objects(obj):
                return False
        else:
            reason, text = "NeverEstablished", "resource was never established"

        def finish(obj: Object, now: str) -> bool:
            set_status_condition(obj, TERMINATING, "False", reason, text, now)
            finalizers = obj["metadata"].get("finalizers") or []
            obj["metadata"]["finalizers"] = [finalizer for finalizer in finalizers if finalizer != CLEANUP]
            return True

        await self._write(name, finish)
        return True

    async def _delete_objects(self, obj: Object) -> bool:
        """Whether all objects of a definition are gone."""
        group, plural = obj["spec"]["group"], obj["status"]["acceptedNames"]["plural"]
        if self._registries.scheme.resource(group, plural) is None:
            return True
        registry = self._registries.get(group, plural)
        waited = 0.0
        while True:
            entries = await registry.all()
            if not entries:
                return True
            for entry in entries:
                await delete_own(registry, entry.namespace, entry.name)
            if not await registry.all():
                return True
            if waited >= _PATIENCE_SECONDS:
                return False
            await self._clock.sleep(_POLL_SECONDS)
            waited += _POLL_SECONDS


def is_terminating(obj: Object) -> bool:
    meta = obj["metadata"]
    return "deletionTimestamp" in meta and CLEANUP in (meta.get("finalizers") or ())
