"""The namespace controller's I/O: deletes everything in a namespace, pods first, and then removes its finalizer.

Source: https://kubernetes.io/docs/tasks/administer-cluster/namespaces/#deleting-a-namespace and
https://github.com/kubernetes/enhancements/tree/master/keps/sig-api-machinery/5080-ordered-namespace-deletion
"""

from __future__ import annotations

import logging

import orjson

from tiphys.api.object import Object
from tiphys.client import errors
from tiphys.client.informer import Callbacks
from tiphys.client.resources import NAMESPACES, PODS
from tiphys.client.rest import METADATA
from tiphys.controlkit import pods as podkit
from tiphys.controlkit.controller import Result
from tiphys.controlkit.discovery import ServedResource, discover
from tiphys.controlkit.objects import (
    copy,
    finalizers_of,
    is_deleting,
    key_of,
    name_of,
    namespace_of,
    parse_time,
    status_of,
    uid_of,
)
from tiphys.controlkit.queue import RateLimiter
from tiphys.controlkit.retry import TryAgain
from tiphys.controllers.context import ControllerContext
from tiphys.controllers.namespace.conditions import Progress, update_conditions
from tiphys.runtime.tasks import Runner

log = logging.getLogger(__name__)

DELAY = 5.0
"""Seconds between a namespace's deletion and the first pass, so that every API server knows that it is going."""
FINALIZER = "kubernetes"
FINALIZER_ESTIMATE = 15


class ContentRemains(TryAgain):
    """What was deleted is still there, though nothing holds it."""


class NamespaceController:
    def __init__(self, context: ControllerContext) -> None:
        self._client, self._clock = context.client, context.clock
        self._metadata = context.client.metadata_only()
        self._resync = context.config.namespace_sync_period
        self._namespaces = context.informers.informer(NAMESPACES)
        limiter: RateLimiter[str] = RateLimiter(context.clock, maximum=60.0)
        self._controller = context.controller(
            "namespace", self.reconcile, workers=context.config.concurrent_namespace_syncs, limiter=limiter
        )
        self._controller.handles(self._namespaces, Callbacks(changed=self._enqueue, deleted=lambda namespace: None))

    async def run(self) -> None:
        async with Runner(self._clock, "namespace ") as runner:
            runner.supervise(self._controller.run, "controller")
            while True:
                await self._clock.sleep(self._resync)
                for namespace in self._namespaces.store.list():
                    self._enqueue(namespace)

    def _enqueue(self, namespace: Object) -> None:
        if is_deleting(namespace):
            self._controller.queue.add_after(key_of(namespace), DELAY)

    async def reconcile(self, key: str) -> Result | None:
        """Delete the content of a namespace under deletion, then finalize it; returns when to look again."""
        if self._namespaces.store.get("", key) is None:
            return None
        try:
            namespace = await self._client.get(NAMESPACES, key)
            if not is_deleting(namespace):
                return None
            namespace = await self._mark_terminating(namespace)
            if not namespace["spec"].get("finalizers"):
                return None
            progress, failure = await self._delete_content(namespace)
            if failure is not None:
                raise failure
            if progress.estimate > 0:
                return Result(after=progress.estimate // 2 + 1)
            await self._finalize(namespace)
        except errors.NotFound:
            return None
        return None

    async def _mark_terminating(self, namespace: Object) -> Object:
        if status_of(namespace).get("phase") == "Terminating":
            return namespace
        wanted = copy(namespace)
        wanted.setdefault("status", {})["phase"] = "Terminating"
        return await self._client.update_status(NAMESPACES, wanted)

    async def _finalize(self, namespace: Object) -> None:
        fresh = await self._client.get(NAMESPACES, name_of(namespace))
        if uid_of(fresh) != uid_of(namespace):
            return
        fresh["spec"]["finalizers"] = sorted(set(fresh["spec"].get("finalizers") or ()) - {FINALIZER})
        await self._client.update(NAMESPACES, fresh, subresource="finalize")

    # Content

    async def _delete_content(self, namespace: Object) -> tuple[Progress, Exception | None]:
        """One pass. The failure is what the pass is to be repeated for."""
        progress = Progress()
        failure: Exception | None = None
        discovered = await discover(self._client)
        if discovered.failures:
            what = ", ".join(f"{group}: {why}" for group, why in sorted(discovered.failures.items()))
            count = len(discovered.failures)
            progress.discovery_failure = (
                f"Discovery failed for some groups, {count} failing: unable to retrieve the complete list of "
                f"server APIs: {what}"
            )
            failure = ContentRemains(progress.discovery_failure)
        deletable = [served for served in discovered.resources if served.path.namespaced and "delete" in served.verbs]
        pods = [served for served in deletable if served.path == PODS]
        others = [served for served in deletable if served.path != PODS]
        totals = False
        for served in pods:
            failure = await self._delete_resource(served, namespace, progress) or failure
        if not progress.remaining:
            totals = True
            for served in others:
                failure = await self._delete_resource(served, namespace, progress) or failure
        await self._write_conditions(namespace, progress, totals=totals)
        return progress, failure

    async def _delete_resource(self, served: ServedResource, namespace: Object, progress: Progress) -> Exception | None:
        try:
            await self._try_delete(served, namespace, progress)
        except (errors.MethodNotAllowed, errors.NotFound):
            return None
        except (errors.ApiError, ContentRemains) as error:
            message = error.message if isinstance(error, errors.ApiError) else str(error)
            progress.content_failures.append(message)
            return error
        except Exception as error:  # such as an aggregated server's answer that is no JSON: the others are deleted
            log.exception("deleting %s in namespace %s failed", served.path.plural, name_of(namespace))
            progress.content_failures.append(f"{type(error).__name__}: {error}")
            return error
        return None

    async def _try_delete(self, served: ServedResource, namespace: Object, progress: Progress) -> None:
        name = name_of(namespace)
        items = await self._list(served, name)
        if not items:
            return
        estimate = await self._grace(namespace) if served.path == PODS else 0
        await self._delete_all(served, name, items)
        items = await self._list(served, name)
        if not items:
            return
        progress.estimate = max(progress.estimate, estimate)
        resource = f"{served.path.plural}.{served.path.group}"
        progress.remaining[resource] = len(items)
        finalizers = [finalizer for item in items for finalizer in finalizers_of(item)]
        for finalizer in finalizers:
            progress.finalizers[finalizer] = progress.finalizers.get(finalizer, 0) + 1
        if estimate == 0:
            if not finalizers:
                where = f"{served.path.group}/{served.path.version}, Resource={served.path.plural}"
                raise ContentRemains(f"unexpected items still remain in namespace: {name} for gvr: {where}")
            progress.estimate = max(progress.estimate, FINALIZER_ESTIMATE)

    async def _list(self, served: ServedResource, namespace: str) -> list[Object]:
        if "list" not in served.verbs:
            return []
        answer = await self._metadata.list(served.path, namespace)
        return answer.get("items") or []

    async def _delete_all(self, served: ServedResource, namespace: str, items: list[Object]) -> None:
        if "deletecollection" in served.verbs:
            options = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"}
            path = served.path.path(namespace)
            headers = {"accept": METADATA.format("List")}
            response = await self._client.request("DELETE", path, body=orjson.dumps(options), headers=headers)
            await response.read()
            return
        for item in items:
            try:
                await self._client.delete(served.path, name_of(item), namespace_of(item), propagation="Background")
            except (errors.NotFound, errors.MethodNotAllowed):
                continue

    async def _grace(self, namespace: Object) -> int:
        """The longest grace period of the pods that run, unless it has passed since the namespace's deletion."""
        pods = (await self._client.list(PODS, name_of(namespace))).get("items") or []
        running = [pod for pod in pods if not podkit.is_finished(pod)]
        longest = max((int(pod["spec"].get("terminationGracePeriodSeconds") or 0) for pod in running), default=0)
        deleted = parse_time(namespace["metadata"]["deletionTimestamp"]) or 0.0
        return longest if self._clock.now() - deleted < longest else 0

    async def _write_conditions(self, namespace: Object, progress: Progress, *, totals: bool) -> None:
        current = status_of(namespace).get("conditions") or []
        wanted = update_conditions(current, progress, self._clock.now(), totals=totals)
        if wanted == current:
            return
        changed = {**namespace, "status": {**status_of(namespace), "conditions": wanted}}
        try:
            await self._client.update_status(NAMESPACES, changed)
        except errors.Conflict as error:
            log.debug("conditions of namespace %s: %s", name_of(namespace), error)
