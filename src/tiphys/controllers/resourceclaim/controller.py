"""The resource claim controller's I/O: two queues, of pods whose claims are missing, and of claims to give back.

Source: https://kubernetes.io/docs/concepts/scheduling-eviction/dynamic-resource-allocation/
"""

from __future__ import annotations

import asyncio

from tiphys.api.object import Object
from tiphys.client import errors
from tiphys.client.informer import Callbacks
from tiphys.client.resources import PODS, RESOURCE_CLAIM_TEMPLATES, RESOURCE_CLAIMS
from tiphys.controlkit import pods as podkit
from tiphys.controlkit.consistency import Consistency
from tiphys.controlkit.controller import Result
from tiphys.controlkit.objects import (
    is_controlled_by,
    is_deleting,
    key_of,
    name_of,
    namespace_of,
    split_key,
    status_of,
    uid_of,
)
from tiphys.controlkit.retry import TryAgain
from tiphys.controllers.context import ControllerContext
from tiphys.controllers.resourceclaim import plan

FIELD_MANAGER = "ResourceClaimController"
_BY_CLAIM, _BY_TEMPLATE, _BY_OWNER = "resource claim", "resource claim template", "owning pod"


class CannotMake(TryAgain):
    """A claim of a pod cannot be made now."""


class ResourceClaimController:
    def __init__(self, context: ControllerContext) -> None:
        self._client = context.client
        self._recorder = context.recorder.named("resource_claim")
        self._claims = context.informers.informer(RESOURCE_CLAIMS)
        self._templates = context.informers.informer(RESOURCE_CLAIM_TEMPLATES)
        self._pods = context.informers.informer(PODS)
        self._consistency = Consistency(context.clock)
        self._pods.add_index(_BY_CLAIM, _claims_by_key)
        self._pods.add_index(_BY_TEMPLATE, _templates_by_key)
        self._claims.add_index(_BY_OWNER, _owner)
        workers = context.config.concurrent_resource_claim_syncs
        self._pod_work = context.controller("resource_claim", self.reconcile_pod, workers=workers)
        self._claim_work = context.controller("resource_claim_release", self.reconcile_claim, workers=workers)
        for work in (self._pod_work, self._claim_work):
            for informer in (self._pods, self._claims, self._templates):
                work.reads(informer)
        self._pods.add_handler(Callbacks(changed=self._pod_changed, deleted=self._release))
        self._claims.add_handler(Callbacks(changed=self._claim_changed, deleted=self._claim_gone))
        self._templates.add_handler(Callbacks(changed=self._template_changed, deleted=lambda template: None))

    async def run(self) -> None:
        await asyncio.gather(self._pod_work.run(), self._claim_work.run())

    # Events

    def _pod_changed(self, pod: Object) -> None:
        if not plan.may_still_run(pod):
            self._release(pod)
            return
        if plan.claims_of(pod) and not is_deleting(pod):
            self._pod_work.queue.add(key_of(pod))

    def _release(self, pod: Object) -> None:
        for name in plan.claim_names(pod):
            self._claim_work.queue.add(f"{namespace_of(pod)}/{name}")

    def _claim_changed(self, claim: Object) -> None:
        self._claim_work.queue.add(key_of(claim))
        self._claim_gone(claim)

    def _claim_gone(self, claim: Object) -> None:
        for pod in self._pods.store.by_index(_BY_CLAIM, key_of(claim)):
            self._pod_changed(pod)

    def _template_changed(self, template: Object) -> None:
        for pod in self._pods.store.by_index(_BY_TEMPLATE, key_of(template)):
            self._pod_changed(pod)

    # Pods: claims that are missing, and reservations

    async def reconcile_pod(self, key: str) -> Result | None:
        """Make a pod's missing claims from templates, and reserve them for it once it has a node."""
        pod = self._pods.store.get(*split_key(key))
        if pod is None:
            self._consistency.forget(key)
            return None
        if is_deleting(pod) or not plan.may_still_run(pod):
            return None  # else the claim that is deleted because of that would be made again, and so on
        if not self._consistency.ready(key):
            return Result(retry=True)
        known = plan.statuses_of(pod)
        claims = dict(known)
        for entry in plan.claims_of(pod):
            await self._note_claim(pod, entry, claims)
        if claims != known:
            await self._write_statuses(pod, claims)
        if podkit.node_of(pod):
            await self._reserve(key, pod, claims)
        return None

    async def _note_claim(self, pod: Object, entry: Object, claims: dict[str, str | None]) -> None:
        """Make sure of the claim that is generated for ``entry``; its name is added to ``claims``."""
        if entry.get("resourceClaimTemplateName") is None:
            return
        if entry["name"] in claims:
            name = claims[entry["name"]]
            claim = self._claims.store.get(namespace_of(pod), name) if name else None
            if not name or (claim is not None and is_controlled_by(claim, pod)):
                return
        try:
            claims[entry["name"]] = await self._ensure(pod, entry)
        except (errors.ApiError, CannotMake) as error:
            why = error.message if isinstance(error, errors.ApiError) else str(error)
            message = f"PodResourceClaim {entry['name']}: {why}"
            self._recorder.event(pod, "Warning", "FailedResourceClaimCreation", message)
            raise CannotMake(f"pod {key_of(pod)}, {message}") from error

    async def _ensure(self, pod: Object, entry: Object) -> str:
        """The name of the claim that was generated before, or is now."""
        made = plan.generated_for(pod, entry, self._claims.store.by_index(_BY_OWNER, uid_of(pod)))
        if made is not None:
            return name_of(made)
        wanted = entry["resourceClaimTemplateName"]
        template = self._templates.store.get(namespace_of(pod), wanted)
        if template is None:
            missing = f'resourceclaimtemplate.resource.k8s.io "{wanted}" not found'
            raise CannotMake(f'resource claim template "{wanted}": {missing}')
        try:
            claim = await self._client.create(RESOURCE_CLAIMS, plan.from_template(pod, entry, template))
        except errors.ApiError as error:
            raise CannotMake(f"create ResourceClaim : {error.message}") from error
        self._consistency.wrote(key_of(pod), self._claims, claim)
        return name_of(claim)

    async def _write_statuses(self, pod: Object, claims: dict[str, str | None]) -> None:
        entries = [{"name": entry} | ({"resourceClaimName": name} if name else {}) for entry, name in claims.items()]
        applied = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name_of(pod), "namespace": namespace_of(pod), "uid": uid_of(pod)},
            "status": {"resourceClaimStatuses": entries},
        }
        await self._client.apply(PODS, applied, FIELD_MANAGER, force=True, subresource="status")

    async def _reserve(self, key: str, pod: Object, claims: dict[str, str | None]) -> None:
        for entry in plan.claims_of(pod):
            name = entry.get("resourceClaimName") or claims.get(entry["name"])
            claim = self._claims.store.get(namespace_of(pod), name) if name else None
            if claim is not None and plan.needs_reservation(pod, entry, claim):
                wanted = plan.reserved_for(claim, pod)
                written = await self._client.update_status(RESOURCE_CLAIMS, wanted)
                self._consistency.wrote(key, self._claims, written)

    # Claims: consumers that are gone, and claims that nobody will use

    async def reconcile_claim(self, key: str) -> None:
        """Release a claim from consumers that no longer exist, and delete it if it was generated and is unused."""
        claim = self._claims.store.get(*split_key(key))
        if claim is None:
            return
        before = plan.consumers(claim)
        remaining = [consumer for consumer in before if await self._still_uses(claim, consumer)]
        if len(remaining) < len(before):
            claim = await self._client.update_status(RESOURCE_CLAIMS, plan.released(claim, remaining))
            if plan.FINALIZER in plan.finalizers_of(claim) and status_of(claim).get("allocation") is None:
                await self._client.update(RESOURCE_CLAIMS, plan.without_finalizer(claim))
        elif plan.FINALIZER in plan.finalizers_of(claim) and is_deleting(claim) and not remaining:
            if status_of(claim).get("allocation") is not None:
                claim = await self._client.update_status(RESOURCE_CLAIMS, plan.released(claim, []))
            await self._client.update(RESOURCE_CLAIMS, plan.without_finalizer(claim))
        if not remaining:
            await self._delete_unused(claim)

    async def _still_uses(self, claim: Object, consumer: Object) -> bool:
        if not plan.consumes_as_pod(consumer):
            return True
        pod = self._pods.store.get(namespace_of(claim), consumer["name"])
        if pod is None:  # it may be so new that the informer does not show it yet
            try:
                pod = await self._client.get(PODS, consumer["name"], namespace_of(claim))
            except errors.NotFound:
                return False
        return uid_of(pod) == consumer["uid"] and plan.may_still_run(pod)

    async def _delete_unused(self, claim: Object) -> None:
        """Delete a generated claim whose pod does not run any more; when the pod is gone the garbage collector does."""
        owner = plan.owning_pod(claim)
        pod = self._pods.store.get(namespace_of(claim), owner["name"]) if owner is not None else None
        if owner is None or pod is None or (uid_of(pod) == owner["uid"] and plan.may_still_run(pod)):
            return
        try:
            await self._client.delete(RESOURCE_CLAIMS, name_of(claim), namespace_of(claim), uid=uid_of(claim))
        except errors.NotFound:
            return


def _claims_by_key(pod: Object) -> list[str]:
    return [f"{namespace_of(pod)}/{name}" for name in plan.claim_names(pod)]


def _templates_by_key(pod: Object) -> list[str]:
    wanted = {entry.get("resourceClaimTemplateName") for entry in plan.claims_of(pod)}
    return [f"{namespace_of(pod)}/{name}" for name in wanted if name]


def _owner(claim: Object) -> list[str]:
    owner = plan.owning_pod(claim)
    return [owner["uid"]] if owner is not None else []
