"""The revisions of a StatefulSet: the one that its pods have, and the one that they are to get.

Source: https://kubernetes.io/docs/concepts/workloads/controllers/statefulset/
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tiphys.api.object import Object
from tiphys.client import errors
from tiphys.client.informer import Informer
from tiphys.client.resources import CONTROLLER_REVISIONS, STATEFUL_SETS
from tiphys.client.rest import Client
from tiphys.controlkit.adoption import Claimer, Owner
from tiphys.controlkit.objects import (
    labels_of,
    name_of,
    namespace_of,
    status_of,
)
from tiphys.controlkit.selectors import label_selector
from tiphys.controllers import history


@dataclass(frozen=True, slots=True)
class CurrentRevisions:
    current: Object
    update: Object
    collision_count: int
    known: Sequence[Object]

    @property
    def names(self) -> tuple[str, str]:
        return name_of(self.current), name_of(self.update)


class Revisions:
    def __init__(self, client: Client, revisions: Informer) -> None:
        self._client, self._revisions = client, revisions

    async def find(self, stateful_set: Object) -> CurrentRevisions:
        """Find both revisions; if the template is new, its revision is created."""
        matches = label_selector(stateful_set["spec"]["selector"])
        claimer = Claimer(self._client, Owner(STATEFUL_SETS, "StatefulSet", stateful_set), CONTROLLER_REVISIONS)
        listed = self._revisions.store.list(namespace_of(stateful_set))
        known = history.in_order(await claimer.claim(listed, lambda rev: matches(labels_of(rev))))
        update, collisions = await self._update_revision(stateful_set, known)
        wanted = status_of(stateful_set).get("currentRevision")
        current = next((rev for rev in known if name_of(rev) == wanted), update)
        return CurrentRevisions(current, update, collisions, known)

    async def _update_revision(self, stateful_set: Object, known: Sequence[Object]) -> tuple[Object, int]:
        collisions = int(status_of(stateful_set).get("collisionCount") or 0)
        number = int(known[-1].get("revision") or 0) + 1 if known else 1
        data = history.template_patch(stateful_set)
        same = [rev for rev in known if history.same_data(rev.get("data") or {}, data)]
        if same and same[-1] is known[-1]:
            return known[-1], collisions
        if same:
            return await self._client.update(CONTROLLER_REVISIONS, {**same[-1], "revision": number}), collisions
        while True:
            wanted = history.new_revision(stateful_set, "StatefulSet", number, collisions, history.REVISION_HASH_LABEL)
            try:
                return await self._client.create(CONTROLLER_REVISIONS, wanted), collisions
            except errors.AlreadyExists:
                existing = await self._client.get(CONTROLLER_REVISIONS, name_of(wanted), namespace_of(wanted))
                if history.same_data(existing.get("data") or {}, data):
                    return existing, collisions
                collisions += 1

    async def forget(self, revisions: Sequence[Object]) -> None:
        for revision in revisions:
            try:
                await self._client.delete(CONTROLLER_REVISIONS, name_of(revision), namespace_of(revision))
            except errors.NotFound:
                continue
