"""Protection of claims, volumes, and classes of attributes: one in use is not removed before its last user is gone.

Source: https://kubernetes.io/docs/concepts/storage/persistent-volumes/#storage-object-in-use-protection
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from tiphys.api.object import Object
from tiphys.api.volumes.claims import claims_of
from tiphys.client import errors
from tiphys.client.informer import Callbacks
from tiphys.client.resources import (
    PERSISTENT_VOLUME_CLAIMS,
    PERSISTENT_VOLUMES,
    PODS,
    VOLUME_ATTRIBUTES_CLASSES,
    ResourcePath,
)
from tiphys.client.rest import Client
from tiphys.controlkit import pods as podkit
from tiphys.controlkit.objects import (
    copy,
    finalizers_of,
    is_deleting,
    key_of,
    split_key,
    status_of,
)
from tiphys.controllers.context import ControllerContext
from tiphys.controllers.volumes.podclaims import BY_CLAIM, index_by_claim

CLAIM_FINALIZER = "kubernetes.io/pvc-protection"
VOLUME_FINALIZER = "kubernetes.io/pv-protection"
CLASS_FINALIZER = "kubernetes.io/vac-protection"


def is_used(pods: Iterable[Object]) -> bool:
    """Whether one of the pods that name a claim may have it mounted: it was scheduled and has not ended."""
    return any(podkit.node_of(pod) and not podkit.is_finished(pod) for pod in pods)


async def _settle(client: Client, resource: ResourcePath, obj: Object, finalizer: str, *, used: bool) -> None:
    """Release an object that is being deleted and not used; protect one that is not being deleted."""
    finalizers = finalizers_of(obj)
    if is_deleting(obj) and finalizer in finalizers and not used:
        wanted = [name for name in finalizers if name != finalizer]
    elif not is_deleting(obj) and finalizer not in finalizers:
        wanted = [*finalizers, finalizer]
    else:
        return
    changed = copy(obj)
    changed["metadata"]["finalizers"] = wanted
    try:
        await client.update(resource, changed)
    except errors.NotFound:
        return


class ClaimProtectionController:
    def __init__(self, context: ControllerContext) -> None:
        self._client = context.client
        self._claims = context.informers.informer(PERSISTENT_VOLUME_CLAIMS)
        self._pods = context.informers.informer(PODS)
        index_by_claim(self._pods)
        self._controller = context.controller("pvcprotection", self.reconcile)
        self._controller.handles(
            self._claims,
            Callbacks(added=self._claim_seen, updated=lambda old, new: self._claim_seen(new), deleted=_nothing),
        )
        self._controller.handles(
            self._pods,
            Callbacks(added=self._pod_seen, updated=lambda old, new: self._pod_seen(new), deleted=self._pod_gone),
        )

    async def run(self) -> None:
        await self._controller.run()

    def _claim_seen(self, claim: Object) -> None:
        if is_deleting(claim) or CLAIM_FINALIZER not in finalizers_of(claim):
            self._controller.queue.add(key_of(claim))

    def _pod_seen(self, pod: Object) -> None:
        if podkit.is_finished(pod) or not podkit.node_of(pod):
            self._pod_gone(pod)

    def _pod_gone(self, pod: Object) -> None:
        for key in claims_of(pod):
            self._controller.queue.add(key)

    async def reconcile(self, key: str) -> None:
        claim = self._claims.store.get(*split_key(key))
        if claim is None:
            return
        if is_deleting(claim) and CLAIM_FINALIZER in finalizers_of(claim):
            used = is_used(self._pods.store.by_index(BY_CLAIM, key)) or await self._is_used_live(key)
        else:
            used = True
        await _settle(self._client, PERSISTENT_VOLUME_CLAIMS, claim, CLAIM_FINALIZER, used=used)

    async def _is_used_live(self, key: str) -> bool:
        """The informer may lag: ask before the claim is removed for good."""
        pods = (await self._client.list(PODS, split_key(key)[0])).get("items") or ()
        return is_used(pod for pod in pods if key in claims_of(pod))


class VolumeProtectionController:
    def __init__(self, context: ControllerContext) -> None:
        self._client = context.client
        self._volumes = context.informers.informer(PERSISTENT_VOLUMES)
        self._controller = context.controller("pvprotection", self.reconcile)
        self._controller.watches(self._volumes)

    async def run(self) -> None:
        await self._controller.run()

    async def reconcile(self, key: str) -> None:
        volume = self._volumes.store.get("", key)
        if volume is None:
            return
        used = status_of(volume).get("phase") == "Bound"
        await _settle(self._client, PERSISTENT_VOLUMES, volume, VOLUME_FINALIZER, used=used)


def classes_of_claim(claim: Object) -> set[str]:
    """The VolumeAttributesClasses that a claim asks for, has, or is about to get."""
    status = status_of(claim)
    names = (
        claim["spec"].get("volumeAttributesClassName"),
        status.get("currentVolumeAttributesClassName"),
        (status.get("modifyVolumeStatus") or {}).get("targetVolumeAttributesClassName"),
    )
    return {name for name in names if name}


def classes_of_volume(volume: Object) -> set[str]:
    name = volume["spec"].get("volumeAttributesClassName")
    return {name} if name else set()


class AttributesClassProtectionController:
    """Source: KEP-3751."""

    def __init__(self, context: ControllerContext) -> None:
        self._client = context.client
        self._classes = context.informers.informer(VOLUME_ATTRIBUTES_CLASSES)
        self._claims = context.informers.informer(PERSISTENT_VOLUME_CLAIMS)
        self._volumes = context.informers.informer(PERSISTENT_VOLUMES)
        self._controller = context.controller("vacprotection", self.reconcile)
        self._controller.watches(self._classes)
        self._controller.handles(self._claims, self._users(classes_of_claim))
        self._controller.handles(self._volumes, self._users(classes_of_volume))

    async def run(self) -> None:
        await self._controller.run()

    def _users(self, classes_of: Callable[[Object], set[str]]) -> Callbacks:
        """Classes that an object no longer uses may be deletable."""

        def updated(old: Object, new: Object) -> None:
            freed(classes_of(old) - classes_of(new))

        def freed(names: set[str]) -> None:
            for name in names:
                self._controller.queue.add(name)

        return Callbacks(added=_nothing, updated=updated, deleted=lambda obj: freed(classes_of(obj)))

    async def reconcile(self, key: str) -> None:
        attributes_class = self._classes.store.get("", key)
        if attributes_class is None:
            return
        used = is_deleting(attributes_class) and self._is_used(key)
        await _settle(self._client, VOLUME_ATTRIBUTES_CLASSES, attributes_class, CLASS_FINALIZER, used=used)

    def _is_used(self, name: str) -> bool:
        return any(name in classes_of_volume(volume) for volume in self._volumes.store.list()) or any(
            name in classes_of_claim(claim) for claim in self._claims.store.list()
        )


def _nothing(obj: Object) -> None:
    """A claim that is gone needs no protection; one that is new frees nothing."""
