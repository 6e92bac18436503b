"""The deployment controller: reads a Deployment and its ReplicaSets, decides, and writes the ReplicaSets and the
status.

Source: https://kubernetes.io/docs/concepts/workloads/controllers/deployment/
"""

from __future__ import annotations

from collections.abc import Sequence

from tiphys.api.object import Object
from tiphys.client import errors
from tiphys.client.informer import Callbacks
from tiphys.client.resources import DEPLOYMENTS, PODS, REPLICA_SETS
from tiphys.controlkit import pods as podkit
from tiphys.controlkit.adoption import Claimer, Owner
from tiphys.controlkit.controller import Result
from tiphys.controlkit.objects import (
    annotations_of,
    condition,
    controller_of,
    controller_reference,
    copy,
    generation_of,
    is_controlled_by,
    is_deleting,
    key_of,
    labels_of,
    name_of,
    namespace_of,
    set_annotation,
    split_key,
    status_of,
)
from tiphys.controlkit.podcontrol import namespace_is_terminating
from tiphys.controlkit.retry import TryAgain
from tiphys.controlkit.selectors import is_empty, label_selector
from tiphys.controllers.context import ControllerContext
from tiphys.controllers.deployment import revisions, rollout, status
from tiphys.controllers.deployment.rollout import Scale, replicas_of
from tiphys.controllers.templates import HASH_LABEL, compute_hash, equal_ignoring_hash, with_label

MAX_RETRIES = 15


class NameTaken(TryAgain):
    """A ReplicaSet of the wanted name exists and is another one; the collision count was raised."""


class DeploymentController:
    def __init__(self, context: ControllerContext) -> None:
        self._client, self._clock = context.client, context.clock
        self._recorder = context.recorder.named("deployment-controller")
        self._deployments = context.informers.informer(DEPLOYMENTS)
        self._replica_sets = context.informers.informer(REPLICA_SETS)
        self._pods = context.informers.informer(PODS)
        podkit.index_by_owner(self._pods)
        workers = context.config.concurrent_deployment_syncs
        self._controller = context.controller("deployment", self.reconcile, workers=workers, max_retries=MAX_RETRIES)
        self._controller.watches(self._deployments)
        self._controller.watches(self._replica_sets, self._deployments_of)
        self._controller.handles(self._pods, Callbacks(deleted=self._pod_deleted))

    async def run(self) -> None:
        await self._controller.run()

    def _deployments_of(self, rs: Object) -> list[str]:
        reference = controller_of(rs)
        if reference is not None:
            return [f"{namespace_of(rs)}/{reference['name']}"] if reference["kind"] == "Deployment" else []
        labels = labels_of(rs)
        return [
            key_of(deployment)
            for deployment in self._deployments.store.list(namespace_of(rs))
            if not is_empty(deployment["spec"].get("selector"))
            and label_selector(deployment["spec"].get("selector"))(labels)
        ]

    def _pod_deleted(self, pod: Object) -> None:
        """A Recreate rollout continues when the last old pod is gone."""
        reference = controller_of(pod)
        if reference is None or reference["kind"] != "ReplicaSet":
            return
        rs = self._replica_sets.store.get(namespace_of(pod), reference["name"])
        owner = controller_of(rs) if rs is not None else None
        if owner is None or owner["kind"] != "Deployment":
            return
        deployment = self._deployments.store.get(namespace_of(pod), owner["name"])
        if deployment is not None and not rollout.is_rolling(deployment):
            self._controller.queue.add(key_of(deployment))

    async def reconcile(self, key: str) -> Result | None:
        cached = self._deployments.store.get(*split_key(key))
        if cached is None:
            return None
        sync = _Sync(self, copy(cached))
        try:
            return await sync.run()
        except errors.ApiError as error:
            if namespace_is_terminating(error):
                return None
            raise


class _Sync:
    """One reconciliation of one Deployment.

    ``deployment`` and ``replica_sets`` (all that it controls) are replaced by what the API answers to our writes.
    """

    def __init__(self, owner: DeploymentController, deployment: Object) -> None:
        self._client, self._clock, self._recorder = owner._client, owner._clock, owner._recorder
        self._replica_sets, self._pods = owner._replica_sets, owner._pods
        self.deployment = deployment
        self.replica_sets: dict[str, Object] = {}

    async def run(self) -> Result | None:
        """Move the rollout on by one step: refuse, scale, roll back, roll or recreate; returns when to look again."""
        if is_empty(self.deployment["spec"].get("selector")):
            return await self._refuse_selecting_all()
        self.replica_sets = {name_of(rs): rs for rs in await self._claim_replica_sets()}
        if is_deleting(self.deployment):
            new, old = await self._sets(create=False)
            return await self._write_counts(new, old)
        await self._note_pause()
        if self.deployment["spec"].get("paused"):
            return await self._scale_only()
        if revisions.rollback_target(self.deployment) is not None:
            return await self._roll_back()
        new, old = await self._sets(create=False)
        if rollout.is_scaling(self.deployment, [*old, new] if new is not None else old):
            return await self._scale_only()
        if rollout.is_rolling(self.deployment):
            return await self._roll()
        return await self._recreate()

    async def _refuse_selecting_all(self) -> Result | None:
        message = "This deployment is selecting all pods. A non-empty selector is required."
        self._recorder.event(self.deployment, "Warning", "SelectingAll", message)
        if (status_of(self.deployment).get("observedGeneration") or 0) < generation_of(self.deployment):
            await self._write_status(
                {**status_of(self.deployment), "observedGeneration": generation_of(self.deployment)}
            )
        return None

    async def _claim_replica_sets(self) -> list[Object]:
        matches = label_selector(self.deployment["spec"]["selector"])
        claimer = Claimer(self._client, Owner(DEPLOYMENTS, "Deployment", self.deployment), REPLICA_SETS)
        sets = self._replica_sets.store.list(namespace_of(self.deployment))
        return await claimer.claim(sets, lambda rs: matches(labels_of(rs)))

    # Strategies

    async def _scale_only(self) -> Result | None:
        """Keep the rollout where it is; only follow a change of the number of replicas."""
        new, old = await self._sets(create=False)
        scales = rollout.scale(self.deployment, new, old)
        new, old = await self._apply(scales, new, old, annotate=len(scales) > 1)
        if self.deployment["spec"].get("paused") and revisions.rollback_target(self.deployment) is None:
            await self._clean_up(old)
        return await self._write_counts(new, old)

    async def _roll(self) -> Result | None:
        new, old = await self._sets(create=True)
        assert new is not None
        grown = rollout.grow_new(self.deployment, [*old, new], new)
        if grown != replicas_of(new):
            new = await self._scale(new, grown)
            return await self._write_rollout(new, old)
        scales = rollout.shrink_old(self.deployment, new, old)
        if scales:
            _, old = await self._apply(scales, new, old)
            return await self._write_rollout(new, old)
        if status.is_complete(self.deployment, status_of(self.deployment)):
            await self._clean_up(old)
        return await self._write_rollout(new, old)

    async def _recreate(self) -> Result | None:
        new, old = await self._sets(create=False)
        scales = [Scale(rs, 0) for rs in rollout.active(old)]
        if scales:
            _, old = await self._apply(scales, new, old)
            return await self._write_rollout(new, old)
        if self._old_pods_run(new, old):
            return await self._write_rollout(new, old)
        if new is None:
            new, old = await self._sets(create=True)
            assert new is not None
        if replicas_of(new) != replicas_of(self.deployment):
            new = await self._scale(new, replicas_of(self.deployment))
        if status.is_complete(self.deployment, status_of(self.deployment)):
            await self._clean_up(old)
        return await self._write_rollout(new, old)

    def _old_pods_run(self, new: Object | None, old: Sequence[Object]) -> bool:
        if rollout.total_status(old, "replicas") > 0:
            return True
        return any(
            not podkit.is_finished(pod)
            for rs in old
            for pod in podkit.owned_pods(self._pods, rs, "ReplicaSet", orphans=False)
        )

    async def _roll_back(self) -> Result | None:
        """Serve the rollback annotation of extensions/v1beta1; kubectl does it by writing the old template itself."""
        new, old = await self._sets(create=True)
        every = [*old, new] if new is not None else list(old)
        target = revisions.rollback_target(self.deployment) or revisions.last_revision(every)
        rs = next((rs for rs in every if target and revisions.revision_of(rs) == target), None)
        wanted = copy(self.deployment)
        if rs is None:
            message = "Unable to find the revision to rollback to." if target else "Unable to find last revision."
            self._recorder.event(self.deployment, "Warning", "DeploymentRollbackRevisionNotFound", message)
        elif equal_ignoring_hash(wanted["spec"]["template"], rs["spec"]["template"]):
            message = (
                f'The rollback revision contains the same template as current deployment "{name_of(self.deployment)}"'
            )
            self._recorder.event(self.deployment, "Warning", "DeploymentRollbackTemplateUnchanged", message)
        else:
            template = copy(rs["spec"]["template"])
            (template.get("metadata", {}).get("labels") or {}).pop(HASH_LABEL, None)
            wanted["spec"]["template"] = template
            wanted["metadata"]["annotations"] = revisions.rolled_back_annotations(wanted, rs)
            message = f'Rolled back deployment "{name_of(self.deployment)}" to revision {target}'
            self._recorder.event(self.deployment, "Normal", "DeploymentRollback", message)
        wanted["metadata"].get("annotations", {}).pop(revisions.ROLLBACK_TO, None)
        await self._client.update(DEPLOYMENTS, wanted)
        return None

    # The new ReplicaSet

    async def _sets(self, *, create: bool) -> tuple[Object | None, list[Object]]:
        """The new ReplicaSet, with revision and annotations up to date (made if ``create``), and the old ones."""
        sets = self.replica_sets.values()
        old = rollout.find_old(self.deployment, sets)
        new = rollout.find_new(self.deployment, sets)
        revision = revisions.max_revision(old) + 1
        if new is not None:
            return await self._update_new(new, revision), old
        if not create:
            return None, old
        return await self._create_new(old, revision), old

    async def _update_new(self, new: Object, revision: int) -> Object:
        wanted = copy(new)
        min_ready = self.deployment["spec"].get("minReadySeconds") or 0
        changed = revisions.annotate_new(self.deployment, wanted, revision, exists=True)
        if changed or (wanted["spec"].get("minReadySeconds") or 0) != min_ready:
            wanted["spec"]["minReadySeconds"] = min_ready
            return self._keep(await self._client.update(REPLICA_SETS, wanted))
        stale = self._set_revision(annotations_of(wanted).get(revisions.REVISION, ""))
        if (
            status.progress_deadline(self.deployment) is not None
            and condition(self.deployment, status.PROGRESSING) is None
        ):
            message = f'Found new replica set "{name_of(new)}"'
            self._set_progressing("True", "FoundNewReplicaSet", message)
            stale = True
        if stale:
            await self._write_status(status_of(self.deployment))
        return new

    async def _create_new(self, old: Sequence[Object], revision: int) -> Object:
        wanted = self._new_replica_set(old, revision)
        try:
            created = await self._client.create(REPLICA_SETS, wanted)
        except errors.AlreadyExists:
            return await self._existing_or_collision(wanted, revision)
        except errors.ApiError as error:
            if not namespace_is_terminating(error):
                await self._note_failed_create(wanted, error)
            raise
        if replicas_of(created) > 0:
            message = f"Scaled up replica set {name_of(created)} from 0 to {replicas_of(created)}"
            self._recorder.event(self.deployment, "Normal", "ScalingReplicaSet", message)
        stale = self._set_revision(str(revision))
        if status.progress_deadline(self.deployment) is not None:
            message = f'Created new replica set "{name_of(created)}"'
            self._set_progressing("True", "NewReplicaSetCreated", message)
            stale = True
        if stale:
            await self._write_status(status_of(self.deployment))
        return self._keep(created)

    def _new_replica_set(self, old: Sequence[Object], revision: int) -> Object:
        """The ReplicaSet of the current template, with hash, owner and revision."""
        deployment, spec = self.deployment, self.deployment["spec"]
        digest = compute_hash(spec["template"], status_of(deployment).get("collisionCount"))
        template = with_label(spec["template"], HASH_LABEL, digest)
        selector = copy(spec["selector"])
        selector["matchLabels"] = {**(selector.get("matchLabels") or {}), HASH_LABEL: digest}
        new: Object = {
            "kind": "ReplicaSet",
            "apiVersion": "apps/v1",
            "metadata": {
                "name": replica_set_name(name_of(deployment), digest),
                "namespace": namespace_of(deployment),
                "labels": dict(template["metadata"]["labels"]),
                "ownerReferences": [controller_reference(deployment, "apps/v1", "Deployment")],
            },
            "spec": {
                "replicas": rollout.new_replicas(deployment, old, 0),
                "selector": selector,
                "template": template,
            },
        }
        if spec.get("minReadySeconds"):
            new["spec"]["minReadySeconds"] = spec["minReadySeconds"]
        revisions.annotate_new(deployment, new, revision, exists=False)
        return new

    async def _existing_or_collision(self, wanted: Object, revision: int) -> Object:
        """The name is taken: by our own ReplicaSet, that the informer does not show yet, or by another's."""
        existing = await self._client.get(REPLICA_SETS, name_of(wanted), namespace_of(wanted))
        template = self.deployment["spec"]["template"]
        if is_controlled_by(existing, self.deployment) and equal_ignoring_hash(template, existing["spec"]["template"]):
            if self._set_revision(str(revision)):
                await self._write_status(status_of(self.deployment))
            return self._keep(existing)
        count = int(status_of(self.deployment).get("collisionCount") or 0) + 1
        await self._write_status({**status_of(self.deployment), "collisionCount": count})
        raise NameTaken(name_of(wanted))

    async def _note_failed_create(self, wanted: Object, error: errors.ApiError) -> None:
        message = f'Failed to create new replica set "{name_of(wanted)}": {error.message}'
        self._recorder.event(self.deployment, "Warning", "ReplicaSetCreateError", message)
        if status.progress_deadline(self.deployment) is not None:
            self._set_progressing("False", "ReplicaSetCreateError", message)
            await self._write_status(status_of(self.deployment))

    # Writing

    def _keep(self, rs: Object) -> Object:
        self.replica_sets[name_of(rs)] = rs
        return rs

    async def _apply(
        self, scales: Sequence[Scale], new: Object | None, old: Sequence[Object], *, annotate: bool = False
    ) -> tuple[Object | None, list[Object]]:
        """Scale ReplicaSets; the new and the old ones as they are then."""
        changed = {
            name_of(s.replica_set): await self._scale(s.replica_set, s.replicas, annotate=annotate) for s in scales
        }
        if new is not None:
            new = changed.get(name_of(new), new)
        return new, [changed.get(name_of(rs), rs) for rs in old]

    async def _scale(self, rs: Object, replicas: int, *, annotate: bool = False) -> Object:
        before = replicas_of(rs)
        wanted = copy(rs)
        wanted["spec"]["replicas"] = replicas
        if not revisions.annotate_size(self.deployment, wanted) and before == replicas:
            return rs
        if before == replicas and not annotate:
            return rs
        updated = self._keep(await self._client.update(REPLICA_SETS, wanted))
        if before != replicas:
            direction = "up" if before < replicas else "down"
            message = f"Scaled {direction} replica set {name_of(rs)} from {before} to {replicas}"
            self._recorder.event(self.deployment, "Normal", "ScalingReplicaSet", message)
        return updated

    async def _clean_up(self, old: Sequence[Object]) -> None:
        for rs in revisions.to_clean_up(self.deployment, old):
            try:
                await self._client.delete(REPLICA_SETS, name_of(rs), namespace_of(rs))
            except errors.NotFound:
                continue

    def _set_revision(self, revision: str) -> bool:
        if annotations_of(self.deployment).get(revisions.REVISION) == revision:
            return False
        set_annotation(self.deployment, revisions.REVISION, revision)
        return True

    def _set_progressing(self, value: str, reason: str, message: str) -> None:
        wanted = status.make_condition(status.PROGRESSING, value, reason, message, self._clock.now())
        status.set_condition(self.deployment.setdefault("status", {}), wanted)

    async def _note_pause(self) -> None:
        wanted = status.pause_condition(self.deployment, self._clock.now())
        if wanted is not None:
            status.set_condition(self.deployment.setdefault("status", {}), wanted)
            await self._write_status(status_of(self.deployment))

    async def _write_counts(self, new: Object | None, old: Sequence[Object]) -> Result | None:
        wanted = status.counts(self.deployment, new, old, self._clock.now())
        if wanted != status_of(self.deployment):
            await self._write_status(wanted)
        return None

    async def _write_rollout(self, new: Object | None, old: Sequence[Object]) -> Result | None:
        now = self._clock.now()
        wanted = status.rollout_status(self.deployment, new, old, now)
        if wanted != status_of(self.deployment):
            await self._write_status(wanted)
            return None
        after = status.stuck_check_after(self.deployment, wanted, now)
        if after is None:
            return None
        return Result(retry=True) if after == 0 else Result(after=after)

    async def _write_status(self, wanted: Object) -> None:
        self.deployment = await self._client.update_status(DEPLOYMENTS, {**self.deployment, "status": wanted})


def replica_set_name(deployment: str, digest: str) -> str:
    """``deployment-hash``, the former cut if that is too long for a name."""
    return f"{deployment[: 253 - 1 - len(digest)]}-{digest}"
