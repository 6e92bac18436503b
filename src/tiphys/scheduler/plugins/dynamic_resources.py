"""DynamicResources: pods with resource claims wait for them, and go where those that are allocated can be used.

Devices are not chosen here: a claim becomes usable when its ``status.allocation`` is written. A pod whose claims are
allocated is added to their ``status.reservedFor`` before it is bound; one with a claim that is not, is turned down.
Source: https://kubernetes.io/docs/concepts/scheduling-eviction/dynamic-resource-allocation/
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tiphys.api.meta.copying import copy
from tiphys.api.meta.objects import is_deleting, key_of, name_of, namespace_of, status_of, uid_of
from tiphys.api.object import Object
from tiphys.api.scheduling.nodeselector import node_term
from tiphys.api.volumes.claims import is_of
from tiphys.client import errors
from tiphys.client.resources import RESOURCE_CLAIMS
from tiphys.scheduler.framework.cyclestate import CycleState
from tiphys.scheduler.framework.events import Action, ClusterEvent, Registration, Resource
from tiphys.scheduler.framework.interface import PostFilterResult, PreFilterResult
from tiphys.scheduler.framework.nodeinfo import NodeInfo
from tiphys.scheduler.framework.podinfo import PodInfo
from tiphys.scheduler.framework.status import SKIP, Status, error, unresolvable, unschedulable
from tiphys.scheduler.handle import Handle

NOT_ALLOCATED = "cannot allocate all claims"
ELSEWHERE = "resourceclaim not available on the node"


class DynamicResources:
    name = "DynamicResources"

    def __init__(self, handle: Handle) -> None:
        self._handle = handle

    def pre_enqueue(self, pod: PodInfo) -> Status | None:
        claims = self._claims(pod)
        return unresolvable(claims) if isinstance(claims, str) else None

    def pre_filter(self, state: CycleState, pod: PodInfo) -> tuple[PreFilterResult | None, Status | None]:
        state.data[self.name] = []
        claims = self._claims(pod)
        if isinstance(claims, str):
            return None, unresolvable(claims)
        if not claims:
            return None, SKIP
        for claim in claims:
            if not _is_allocated(claim) and (objection := self._class_objection(claim)):
                return None, unresolvable(objection)
        state.data[self.name] = claims
        return None, None

    def _claims(self, pod: PodInfo) -> list[Object] | str:
        """The pod's claims, or why it has to wait for one."""
        claims = []
        for entry in pod.spec.get("resourceClaims") or ():
            name = entry.get("resourceClaimName")
            if name is None:
                generated = _generated(pod, entry["name"])
                if generated is None:
                    return f'pod "{pod.namespace}/{pod.name}": ResourceClaim not created yet'
                name = generated.get("resourceClaimName")
                if name is None:
                    continue  # nothing was needed
            claim = self._handle.store("resourceclaims").get(pod.namespace, name)
            if claim is None:
                return "object not found"
            if is_deleting(claim):
                return f'resourceclaim "{name}" is being deleted'
            if entry.get("resourceClaimName") is None and not is_of(claim, pod.obj):
                owner = f"Pod {pod.namespace}/{pod.name}"
                return f"ResourceClaim {key_of(claim)} was not created for {owner} (Pod is not owner)"
            claims.append(claim)
        return claims

    def _class_objection(self, claim: Object) -> str:
        for request, name in _classes(claim):
            if self._handle.store("deviceclasses").get("", name) is None:
                return f"request {request}: device class {name} does not exist"
        return ""

    def filter(self, state: CycleState, pod: PodInfo, node: NodeInfo) -> Status | None:
        claims: list[Object] = state.data[self.name]
        if not all(map(_is_allocated, claims)):
            return unresolvable(NOT_ALLOCATED)
        return None if all(_is_usable(claim, node) for claim in claims) else unresolvable(ELSEWHERE)

    def filter_all(self, state: CycleState, pod: PodInfo) -> Any:
        import numpy as np

        table = self._handle.cache.table
        mask = np.zeros(len(table.rows), dtype=bool)
        for node in table:
            mask[node.row] = self.filter(state, pod, node) is None
        return mask

    def post_filter(
        self, state: CycleState, pod: PodInfo, statuses: Mapping[str, Status], rest: Status | None
    ) -> tuple[PostFilterResult | None, Status | None]:
        if self.name not in state.data:  # another plugin ended the cycle before this one was asked
            return None, error("not found")
        return None, unschedulable("still not schedulable" if state.data[self.name] else "no new claims to deallocate")

    async def pre_bind(self, state: CycleState, pod: PodInfo, node: str) -> Status | None:
        """Say in each claim that the pod uses it."""
        for claim in state.data.get(self.name) or ():
            try:
                await self._reserve(claim, pod)
            except (errors.ApiError, ConnectionError, TimeoutError) as problem:
                return error(str(problem))
        return None

    async def _reserve(self, claim: Object, pod: PodInfo) -> None:
        """The claim is read again, as others may share it."""
        current = await self._handle.client.get(RESOURCE_CLAIMS, name_of(claim), namespace_of(claim))
        users = status_of(current).get("reservedFor") or []
        if any(user["uid"] == pod.uid for user in users):
            return
        wanted = copy(current)
        user = {"resource": "pods", "name": pod.name, "uid": pod.uid}
        wanted["status"]["reservedFor"] = [*users, user]
        await self._handle.client.update_status(RESOURCE_CLAIMS, wanted)

    def events(self) -> Iterable[Registration]:
        change = Action.ADD | Action.UPDATE
        nodes = Action.ADD | Action.UPDATE_LABEL | Action.UPDATE_ALLOCATABLE
        yield Registration(ClusterEvent(Resource.NODE, nodes))
        yield Registration(ClusterEvent(Resource.RESOURCE_CLAIM, change), self.claim_changed)
        yield Registration(ClusterEvent(Resource.POD, Action.CLAIMS_MADE), self.claims_made)
        yield Registration(ClusterEvent(Resource.DEVICE_CLASS, change))
        yield Registration(ClusterEvent(Resource.RESOURCE_SLICE, change))

    def claim_changed(self, pod: PodInfo, old: Object | None, new: Object) -> bool:
        claims = self._claims(pod)
        if isinstance(claims, str):
            return False
        if old is not None and _is_allocated(old) and not _is_allocated(new):
            return True  # what it held may be free for others
        if all(uid_of(claim) != uid_of(new) for claim in claims):
            return False
        return old is None or status_of(old) != status_of(new)

    def claims_made(self, pod: PodInfo, old: PodInfo, new: PodInfo) -> bool:
        return pod.uid == new.uid and not isinstance(self._claims(new), str)


def _generated(pod: PodInfo, name: str) -> Object | None:
    """Which claim was made from a template, as the pod's status says."""
    statuses = pod.status.get("resourceClaimStatuses") or ()
    return next((status for status in statuses if status["name"] == name), None)


def _classes(claim: Object) -> Iterable[tuple[str, str]]:
    """Requests with the classes of devices that they ask for."""
    for request in (claim["spec"].get("devices") or {}).get("requests") or ():
        if exactly := request.get("exactly"):
            yield request["name"], exactly["deviceClassName"]
        for alternative in request.get("firstAvailable") or ():
            yield f"{request['name']}/{alternative['name']}", alternative["deviceClassName"]


def _is_allocated(claim: Object) -> bool:
    return status_of(claim).get("allocation") is not None


def _is_usable(claim: Object, node: NodeInfo) -> bool:
    selector = status_of(claim)["allocation"].get("nodeSelector")
    if selector is None:
        return True
    return any(node_term(term).matches(node.name, node.labels) for term in selector.get("nodeSelectorTerms") or ())
