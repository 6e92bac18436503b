"""VolumeBinding: a pod goes where its volumes are, or can be.

Claims that have volumes must reach the node. Claims whose class waits for the first consumer get theirs now: a free
volume that the node reaches, or one that is provisioned for it. The choice is kept in mind (``Assumptions``) until it
is written, and the pod is bound once the claims are. Other claims without volumes wait for the binder of claims.
Source: https://kubernetes.io/docs/concepts/storage/storage-classes/#volume-binding-mode
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tiphys.api.meta.copying import copy
from tiphys.api.meta.objects import annotations_of, is_deleting, key_of, name_of, namespace_of, phase_of, set_annotation
from tiphys.api.object import Object
from tiphys.api.scheduling.volumes import reaches
from tiphys.api.volumes.binding import volume_for
from tiphys.api.volumes.claims import SELECTED_NODE, is_bound, is_of
from tiphys.api.volumes.matching import best_on, class_of, request
from tiphys.client import errors
from tiphys.client.resources import PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES
from tiphys.scheduler.framework.cyclestate import CycleState
from tiphys.scheduler.framework.events import Registration
from tiphys.scheduler.framework.interface import PreFilterResult
from tiphys.scheduler.framework.nodeinfo import NodeInfo
from tiphys.scheduler.framework.podinfo import PodInfo
from tiphys.scheduler.framework.status import SKIP, Status, error, unresolvable
from tiphys.scheduler.framework.versions import version_of
from tiphys.scheduler.handle import Handle
from tiphys.scheduler.plugins.volumes import volume_events
from tiphys.scheduler.storage_capacity import enough, in_topology
from tiphys.scheduler.volumes import Assumptions, not_found, not_owned

if TYPE_CHECKING:
    import numpy as np

UNBOUND = "pod has unbound immediate PersistentVolumeClaims"
NO_VOLUME = "node(s) didn't find available persistent volumes to bind"
UNREACHABLE = "node(s) didn't match PersistentVolume's node affinity"
NO_SPACE = "node(s) did not have enough free storage"
VOLUME_GONE = "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)"

_NO_PROVISIONER = ("", "kubernetes.io/no-provisioner")


@dataclass(slots=True)
class Choice:
    """What is to be written for a pod's claims on one node."""

    bindings: list[tuple[Object, Object]] = field(default_factory=list)
    """A volume, and the claim that it is to serve."""
    provisions: list[Object] = field(default_factory=list)
    """Claims for which a volume is to be made."""


@dataclass(slots=True)
class _Claims:
    """A pod's claims, by what has to happen for them."""

    bound: list[Object] = field(default_factory=list)
    delayed: list[Object] = field(default_factory=list)
    chosen: Choice | None = None
    """Once a node is reserved."""


class VolumeBinding:
    """``bind_seconds``: how long a pod that is being bound waits for its claims to be bound."""

    name = "VolumeBinding"

    def __init__(self, handle: Handle, bind_seconds: float = 600.0) -> None:
        self._handle = handle
        self._bind_seconds = bind_seconds
        self._claims = Assumptions(handle, "persistentvolumeclaims")
        self._volumes = Assumptions(handle, "persistentvolumes")

    # -- choosing a node ----------------------------------------------------------------------------------------------

    def pre_filter(self, state: CycleState, pod: PodInfo) -> tuple[PreFilterResult | None, Status | None]:
        """Sort the pod's claims into bound and delayed ones; unresolvable if one is missing or unbound."""
        if not pod.claims:
            return None, SKIP
        sorted_claims = _Claims()
        for name, ephemeral in pod.claims:
            claim = self._claims.get(pod.namespace, name)
            if (objection := _objection(pod, name, claim, ephemeral=ephemeral)) or claim is None:
                return None, unresolvable(objection)
        for name, _ in pod.claims:
            claim = self._claims.get(pod.namespace, name)
            assert claim is not None
            if is_bound(claim):
                sorted_claims.bound.append(claim)
            elif self._is_delayed(claim):
                sorted_claims.delayed.append(claim)
            else:
                return None, unresolvable(UNBOUND)
        state.data[self.name] = sorted_claims
        return None, None

    def _is_delayed(self, claim: Object) -> bool:
        """Whether the scheduler chooses the claim's volume."""
        storage_class = self._class(claim)
        delays = storage_class is not None and storage_class.get("volumeBindingMode") == "WaitForFirstConsumer"
        return delays and not claim["spec"].get("volumeName")

    def _class(self, claim: Object) -> Object | None:
        return self._handle.store("storageclasses").get("", class_of(claim))

    def filter(self, state: CycleState, pod: PodInfo, node: NodeInfo) -> Status | None:
        choice = self._choose(state.data[self.name], node)
        return choice if isinstance(choice, Status) else None

    def filter_all(self, state: CycleState, pod: PodInfo) -> np.ndarray[Any, Any] | None:
        claims: _Claims = state.data[self.name]
        if not claims.delayed and all(self._is_everywhere(claim) for claim in claims.bound):
            return None
        import numpy as np

        table = self._handle.cache.table
        mask = np.ones(len(table.rows), dtype=bool)
        for node in table:
            if isinstance(self._choose(claims, node), Status):
                mask[node.row] = False
        return mask

    def _is_everywhere(self, claim: Object) -> bool:
        volume = self._volumes.get("", claim["spec"]["volumeName"])
        return volume is not None and not volume["spec"].get("nodeAffinity")

    def _choose(self, claims: _Claims, node: NodeInfo) -> Choice | Status:
        """What would be written for a node, or why it will not do."""
        reasons = []
        if (objection := self._bound_objection(claims.bound, node)) is not None:
            reasons.append(objection)
        choice = self._choose_delayed(claims.delayed, node)
        if isinstance(choice, str):
            reasons.append(choice)
        if reasons or isinstance(choice, str):
            return unresolvable(*sorted(reasons, key=_ORDER.index))
        return choice

    def _bound_objection(self, claims: Sequence[Object], node: NodeInfo) -> str | None:
        for claim in claims:
            volume = self._volumes.get("", claim["spec"]["volumeName"])
            if volume is None:
                return VOLUME_GONE
            if not reaches(volume, node.labels):
                return UNREACHABLE
        return None

    def _choose_delayed(self, claims: Sequence[Object], node: NodeInfo) -> Choice | str:
        """A volume for each claim, the smallest claims first; for the rest, provisioning, if the node allows it."""
        choice, taken, rest = Choice(), set[str](), []
        for claim in claims:
            selected = annotations_of(claim).get(SELECTED_NODE)
            if selected is not None and selected != node.name:
                return NO_VOLUME
            if selected is not None:
                rest.append(claim)
        for claim in sorted((c for c in claims if SELECTED_NODE not in annotations_of(c)), key=request):
            free = (v for v in self._volumes.of_class(class_of(claim)) if name_of(v) not in taken)
            volume = best_on(claim, free, lambda v: reaches(v, node.labels))
            if volume is None:
                rest.append(claim)
                continue
            taken.add(name_of(volume))
            choice.bindings.append((volume, claim))
        for claim in rest:
            if (objection := self._provisioning_objection(claim, node)) is not None:
                return objection
            choice.provisions.append(claim)
        return choice

    def _provisioning_objection(self, claim: Object, node: NodeInfo) -> str | None:
        storage_class = self._class(claim)
        if storage_class is None or storage_class["provisioner"] in _NO_PROVISIONER:
            return NO_VOLUME
        if not in_topology(storage_class.get("allowedTopologies") or (), node.labels):
            return NO_VOLUME
        return None if enough(self._handle, claim, storage_class, node.labels) else NO_SPACE

    # -- keeping it in mind -------------------------------------------------------------------------------------------

    def reserve(self, state: CycleState, pod: PodInfo, node: str) -> Status | None:
        """Assume the volumes and provisioning that bind the pod's delayed claims on ``node``."""
        claims, info = state.data.get(self.name), self._handle.cache.table.get(node)
        if claims is None or not claims.delayed or info is None:
            return None
        choice = self._choose(claims, info)
        if isinstance(choice, Status):
            return choice
        claims.chosen = Choice()
        for volume, claim in choice.bindings:
            wanted = volume_for(volume, claim) or volume
            self._volumes.assume(wanted)
            claims.chosen.bindings.append((wanted, claim))
        for claim in choice.provisions:
            wanted = copy(claim)
            set_annotation(wanted, SELECTED_NODE, node)
            self._claims.assume(wanted)
            claims.chosen.provisions.append(wanted)
        return None

    def unreserve(self, state: CycleState, pod: PodInfo, node: str) -> None:
        claims = state.data.get(self.name)
        if claims is None or claims.chosen is None:
            return
        for volume, _ in claims.chosen.bindings:
            self._volumes.take_back(volume)
        for claim in claims.chosen.provisions:
            self._claims.take_back(claim)
        claims.chosen = None

    # -- binding ------------------------------------------------------------------------------------------------------

    def waits(self, state: CycleState, pod: PodInfo) -> bool:
        claims = state.data.get(self.name)
        return claims is not None and claims.chosen is not None

    async def pre_bind(self, state: CycleState, pod: PodInfo, node: str) -> Status | None:
        """Write what was chosen, and wait until every claim is bound."""
        if not self.waits(state, pod):
            return None
        choice: Choice = state.data[self.name].chosen
        changed = asyncio.Event()
        self._handle.watching.add(changed)
        try:
            async with asyncio.timeout(self._bind_seconds):
                written = await self._write(choice)
                while not self._all_bound(pod, node, written):
                    await changed.wait()
                    changed.clear()
        except _CannotBind as problem:
            return error(f"binding volumes: {problem}")
        except TimeoutError:
            return error("binding volumes: context deadline exceeded")
        except (errors.ApiError, ConnectionError) as problem:
            return error(str(problem))
        finally:
            self._handle.watching.discard(changed)
        return None

    async def _write(self, choice: Choice) -> Choice:
        """As the API server has them then."""
        client, written = self._handle.client, Choice()
        for volume, claim in choice.bindings:
            written.bindings.append((await client.update(PERSISTENT_VOLUMES, volume), claim))
        for claim in choice.provisions:
            written.provisions.append(await client.update(PERSISTENT_VOLUME_CLAIMS, claim))
        return written

    def _all_bound(self, pod: PodInfo, node: str, written: Choice) -> bool:
        """By the informers' copies. Raises ``_CannotBind`` if the pod has to be tried again."""
        if self._handle.store("pods").get(*pod.key) is None:
            raise _CannotBind(f'pod does not exist any more: pod "{pod.name}" not found')
        info = self._handle.cache.table.get(node)
        if info is None:
            raise _CannotBind(f'failed to get node "{node}": node "{node}" not found')
        return all(self._is_served(volume, claim, info) for volume, claim in written.bindings) and all(
            self._is_provisioned(claim, info) for claim in written.provisions
        )

    def _is_served(self, written: Object, claim: Object, node: NodeInfo) -> bool:
        volume = self._stored("persistentvolumes", written)
        current = self._stored("persistentvolumeclaims", claim)
        if version_of(volume) < version_of(written):
            return False
        _check_reach(volume, node)
        if not (volume["spec"].get("claimRef") or {}).get("uid"):
            raise _CannotBind(f'ClaimRef got reset for pv "{name_of(volume)}"')
        return is_bound(current)

    def _is_provisioned(self, written: Object, node: NodeInfo) -> bool:
        claim = self._stored("persistentvolumeclaims", written)
        if version_of(claim) < version_of(written):
            return False
        if annotations_of(claim).get(SELECTED_NODE) != node.name:
            raise _CannotBind(f'provisioning failed for PVC "{name_of(claim)}"')
        if volume_name := claim["spec"].get("volumeName"):
            volume = self._handle.store("persistentvolumes").get("", volume_name)
            if volume is None:
                return False  # it may not have arrived yet
            _check_reach(volume, node)
        return is_bound(claim)

    def _stored(self, plural: str, obj: Object) -> Object:
        stored = self._handle.store(plural).get(namespace_of(obj), name_of(obj))
        if stored is None:
            raise _CannotBind(f'could not find "{key_of(obj)}"')
        return stored

    def events(self) -> Iterable[Registration]:
        return volume_events.registrations()


class _CannotBind(Exception):
    """What was chosen has become impossible."""


_ORDER = (UNREACHABLE, NO_VOLUME, NO_SPACE, VOLUME_GONE)


def _objection(pod: PodInfo, name: str, claim: Object | None, *, ephemeral: bool) -> str:
    """Why a claim cannot be used; empty if it can."""
    if claim is None and ephemeral:
        return f'waiting for ephemeral volume controller to create the persistentvolumeclaim "{name}"'
    if claim is None:
        return not_found("persistentvolumeclaim", name)
    if phase_of(claim) == "Lost":
        volume = claim["spec"].get("volumeName", "")
        return f'persistentvolumeclaim "{name}" bound to non-existent persistentvolume "{volume}"'
    if is_deleting(claim):
        return f'persistentvolumeclaim "{name}" is being deleted'
    if ephemeral and not is_of(claim, pod.obj):
        return not_owned(pod, name)
    return ""


def _check_reach(volume: Object, node: NodeInfo) -> None:
    if not reaches(volume, node.labels):
        raise _CannotBind(
            f'pv "{name_of(volume)}" node affinity doesn\'t match node "{node.name}": no matching NodeSelectorTerms'
        )
