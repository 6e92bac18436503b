"""The garbage collector's I/O: looks at the objects that the graph points out, and deletes, patches or finalizes them.

Source: https://kubernetes.io/docs/concepts/architecture/garbage-collection/
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from tiphys.api.object import Object
from tiphys.client import errors
from tiphys.client.rest import STRATEGIC_MERGE
from tiphys.controlkit.controller import Result
from tiphys.controlkit.discovery import ServedResource
from tiphys.controlkit.objects import (
    finalizers_of,
    is_deleting,
    name_of,
    namespace_of,
    uid_of,
)
from tiphys.controllers.context import ControllerContext
from tiphys.controllers.garbagecollector.graph import (
    FOREGROUND,
    ORPHAN,
    CollectorWork,
    Graph,
    Identity,
    ObjectNode,
    Reference,
    references_of,
)
from tiphys.controllers.garbagecollector.monitors import Monitors
from tiphys.runtime.tasks import Runner

log = logging.getLogger(__name__)

DISCOVERY_PERIOD = 30.0
CONFLICT_RETRIES = 4
UNSUPPORTED_MEDIA_TYPE = 415


class UnknownKind(Exception):
    """A reference names a kind that is not served (yet)."""


@dataclass(slots=True)
class Classified:
    """The owner references of an object, by what became of the owner."""

    solid: list[Reference] = field(default_factory=list)
    dangling: list[Reference] = field(default_factory=list)
    waiting: list[Reference] = field(default_factory=list)


class GarbageCollector:
    def __init__(self, context: ControllerContext) -> None:
        self._context, self._clock = context, context.clock
        self._client = context.client.metadata_only()
        self._recorder = context.recorder.named("garbage-collector-controller")
        self._graph = Graph()
        self._monitors = Monitors(
            client=context.client,
            informers=context.informers,
            clock=context.clock,
            changed=self._changed,
            deleted=self._deleted,
        )
        workers = context.config.concurrent_gc_syncs
        self._delete = context.controller(
            "garbage_collector_attempt_to_delete", self.attempt_to_delete, workers=workers
        )
        self._orphan = context.controller(
            "garbage_collector_attempt_to_orphan", self.attempt_to_orphan, workers=workers
        )

    async def run(self) -> None:
        self._monitors.stop_all()  # those of a run that failed have ended with it
        async with Runner(self._clock, "garbage collector ") as runner:
            await self._resync(runner)
            await self._monitors.wait_synced()
            runner.supervise(self._delete.run, "delete")
            runner.supervise(self._orphan.run, "orphan")
            while True:
                await self._clock.sleep(DISCOVERY_PERIOD)
                await self._resync(runner)

    async def _resync(self, runner: Runner) -> None:
        try:
            await self._monitors.resync(runner)
        except (errors.ApiError, ConnectionError, TimeoutError) as error:
            log.warning("cannot discover resources: %s", error)

    # The graph

    def _changed(self, served: ServedResource, obj: Object, old: Object | None) -> None:
        if old is not None and uid_of(old) != uid_of(obj):  # replaced by one of its name while the watch was away
            self._enqueue(self._graph.delete(uid_of(old)))
            old = None
        self._enqueue(self._graph.observe(obj, served.api_version, served.kind, old))

    def _deleted(self, served: ServedResource, obj: Object) -> None:
        self._enqueue(self._graph.delete(uid_of(obj)))

    def _enqueue(self, work: CollectorWork) -> None:
        for uid in work.delete:
            self._delete.queue.add(uid)
        for uid in work.delete_later:
            self._delete.queue.add_rate_limited(uid)
        for uid in work.orphan:
            self._orphan.queue.add(uid)
        for node, reference in work.wrong_namespace:
            self._complain(node, reference)

    def _complain(self, node: ObjectNode, reference: Reference) -> None:
        own = node.identity
        about = {
            "kind": own.kind,
            "apiVersion": own.api_version,
            "namespace": own.namespace,
            "name": own.name,
            "uid": own.uid,
        }
        wrong = Identity(reference.kind, reference.api_version, own.namespace, reference.name, reference.uid)
        message = f'ownerRef {wrong} does not exist in namespace "{own.namespace}"'
        self._recorder.event(about, "Warning", "OwnerRefInvalidNamespace", message)

    # Deleting

    async def attempt_to_delete(self, uid: str) -> Result | None:
        """Delete an object without owners, or finish its foreground deletion; returns whether to try again."""
        node = self._graph.nodes.get(uid)
        if node is None or (node.being_deleted and not node.deleting_dependents):
            return None
        try:
            live = await self._live(node.identity)
        except UnknownKind as error:
            log.debug("%s", error)
            return Result(retry=True)
        if live is None:
            self._enqueue(self._graph.deny(node.identity))
            return None
        if node.deleting_dependents:
            await self._finish_foreground(node)
            return None
        if live["metadata"].get("ownerReferences"):
            try:
                await self._judge(node, live)
            except UnknownKind as error:
                log.debug("%s", error)
                return Result(retry=True)
        return Result(retry=True) if node.virtual and uid in self._graph.nodes else None

    async def _finish_foreground(self, node: ObjectNode) -> None:
        blocking = self._graph.blocking_dependents(node)
        if not blocking:
            await self._remove_finalizer(node.identity, FOREGROUND)
            return
        for dependent in blocking:
            if not dependent.deleting_dependents:
                self._delete.queue.add(dependent.identity.uid)

    async def _judge(self, node: ObjectNode, live: Object) -> None:
        references = await self._classify(node, live)
        if references is None:
            return
        if references.solid:
            stale = [reference.uid for reference in (*references.dangling, *references.waiting)]
            if stale:
                await self._drop_references(node.identity, stale)
            return
        if references.waiting and node.dependents:
            if any(dependent.deleting_dependents for dependent in self._graph.dependents(node)):
                await self._unblock(node)  # there may be a cycle of objects that wait for each other
            await self._delete_object(node.identity, live, "Foreground")
            return
        await self._delete_object(node.identity, live, _policy(live))

    async def _classify(self, node: ObjectNode, live: Object) -> Classified | None:
        """None if a reference is such that nothing can be said."""
        result = Classified()
        for reference in references_of(live):
            owner = await self._owner(node, reference)
            if owner is _NAMESPACED_OWNER:
                return None
            if owner is None:
                result.dangling.append(reference)
            elif is_deleting(owner) and FOREGROUND in finalizers_of(owner):
                result.waiting.append(reference)
            else:
                result.solid.append(reference)
        return result

    async def _owner(self, node: ObjectNode, reference: Reference) -> Object | None:
        """The owner as it is now, None if it does not exist."""
        own = node.identity
        cluster = Identity(reference.kind, reference.api_version, "", reference.name, reference.uid)
        local = Identity(reference.kind, reference.api_version, own.namespace, reference.name, reference.uid)
        if cluster in self._graph.absent or local in self._graph.absent:
            return None
        served = self._served(reference.api_version, reference.kind)
        if served.path.namespaced and not own.namespace:
            return _NAMESPACED_OWNER
        identity = local if served.path.namespaced else cluster
        live = await self._get(served, identity)
        if live is None:
            self._graph.absent.add(identity)
        return live

    # Orphaning

    async def attempt_to_orphan(self, uid: str) -> None:
        node = self._graph.nodes.get(uid)
        if node is None:
            return
        dependents = self._graph.dependents(node)
        await asyncio.gather(*(self._drop_references(dependent.identity, [uid]) for dependent in dependents))
        await self._remove_finalizer(node.identity, ORPHAN)

    # Requests

    def _served(self, api_version: str, kind: str) -> ServedResource:
        for served in self._monitors.discovered.resources:
            if served.kind == kind and served.api_version == api_version:
                return served
        raise UnknownKind(f"unable to get REST mapping for {api_version}/{kind}.")

    async def _live(self, identity: Identity) -> Object | None:
        served = self._served(identity.api_version, identity.kind)
        if served.path.namespaced and not identity.namespace:
            return None
        return await self._get(served, identity)

    async def _get(self, served: ServedResource, identity: Identity) -> Object | None:
        namespace = identity.namespace if served.path.namespaced else ""
        try:
            live = await self._client.get(served.path, identity.name, namespace)
        except errors.NotFound:
            return None
        return live if uid_of(live) == identity.uid else None

    async def _delete_object(self, identity: Identity, live: Object, policy: str) -> None:
        served = self._served(identity.api_version, identity.kind)
        version = live["metadata"].get("resourceVersion", "")
        try:
            await self._try_delete(served, live, policy, version)
        except errors.NotFound:
            self._enqueue(self._graph.deny(identity))
        except errors.Conflict:
            fresh = await self._get(served, identity)
            if fresh is None:
                self._enqueue(self._graph.deny(identity))
            elif references_of(fresh) == references_of(live):
                await self._try_delete(served, fresh, policy, "")
            else:
                raise

    async def _try_delete(self, served: ServedResource, live: Object, policy: str, version: str) -> None:
        await self._client.delete(
            served.path,
            name_of(live),
            namespace_of(live),
            uid=uid_of(live),
            resource_version=version,
            propagation=policy,
        )

    async def _patch(self, identity: Identity, patch: Object, type: str) -> None:
        served = self._served(identity.api_version, identity.kind)
        namespace = identity.namespace if served.path.namespaced else ""
        await self._client.patch(served.path, identity.name, patch, namespace, type=type)

    async def _drop_references(self, identity: Identity, owners: list[str]) -> None:
        """Remove owner references by uid; one that is gone, or whose object is, needs nothing."""
        deleted = [{"$patch": "delete", "uid": owner} for owner in owners]
        try:
            await self._patch(identity, _patch_of(identity, deleted), STRATEGIC_MERGE)
        except errors.NotFound:
            return
        except errors.ApiError as error:
            if error.code != UNSUPPORTED_MEDIA_TYPE:  # custom resources know no strategic merge
                raise
            await self._rewrite_references(identity, lambda r: None if r["uid"] in owners else r)

    async def _unblock(self, node: ObjectNode) -> None:
        blocking = [{**_as_dict(r), "blockOwnerDeletion": False} for r in node.owners if r.blocks]
        try:
            await self._patch(node.identity, _patch_of(node.identity, blocking), STRATEGIC_MERGE)
        except errors.ApiError as error:
            if error.code != UNSUPPORTED_MEDIA_TYPE:
                raise
            await self._rewrite_references(node.identity, lambda r: {**r, "blockOwnerDeletion": False})

    async def _rewrite_references(self, identity: Identity, change: Callable[[Object], Object | None]) -> None:
        live = await self._live(identity)
        if live is None:
            return
        kept = [new for r in live["metadata"].get("ownerReferences") or () if (new := change(r)) is not None]
        meta = {"resourceVersion": live["metadata"]["resourceVersion"], "ownerReferences": kept}
        await self._patch(identity, {"metadata": meta}, "application/merge-patch+json")

    async def _remove_finalizer(self, identity: Identity, finalizer: str) -> None:
        for attempt in range(CONFLICT_RETRIES + 1):
            live = await self._live(identity)
            if live is None or finalizer not in finalizers_of(live):
                return
            kept = [name for name in finalizers_of(live) if name != finalizer]
            meta = {"resourceVersion": live["metadata"]["resourceVersion"], "finalizers": kept}
            try:
                await self._patch(identity, {"metadata": meta}, "application/merge-patch+json")
            except errors.NotFound:
                return
            except errors.Conflict:
                if attempt == CONFLICT_RETRIES:
                    raise
            else:
                return


_NAMESPACED_OWNER: Object = {"metadata": {}}
"""Stands for an owner that cannot be looked up: a cluster-scoped object names a namespaced one."""


def _as_dict(reference: Reference) -> Object:
    return {
        "apiVersion": reference.api_version,
        "kind": reference.kind,
        "name": reference.name,
        "uid": reference.uid,
    }


def _patch_of(identity: Identity, references: list[Object]) -> Object:
    return {"metadata": {"uid": identity.uid, "ownerReferences": references}}


def _policy(live: Object) -> str:
    """A finalizer that the user set by hand says how it is to be deleted."""
    if ORPHAN in finalizers_of(live):
        return "Orphan"
    return "Foreground" if FOREGROUND in finalizers_of(live) else "Background"
