"""The revisions of a DaemonSet: finds or makes the one of today's template, and drops those beyond the limit.

Source: https://kubernetes.io/docs/tasks/manage-daemon/rollback-daemon-set/
"""

from __future__ import annotations

from collections.abc import Iterable

from tiphys.api.object import Object
from tiphys.client import errors
from tiphys.client.informer import Informer
from tiphys.client.resources import CONTROLLER_REVISIONS, DAEMON_SETS, PODS
from tiphys.client.rest import Client
from tiphys.controlkit.adoption import Claimer, Owner
from tiphys.controlkit.objects import (
    controller_of,
    copy,
    labels_of,
    name_of,
    namespace_of,
    status_of,
)
from tiphys.controlkit.retry import TryAgain
from tiphys.controlkit.selectors import label_selector
from tiphys.controllers import history
from tiphys.controllers.ownedpods import OwnedPodHandler
from tiphys.controllers.templates import compute_hash


class HashCollision(TryAgain):
    """The name of the new revision is taken by another template; the collision count was raised."""


class RevisionHandler(OwnedPodHandler):
    """A revision that is changed, deleted, or has no owner wakes its set. A new one with an owner does not: this
    controller made it, or whoever wants two of the same template for now."""

    def added(self, revision: Object, *, initial: bool) -> None:
        if controller_of(revision) is None:
            super().added(revision, initial=initial)


class Revisions:
    def __init__(self, client: Client, revisions: Informer) -> None:
        self._client, self._revisions = client, revisions

    async def construct(self, daemon_set: Object, pods: Iterable[Object]) -> tuple[Object, list[Object]]:
        """The revision of the template as it is now, and the others."""
        matches = label_selector(daemon_set["spec"]["selector"])
        claimer = Claimer(self._client, Owner(DAEMON_SETS, "DaemonSet", daemon_set), CONTROLLER_REVISIONS)
        known = self._revisions.store.list(namespace_of(daemon_set))
        own = await claimer.claim(known, lambda rev: matches(labels_of(rev)))
        data = history.template_patch(daemon_set)
        current: list[Object] = []
        old: list[Object] = []
        for revision in own:
            rev = await self._labelled(revision)
            (current if history.same_data(rev.get("data") or {}, data) else old).append(rev)
        number = max((int(rev.get("revision") or 0) for rev in old), default=0) + 1
        if not current:
            return await self._create(daemon_set, data, number), old
        kept = await self._deduplicate(current, pods)
        if int(kept.get("revision") or 0) < number:
            kept = await self._client.update(CONTROLLER_REVISIONS, {**kept, "revision": number})
        return kept, old

    async def _labelled(self, revision: Object) -> Object:
        if history.HASH_LABEL in labels_of(revision):
            return revision
        wanted = copy(revision)
        wanted["metadata"]["labels"] = {**labels_of(revision), history.HASH_LABEL: name_of(revision)}
        return await self._client.update(CONTROLLER_REVISIONS, wanted)

    async def _create(self, daemon_set: Object, data: Object, number: int) -> Object:
        wanted = history.new_revision(daemon_set, "DaemonSet", number, None, history.HASH_LABEL)
        digest = compute_hash(daemon_set["spec"]["template"], status_of(daemon_set).get("collisionCount"))
        wanted["metadata"]["name"] = f"{name_of(daemon_set)}-{digest}"
        wanted["metadata"]["labels"][history.HASH_LABEL] = digest
        try:
            return await self._client.create(CONTROLLER_REVISIONS, wanted)
        except errors.AlreadyExists:
            existing = await self._client.get(CONTROLLER_REVISIONS, name_of(wanted), namespace_of(wanted))
            if history.same_data(existing.get("data") or {}, data):
                return existing
        await self._note_collision(daemon_set)
        raise HashCollision(name_of(wanted))

    async def _note_collision(self, daemon_set: Object) -> None:
        live = await self._client.get(DAEMON_SETS, name_of(daemon_set), namespace_of(daemon_set))
        known = status_of(daemon_set).get("collisionCount")
        if status_of(live).get("collisionCount") == known:
            status = {**status_of(live), "collisionCount": int(known or 0) + 1}
            await self._client.update_status(DAEMON_SETS, {**live, "status": status})

    async def _deduplicate(self, current: list[Object], pods: Iterable[Object]) -> Object:
        """Of several revisions of the same template the newest stays, and pods are relabelled to it."""
        kept = max(current, key=lambda rev: int(rev.get("revision") or 0))
        if len(current) == 1:
            return kept
        digest = labels_of(kept).get(history.HASH_LABEL)
        for pod in pods:
            if labels_of(pod).get(history.HASH_LABEL) != digest:
                patch = {"metadata": {"labels": {history.HASH_LABEL: digest}}}
                await self._client.patch(PODS, name_of(pod), patch, namespace_of(pod))
        for surplus in current:
            if name_of(surplus) != name_of(kept):
                await self._delete(surplus)
        return kept

    async def clean_up(self, daemon_set: Object, old: Iterable[Object], pods: Iterable[Object]) -> None:
        """Drop the oldest beyond ``revisionHistoryLimit`` that no pod has."""
        limit = daemon_set["spec"].get("revisionHistoryLimit")
        old = history.in_order(old)
        surplus = len(old) - (10 if limit is None else int(limit))
        live = {labels_of(pod).get(history.HASH_LABEL) for pod in pods}
        for revision in old:
            if surplus <= 0:
                return
            if labels_of(revision).get(history.HASH_LABEL) not in live:
                await self._delete(revision)
                surplus -= 1

    async def _delete(self, revision: Object) -> None:
        try:
            await self._client.delete(CONTROLLER_REVISIONS, name_of(revision), namespace_of(revision))
        except errors.NotFound:
            return
