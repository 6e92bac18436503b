"""Generic ephemeral volumes: a claim for each, owned by its pod and so gone with it.

Source: https://kubernetes.io/docs/concepts/storage/ephemeral-volumes/#generic-ephemeral-volumes
"""

from __future__ import annotations

from typing import Any

from tiphys.api.object import Object
from tiphys.api.volumes.claims import ephemeral_claim
from tiphys.client import errors
from tiphys.client.informer import Callbacks
from tiphys.client.resources import PERSISTENT_VOLUME_CLAIMS, PODS
from tiphys.controlkit.objects import (
    controller_reference,
    is_deleting,
    key_of,
    name_of,
    namespace_of,
    split_key,
    uid_of,
)
from tiphys.controlkit.retry import TryAgain
from tiphys.controllers.context import ControllerContext
from tiphys.controllers.volumes.podclaims import BY_CLAIM, index_by_claim


def claim_for(pod: Object, volume: Object) -> Object:
    template = volume["ephemeral"]["volumeClaimTemplate"]
    meta: dict[str, Any] = {
        "name": ephemeral_claim(pod, volume),
        "namespace": namespace_of(pod),
        "ownerReferences": [controller_reference(pod, "v1", "Pod")],
    }
    for field in ("annotations", "labels"):
        if values := (template.get("metadata") or {}).get(field):
            meta[field] = values
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": meta, "spec": template["spec"]}


def is_for(claim: Object, pod: Object) -> bool:
    """Whether the pod owns the claim: a stranger of the same name must not be mounted."""
    owners = claim["metadata"].get("ownerReferences") or ()
    return any(owner.get("controller") and owner["uid"] == uid_of(pod) for owner in owners)


class EphemeralVolumeController:
    def __init__(self, context: ControllerContext) -> None:
        self._client = context.client
        self._recorder = context.recorder.named("ephemeral_volume")
        self._claims = context.informers.informer(PERSISTENT_VOLUME_CLAIMS)
        self._pods = context.informers.informer(PODS)
        index_by_claim(self._pods)
        workers = context.config.concurrent_ephemeral_volume_syncs
        self._controller = context.controller("ephemeral_volume", self.reconcile, workers=workers)
        self._controller.handles(
            self._pods, Callbacks(added=self._enqueue, updated=lambda old, new: None, deleted=_nothing)
        )
        self._controller.handles(
            self._claims, Callbacks(added=_nothing, updated=lambda old, new: None, deleted=self._claim_gone)
        )

    async def run(self) -> None:
        await self._controller.run()

    def _enqueue(self, pod: Object) -> None:
        if not is_deleting(pod) and any(volume.get("ephemeral") for volume in pod["spec"].get("volumes") or ()):
            self._controller.queue.add(key_of(pod))

    def _claim_gone(self, claim: Object) -> None:
        for pod in self._pods.store.by_index(BY_CLAIM, key_of(claim)):
            self._enqueue(pod)

    async def reconcile(self, key: str) -> None:
        pod = self._pods.store.get(*split_key(key))
        if pod is None or is_deleting(pod):
            return
        for volume in pod["spec"].get("volumes") or ():
            if volume.get("ephemeral") and (trouble := await self._ensure(pod, volume)):
                message = f"ephemeral volume {volume['name']}: {trouble}"
                self._recorder.event(pod, "Warning", "FailedBinding", message)
                raise TryAgain(message)

    async def _ensure(self, pod: Object, volume: Object) -> str:
        """What is wrong, if anything."""
        name, namespace = ephemeral_claim(pod, volume), namespace_of(pod)
        claim = self._claims.store.get(namespace, name)
        if claim is None:
            try:
                await self._client.create(PERSISTENT_VOLUME_CLAIMS, claim_for(pod, volume))
            except errors.ApiError as error:
                return f"create PVC {name}: {error.message}"
            return ""
        if is_for(claim, pod):
            return ""
        place = f"{namespace}/{name_of(pod)}"
        return f"PVC {namespace}/{name} was not created for pod {place} (pod is not owner)"


def _nothing(obj: Object) -> None:
    """Neither the end of a pod nor a new claim asks for another claim."""
