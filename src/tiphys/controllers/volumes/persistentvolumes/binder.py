"""Reads the state of claims and volumes, decides, and writes.

Claims and volumes are handled one at a time, by one worker each under one lock: two claims that are looked at together
would choose the same volume.

Source: https://kubernetes.io/docs/concepts/storage/persistent-volumes/#lifecycle-of-a-volume-and-claim
"""

from __future__ import annotations

import asyncio

from tiphys.api.object import Object
from tiphys.api.volumes import matching
from tiphys.api.volumes.binding import volume_for
from tiphys.api.volumes.claims import BIND_COMPLETED, BOUND_BY_CONTROLLER, SELECTED_NODE
from tiphys.client import errors
from tiphys.client.informer import Callbacks
from tiphys.client.resources import PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, PODS, STORAGE_CLASSES
from tiphys.controlkit import pods as podkit
from tiphys.controlkit.objects import (
    annotations_of,
    copy,
    key_of,
    name_of,
    split_key,
    status_of,
    uid_of,
)
from tiphys.controlkit.retry import TryAgain
from tiphys.controllers.context import ControllerContext
from tiphys.controllers.volumes.persistentvolumes import changes
from tiphys.controllers.volumes.podclaims import BY_CLAIM, index_by_claim
from tiphys.runtime.tasks import Runner

_NO_VOLUME = "no persistent volumes available for this claim and no storage class is set"
_LOST_REFERENCE = "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!"
_LOST_VOLUME = "Bound claim has lost its PersistentVolume. Data on the volume is lost!"
_MISBOUND = "Two claims are bound to the same volume, this one is bound incorrectly"


class PersistentVolumeBinder:
    def __init__(self, context: ControllerContext) -> None:
        self._client, self._clock = context.client, context.clock
        self._recorder = context.recorder.named("persistentvolume-controller")
        self._period = context.config.pv_claim_binder_sync_period
        self._provisions = context.config.enable_dynamic_provisioning
        self._claims = context.informers.informer(PERSISTENT_VOLUME_CLAIMS)
        self._volumes = context.informers.informer(PERSISTENT_VOLUMES)
        self._classes = context.informers.informer(STORAGE_CLASSES)
        self._pods = context.informers.informer(PODS)
        index_by_claim(self._pods)
        self._lock = asyncio.Lock()
        self._claim_controller = context.controller("claims", self.reconcile_claim)
        self._volume_controller = context.controller("volumes", self.reconcile_volume)
        self._claim_controller.handles(
            self._claims,
            Callbacks(added=self._claim_seen, updated=lambda old, new: self._claim_seen(new), deleted=self._claim_gone),
        )
        self._volume_controller.watches(self._volumes)
        for controller in (self._claim_controller, self._volume_controller):
            for informer in (self._claims, self._volumes, self._classes, self._pods):
                controller.reads(informer)

    async def run(self) -> None:
        async with Runner(self._clock, "persistent volume ") as runner:
            runner.supervise(self._claim_controller.run, "claims")
            runner.supervise(self._volume_controller.run, "volumes")
            while True:  # what a claim waits for, such as a volume or a class, may have come meanwhile
                await self._clock.sleep(self._period)
                for claim in self._claims.store.list():
                    self._claim_seen(claim)
                for volume in self._volumes.store.list():
                    self._volume_controller.queue.add(key_of(volume))

    def _claim_seen(self, claim: Object) -> None:
        self._claim_controller.queue.add(key_of(claim))

    def _claim_gone(self, claim: Object) -> None:
        if name := claim["spec"].get("volumeName"):
            self._volume_controller.queue.add(name)

    # Claims

    async def reconcile_claim(self, key: str) -> None:
        async with self._lock:
            claim = self._claims.store.get(*split_key(key))
            if claim is None:
                return
            if BIND_COMPLETED in annotations_of(claim):
                await self._sync_bound(claim)
            elif claim["spec"].get("volumeName"):
                await self._sync_asking(claim)
            else:
                await self._sync_unbound(claim)

    async def _sync_unbound(self, claim: Object) -> None:
        delayed = self._is_delayed(claim)
        volume = matching.best(claim, self._volumes.store.list(), delayed=delayed)
        if volume is not None:
            await self._bind(volume, claim)
            return
        if await self._assign_default_class(claim):
            return  # the informer delivers the changed claim
        if delayed and SELECTED_NODE not in annotations_of(claim):
            self._report_what_is_awaited(claim)
        elif matching.class_of(claim):
            if self._provisions:
                await self._ask_provisioner(claim)
            return
        else:
            self._recorder.event(claim, "Normal", "FailedBinding", _NO_VOLUME)
        await self._set_status(claim, "Pending", None)

    async def _sync_asking(self, claim: Object) -> None:
        """The claim names its volume."""
        volume = self._volumes.store.get("", claim["spec"]["volumeName"])
        if volume is None:
            await self._set_status(claim, "Pending", None)
        elif not volume["spec"].get("claimRef"):
            if trouble := matching.mismatch(volume, claim):
                message = f'Cannot bind to requested volume "{name_of(volume)}": {trouble}'
                self._recorder.event(claim, "Warning", "VolumeMismatch", message)
                await self._set_status(claim, "Pending", None)
            else:
                await self._bind(volume, claim)
        elif matching.is_bound_to(volume, claim):
            await self._bind(volume, claim)
        else:
            message = f'volume "{name_of(volume)}" already bound to a different claim.'
            self._recorder.event(claim, "Warning", "FailedBinding", message)
            if BOUND_BY_CONTROLLER in annotations_of(claim):
                raise TryAgain(message)
            await self._set_status(claim, "Pending", None)

    async def _sync_bound(self, claim: Object) -> None:
        name = claim["spec"].get("volumeName")
        volume = self._volumes.store.get("", name) if name else None
        if not name:
            await self._lose(claim, "ClaimLost", _LOST_REFERENCE)
        elif volume is None:
            await self._lose(claim, "ClaimLost", _LOST_VOLUME)
        elif (volume["spec"].get("claimRef") or {}).get("uid") in (None, uid_of(claim)):
            await self._bind(volume, claim)
        else:
            await self._lose(claim, "ClaimMisbound", _MISBOUND)

    def _is_delayed(self, claim: Object) -> bool:
        storage_class = self._classes.store.get("", matching.class_of(claim))
        return storage_class is not None and storage_class.get("volumeBindingMode") == "WaitForFirstConsumer"

    def _report_what_is_awaited(self, claim: Object) -> None:
        waiting = [
            name_of(pod)
            for pod in self._pods.store.by_index(BY_CLAIM, key_of(claim))
            if not podkit.is_finished(pod) and not podkit.node_of(pod)
        ]
        reason, message = "WaitForFirstConsumer", "waiting for first consumer to be created before binding"
        if waiting:
            reason = "WaitForPodScheduled"
            message = f"waiting for pod{'s' * (len(waiting) > 1)} {','.join(waiting)} to be scheduled"
        self._recorder.event(claim, "Normal", reason, message)

    async def _assign_default_class(self, claim: Object) -> bool:
        if matching.has_class(claim):
            return False
        storage_class = matching.default_class(self._classes.store.list())
        if storage_class is None:
            return False
        wanted = copy(claim)
        wanted["spec"]["storageClassName"] = name_of(storage_class)
        await self._client.update(PERSISTENT_VOLUME_CLAIMS, wanted)
        return True

    async def _ask_provisioner(self, claim: Object) -> None:
        name = matching.class_of(claim)
        storage_class = self._classes.store.get("", name)
        trouble = ""
        if storage_class is None:
            trouble = f'storageclass.storage.k8s.io "{name}" not found'
        elif storage_class["provisioner"].startswith("kubernetes.io/"):
            trouble = f"no volume plugin matched name: {storage_class['provisioner']}"
        if storage_class is None or trouble:
            self._recorder.event(claim, "Warning", "ProvisioningFailed", trouble)
            return
        provisioner = storage_class["provisioner"]
        wanted = changes.claim_with_provisioner(claim, provisioner)
        if wanted is not None:
            claim = await self._client.update(PERSISTENT_VOLUME_CLAIMS, wanted)
        message = (
            f"Waiting for a volume to be created either by the external provisioner '{provisioner}' or manually by "
            "the system administrator. If volume creation is delayed, please verify that the provisioner is running "
            "and correctly registered."
        )
        self._recorder.event(claim, "Normal", "ExternalProvisioning", message)

    async def _lose(self, claim: Object, reason: str, message: str) -> None:
        if status_of(claim).get("phase") == "Lost":
            return
        await self._set_status(claim, "Lost", None)
        self._recorder.event(claim, "Warning", reason, message)

    async def _set_status(self, claim: Object, phase: str, volume: Object | None) -> None:
        wanted = changes.claim_status(claim, phase, volume)
        if wanted is not None:
            await self._client.update_status(PERSISTENT_VOLUME_CLAIMS, wanted)

    async def _bind(self, volume: Object, claim: Object) -> None:
        """Tie the two together. If this is interrupted, the next look at either continues."""
        wanted = volume_for(volume, claim)
        if wanted is not None:
            volume = await self._client.update(PERSISTENT_VOLUMES, wanted)
        await self._set_phase(volume, "Bound")
        wanted = changes.claim_for(claim, volume)
        if wanted is not None:
            claim = await self._client.update(PERSISTENT_VOLUME_CLAIMS, wanted)
        await self._set_status(claim, "Bound", volume)

    # Volumes

    async def reconcile_volume(self, key: str) -> None:
        """Bring a volume's phase in line with its claim: available, bound, released, or given up."""
        async with self._lock:
            volume = self._volumes.store.get("", key)
            if volume is None:
                return
            reference = volume["spec"].get("claimRef") or {}
            if not reference.get("uid"):  # free, or kept for a claim that will bind it
                await self._set_phase(volume, "Available")
                return
            claim = await self._claim_of(volume, reference)
            if claim is None:
                await self._release(volume)
            elif not claim["spec"].get("volumeName"):
                self._continue_binding(volume, claim)
            elif claim["spec"]["volumeName"] == key:
                await self._set_phase(volume, "Bound")
            else:
                await self._give_up(volume)

    async def _claim_of(self, volume: Object, reference: Object) -> Object | None:
        """The claim that a volume points at. The API server is asked before one is taken for gone: it may cost data."""
        claim = self._claims.store.get(reference.get("namespace", ""), reference["name"])
        if claim is None and status_of(volume).get("phase") in ("Released", "Failed"):
            return None
        if claim is None or uid_of(claim) != reference["uid"]:
            try:
                claim = await self._client.get(
                    PERSISTENT_VOLUME_CLAIMS, reference["name"], reference.get("namespace", "")
                )
            except errors.NotFound:
                return None
        return claim if uid_of(claim) == reference["uid"] else None

    async def _release(self, volume: Object) -> None:
        if status_of(volume).get("phase") not in ("Released", "Failed"):
            volume = await self._set_phase(volume, "Released")
        trouble = changes.reclaim_trouble(volume)
        if trouble is None or status_of(volume).get("phase") == "Failed":
            return
        reason, message = trouble
        volume = await self._set_phase(volume, "Failed", message)
        self._recorder.event(volume, "Warning", reason, message)

    def _continue_binding(self, volume: Object, claim: Object) -> None:
        if not matching.modes_differ(claim, volume):
            self._claim_seen(claim)
            return
        ends = "due to incompatible volumeMode."
        about_volume = f'Cannot bind PersistentVolume to requested PersistentVolumeClaim "{name_of(claim)}" {ends}'
        about_claim = f'Cannot bind PersistentVolume "{name_of(volume)}" to requested PersistentVolumeClaim {ends}'
        self._recorder.event(volume, "Warning", "VolumeMismatch", about_volume)
        self._recorder.event(claim, "Warning", "VolumeMismatch", about_claim)

    async def _give_up(self, volume: Object) -> None:
        """The claim has chosen another volume."""
        made_for_it = changes.PROVISIONED_BY in annotations_of(volume)
        if made_for_it and volume["spec"].get("persistentVolumeReclaimPolicy") == "Delete":
            await self._release(volume)
            return
        freed = await self._client.update(PERSISTENT_VOLUMES, changes.volume_without_claim(volume))
        await self._set_phase(freed, "Available")

    async def _set_phase(self, volume: Object, phase: str, message: str = "") -> Object:
        wanted = changes.volume_phase(volume, phase, message)
        return volume if wanted is None else await self._client.update_status(PERSISTENT_VOLUMES, wanted)
