"""Creating, mending and deleting the pods of a StatefulSet and their claims, with the events that go with it.

Source: https://kubernetes.io/docs/concepts/workloads/controllers/statefulset/
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from tiphys.api.object import Object
from tiphys.client import errors
from tiphys.client.informer import Informer
from tiphys.client.resources import PERSISTENT_VOLUME_CLAIMS, PODS
from tiphys.client.rest import Client
from tiphys.controlkit.consistency import Consistency
from tiphys.controlkit.events import EventRecorder
from tiphys.controlkit.objects import (
    copy,
    is_deleting,
    key_of,
    name_of,
    namespace_of,
)
from tiphys.controlkit.retry import TryAgain
from tiphys.controllers.statefulset import claims as ownership
from tiphys.controllers.statefulset import identity


class ClaimProblem(TryAgain):
    """A claim of the pod cannot be made, or is being deleted."""


class StatefulPodControl:
    def __init__(
        self, *, client: Client, recorder: EventRecorder, pods: Informer, claims: Informer, consistency: Consistency
    ) -> None:
        self._client, self._recorder = client, recorder
        self._pods, self._claims, self._consistency = pods, claims, consistency

    async def create(self, stateful_set: Object, pod: Object) -> None:
        await self._record("create", stateful_set, pod, self._create(stateful_set, pod))

    async def _create(self, stateful_set: Object, pod: Object) -> None:
        await self.create_claims(stateful_set, pod)
        created = await self._client.create(PODS, pod)
        self._consistency.wrote(key_of(stateful_set), self._pods, created)
        await self.update_claims(stateful_set, created)

    async def delete(self, stateful_set: Object, pod: Object) -> None:
        await self._record("delete", stateful_set, pod, self._delete(pod))

    async def _delete(self, pod: Object) -> None:
        try:
            await self._client.delete(PODS, name_of(pod), namespace_of(pod))
        except errors.NotFound:
            return

    async def mend(self, stateful_set: Object, pod: Object) -> None:
        """Give a pod back its labels and volumes, and its claims their owners."""
        await self.update_claims(stateful_set, pod)
        wanted = copy(pod)
        if not identity.storage_matches(stateful_set, wanted):
            identity.set_storage(stateful_set, wanted)
            await self.create_claims(stateful_set, wanted)
        if not identity.identity_matches(stateful_set, wanted):
            identity.set_identity(stateful_set, wanted)
        if wanted != pod:
            await self._record("update", stateful_set, pod, self._update(stateful_set, wanted))

    async def _update(self, stateful_set: Object, pod: Object) -> None:
        updated = await self._client.update(PODS, pod)
        self._consistency.wrote(key_of(stateful_set), self._pods, updated)

    # Claims

    def claims_are_current(self, stateful_set: Object, pod: Object) -> bool:
        return all(ownership.is_current(claim, stateful_set, pod) for claim in self._known(stateful_set, pod))

    def claim_is_stale(self, stateful_set: Object, pod: Object) -> bool:
        """Whether a claim still belongs to the pod's predecessor: wait until it is deleted."""
        if ownership.retention_policy(stateful_set)[1] == "Retain":
            return False
        return any(ownership.is_stale(claim, pod) for claim in self._known(stateful_set, pod))

    def _known(self, stateful_set: Object, pod: Object) -> list[Object]:
        names = map(name_of, identity.claims_of(stateful_set, pod).values())
        claims = (self._claims.store.get(namespace_of(stateful_set), name) for name in names)
        return [claim for claim in claims if claim is not None]

    async def create_claims(self, stateful_set: Object, pod: Object) -> None:
        """Create the pod's claims that are missing. Raises ``ClaimProblem``."""
        problems = []
        for claim in identity.claims_of(stateful_set, pod).values():
            existing = self._claims.store.get(namespace_of(claim), name_of(claim))
            if existing is None:
                problem = await self._create_claim(stateful_set, pod, claim)
                if problem:
                    problems.append(problem)
            elif is_deleting(existing):
                problems.append(f"pvc {name_of(claim)} is being deleted")
        if problems:
            raise ClaimProblem(", ".join(problems))

    async def _create_claim(self, stateful_set: Object, pod: Object, claim: Object) -> str:
        where = f"Pod {name_of(pod)} in StatefulSet {name_of(stateful_set)}"
        try:
            created = await self._client.create(PERSISTENT_VOLUME_CLAIMS, claim)
        except errors.AlreadyExists as error:
            return f"failed to create PVC {name_of(claim)}: {error.message}"
        except errors.ApiError as error:
            message = f"Create Claim {name_of(claim)} for {where} failed error: {error.message}"
            self._recorder.event(stateful_set, "Warning", "FailedCreate", message)
            return f"failed to create PVC {name_of(claim)}: {error.message}"
        self._consistency.wrote(key_of(stateful_set), self._claims, created)
        message = f"Create Claim {name_of(claim)} {where} success"
        self._recorder.event(stateful_set, "Normal", "SuccessfulCreate", message)
        return ""

    async def update_claims(self, stateful_set: Object, pod: Object) -> None:
        """Give the pod's claims the owners that the retention policy wants."""
        for claim in self._known(stateful_set, pod):
            if ownership.has_other_controller(claim, stateful_set, pod):
                message = (
                    f"PersistentVolumeClaim {name_of(claim)} has a conflicting OwnerReference that acts as a manging "
                    "controller, the retention policy is ignored for this claim"
                )
                self._recorder.event(stateful_set, "Warning", "ConflictingController", message)
            if not ownership.is_current(claim, stateful_set, pod):
                wanted = ownership.with_owners(claim, stateful_set, pod)
                updated = await self._client.update(PERSISTENT_VOLUME_CLAIMS, wanted)
                self._consistency.wrote(key_of(stateful_set), self._claims, updated)

    # Events

    async def _record(self, verb: str, stateful_set: Object, pod: Object, action: Coroutine[Any, Any, None]) -> None:
        title = verb.capitalize()
        subject = f"{title} Pod {name_of(pod)} in StatefulSet {name_of(stateful_set)}"
        try:
            await action
        except errors.AlreadyExists:
            raise
        except (errors.ApiError, ClaimProblem) as error:
            why = error.message if isinstance(error, errors.ApiError) else str(error)
            self._recorder.event(stateful_set, "Warning", f"Failed{title}", f"{subject} failed error: {why}")
            raise
        self._recorder.event(stateful_set, "Normal", f"Successful{title}", f"{subject} successful")
