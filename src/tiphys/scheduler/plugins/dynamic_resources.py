"""DynamicResources: pods with resource claims get devices, on a node that reaches them all.

A claim that is allocated already narrows down the nodes. For one that is not, devices are looked for on each node
(``devices.allocator``). What was found for the chosen node is kept in mind (``devices.pending``) until the claim says
it, which is written before the pod is bound, with the pod in ``status.reservedFor``. If devices have to be made ready
first, the pod is bound when they are. Extended resources behind which a class stands are devices of one more claim,
which is made for the pod then (``devices.extended``). Source:
https://kubernetes.io/docs/concepts/scheduling-eviction/dynamic-resource-allocation/
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tiphys.api.meta.copying import copy
from tiphys.api.meta.objects import is_deleting, key_of, name_of, namespace_of, status_of, uid_of
from tiphys.api.object import Object
from tiphys.api.scheduling.nodeselector import node_term
from tiphys.api.volumes.claims import is_of
from tiphys.client import errors
from tiphys.client.resources import RESOURCE_CLAIMS
from tiphys.client.rest import STRATEGIC_MERGE
from tiphys.controlkit.objects import timestamp
from tiphys.scheduler.devices.allocator import Allocator, Budget, NoAllocation, OutOfSteps
from tiphys.scheduler.devices.backed import BackedResources
from tiphys.scheduler.devices.binding import BindingFailed, is_overdue, is_ready, waits_for_conditions
from tiphys.scheduler.devices.extended import CannotFit, Special, Variant, pods_of, special_for
from tiphys.scheduler.devices.pools import SliceIndex
from tiphys.scheduler.devices.requests import AllocationError
from tiphys.scheduler.devices.special import FINALIZER, SpecialClaims
from tiphys.scheduler.framework.cyclestate import CycleState
from tiphys.scheduler.framework.events import Action, ClusterEvent, Registration, Resource
from tiphys.scheduler.framework.interface import PostFilterResult, PreFilterResult
from tiphys.scheduler.framework.nodeinfo import NodeInfo
from tiphys.scheduler.framework.podinfo import PodInfo
from tiphys.scheduler.framework.status import SKIP, Status, error, unresolvable, unschedulable
from tiphys.scheduler.handle import Handle
from tiphys.scheduler.plugins.scores import normalize

log = logging.getLogger(__name__)

NOT_ALLOCATED = "cannot allocate all claims"
ELSEWHERE = "resourceclaim not available on the node"
IN_USE = "resourceclaim in use"
DEALLOCATED = "deallocation of ResourceClaim completed"
DELETED = "deletion of ResourceClaim completed"

MAX_USERS = 256
MAX_ALTERNATIVES = 8
MAX_STEPS = 100_000
"""How many steps the search for one pod's devices may take, on all nodes together: a third of a second."""
_TRIES = 5


@dataclass(slots=True)
class _Work:
    """What is known of a pod's claims in one cycle."""

    claims: list[Object] = field(default_factory=list)
    special: Special | None = None
    """For extended resources behind which classes stand."""
    variants: dict[str, Variant] = field(default_factory=dict)
    """By node: the special claim, where one is needed."""
    made: Object | None = None
    """The special claim as it was written."""
    allocator: Allocator | None = None
    """None if all claims are allocated."""
    allocations: dict[str, list[Object]] = field(default_factory=dict)
    """By node: an allocation for each claim that has none; the special one comes last."""
    judged: dict[str, Status | None] = field(default_factory=dict)
    """By node. What was found out for a node holds for the whole cycle."""
    unavailable: set[int] = field(default_factory=set)
    """Claims whose devices some node does not reach, or that did not become ready."""
    reserved: dict[str, Object] = field(default_factory=dict)
    """By uid: the allocations of the chosen node, which are to be written."""

    @property
    def unallocated(self) -> list[Object]:
        return [claim for claim in self.claims if not _is_allocated(claim)]

    def wanted_on(self, node: str) -> list[Object]:
        """The claims that need an allocation if the pod comes to a node."""
        variant = self.variants.get(node)
        return self.unallocated if variant is None else [*self.unallocated, variant.claim]


class DynamicResources:
    """``binding_seconds``: how long a pod waits for its devices to be ready."""

    name = "DynamicResources"

    def __init__(self, handle: Handle, binding_seconds: float = 600.0) -> None:
        self._handle = handle
        self._binding_seconds = binding_seconds
        self._pending = handle.claims
        self._backed = BackedResources(handle)
        self._special = SpecialClaims(handle)

    # -- choosing a node ----------------------------------------------------------------------------------------------

    def pre_enqueue(self, pod: PodInfo) -> Status | None:
        claims = self._claims(pod)
        return unresolvable(claims) if isinstance(claims, str) else None

    def pre_filter(self, state: CycleState, pod: PodInfo) -> tuple[PreFilterResult | None, Status | None]:
        """Find the pod's claims, and whether there is anything to allocate."""
        work = state.data[self.name] = _Work()
        claims = self._claims(pod)
        if isinstance(claims, str):
            return None, unresolvable(claims)
        work.special = self._special_for(pod)
        if not claims and work.special is None:
            return None, SKIP
        for claim in claims:
            if objection := self._objection(claim, pod):
                return None, unresolvable(objection)
        work.claims = claims
        if work.unallocated or work.special is not None:
            work.allocator = Allocator(
                index=SliceIndex(self._handle.store("resourceslices")),
                given=self._pending.given(),
                device_class=lambda name: self._handle.store("deviceclasses").get("", name),
                new_id=self._new_id,
                budget=Budget(MAX_STEPS),
                known_matches=self._handle.matches,
            )
        return None, None

    def _new_id(self) -> str:
        return str(uuid.UUID(int=self._handle.rng.getrandbits(128), version=4))

    def _special_for(self, pod: PodInfo) -> Special | None:
        claims = self._handle.store("resourceclaims")
        return special_for(pod.obj, pod.requests, claims, self._backed.class_of, self._new_id)

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
            claim = self._pending.get(pod.namespace, name)
            if claim is None:
                return "object not found"
            if is_deleting(claim):
                return f'resourceclaim "{name}" is being deleted'
            if entry.get("resourceClaimName") is None and not is_of(claim, pod.obj):
                owner = f"Pod {pod.namespace}/{pod.name}"
                return f"ResourceClaim {key_of(claim)} was not created for {owner} (Pod is not owner)"
            claims.append(claim)
        return claims

    def _objection(self, claim: Object, pod: PodInfo) -> str:
        """Why a claim cannot be had, wherever the pod goes."""
        if _is_allocated(claim):
            users = status_of(claim).get("reservedFor") or ()
            return IN_USE if len(users) >= MAX_USERS and not _is_user(claim, pod) else ""
        if self._pending.is_in_flight(claim):
            return f"resource claim {key_of(claim)} is in the process of being allocated"
        for request, name in _classes(claim):
            if self._handle.store("deviceclasses").get("", name) is None:
                return f"request {request}: device class {name} does not exist"
        return ""

    def filter(self, state: CycleState, pod: PodInfo, node: NodeInfo) -> Status | None:
        work: _Work = state.data[self.name]
        if node.name not in work.judged:
            work.judged[node.name] = self._judge(work, pod, node)
        return work.judged[node.name]

    def _judge(self, work: _Work, pod: PodInfo, node: NodeInfo) -> Status | None:
        if work.special is not None:
            try:
                variant = work.special.on(pod.obj, node.allocatable, self._backed.class_of)
            except CannotFit as problem:
                return unresolvable(str(problem))
            if variant is not None:
                work.variants[node.name] = variant
        unavailable = {
            index
            for index, claim in enumerate(work.claims)
            if _is_allocated(claim) and not (_is_usable(claim, node) and self._may_become_ready(claim))
        }
        if unavailable:
            work.unavailable |= unavailable
            return unresolvable(ELSEWHERE)
        wanted = work.wanted_on(node.name)
        if work.allocator is None or not wanted:
            return None
        try:
            allocations = work.allocator.allocate(node, wanted)
        except NoAllocation as problem:
            return unresolvable(str(problem))
        except AllocationError as problem:
            return error(str(problem))
        except OutOfSteps:
            if work.allocations:  # there is a choice already; what is left is not looked at
                return unresolvable(NOT_ALLOCATED)
            return error(f"node {node.name}: timed out trying to allocate devices")
        if allocations is None:
            return unresolvable(NOT_ALLOCATED)
        work.allocations[node.name] = allocations
        return None

    def _may_become_ready(self, claim: Object) -> bool:
        try:
            ready = is_ready(claim)
        except BindingFailed:
            return False
        return ready or not is_overdue(claim, self._handle.clock.now(), self._binding_seconds)

    def post_filter(
        self, state: CycleState, pod: PodInfo, statuses: Mapping[str, Status], rest: Status | None
    ) -> tuple[PostFilterResult | None, Status | None]:
        """Let go of the devices of a claim that nobody uses, if they are in the way: others may be nearer."""
        work: _Work | None = state.data.get(self.name)
        if work is None:  # another plugin ended the cycle before this one was asked
            return None, error("not found")
        if not work.claims and work.special is None:
            return None, unschedulable("no new claims to deallocate")
        for index in sorted(work.unavailable):
            claim = work.claims[index]
            users = status_of(claim).get("reservedFor") or ()
            if not users or (len(users) == 1 and _is_user(claim, pod)):
                self._handle.runner.spawn(self._deallocate(claim), "deallocation")
                return None, unschedulable(DEALLOCATED)
        if work.special is not None and work.special.earlier:
            self._handle.runner.spawn(self._special.delete(work.special.claim), "end of an earlier special claim")
            return None, unschedulable(DELETED)
        return None, unschedulable("still not schedulable")

    async def _deallocate(self, claim: Object) -> None:
        status = {k: v for k, v in status_of(claim).items() if k not in ("allocation", "devices", "reservedFor")}
        try:
            await self._handle.client.update_status(RESOURCE_CLAIMS, {**claim, "status": status})
        except (errors.ApiError, ConnectionError, TimeoutError) as problem:
            log.warning("cannot deallocate claim %s: %s", key_of(claim), problem)

    def pre_score(self, state: CycleState, pod: PodInfo, nodes: Sequence[NodeInfo]) -> Status | None:
        work: _Work | None = state.data.get(self.name)
        return None if work is not None and any(map(_has_alternatives, work.claims)) else SKIP

    def score(self, state: CycleState, pod: PodInfo, node: NodeInfo) -> int:
        """Nodes where requests get what they would rather have are better."""
        work: _Work = state.data[self.name]
        remaining = iter(work.allocations.get(node.name) or ())
        total = 0
        for claim in work.claims:
            allocation = status_of(claim).get("allocation") or next(remaining, None)
            total += _preference(claim, allocation or {})
        return total

    def normalize(self, state: CycleState, pod: PodInfo, scores: list[int], nodes: object) -> None:
        normalize(scores, reverse=False)

    # -- having it ----------------------------------------------------------------------------------------------------

    def reserve(self, state: CycleState, pod: PodInfo, node: str) -> Status | None:
        work: _Work | None = state.data.get(self.name)
        wanted = work.wanted_on(node) if work is not None else ()
        if work is None or not wanted:
            return None
        allocations = work.allocations.get(node)
        if allocations is None:
            return error("claim allocation not found for node")
        for claim, allocation in zip(wanted, allocations, strict=True):
            work.reserved[uid_of(claim)] = allocation
            self._pending.begin(claim, allocation)
        return None

    def unreserve(self, state: CycleState, pod: PodInfo, node: str) -> None:
        work: _Work | None = state.data.get(self.name)
        if work is None:
            return
        if (variant := work.variants.get(node)) is not None:
            self._pending.end(variant.claim)
        if work.made is not None:
            self._handle.runner.spawn(self._special.delete(work.made), "end of a special claim")
        for claim in work.claims:
            if uid_of(claim) in work.reserved:
                self._pending.end(claim)
            if _is_allocated(claim) and _is_user(claim, pod):
                self._handle.runner.spawn(self._leave(claim, pod), "end of a reservation")
        work.reserved.clear()

    async def _leave(self, claim: Object, pod: PodInfo) -> None:
        gone = {"$patch": "delete", "uid": pod.uid}
        patch = {"metadata": {"uid": uid_of(claim)}, "status": {"reservedFor": [gone]}}
        place = (name_of(claim), patch, namespace_of(claim))
        try:
            await self._handle.client.patch(RESOURCE_CLAIMS, *place, type=STRATEGIC_MERGE, subresource="status")
        except (errors.ApiError, ConnectionError, TimeoutError) as problem:
            log.warning("cannot take pod %s from the users of claim %s: %s", pod.name, key_of(claim), problem)

    def waits(self, state: CycleState, pod: PodInfo) -> bool:
        work: _Work | None = state.data.get(self.name)
        return work is not None and any(
            waits_for_conditions(allocation)
            for allocation in (
                *work.reserved.values(),
                *(status_of(claim).get("allocation") or {} for claim in work.claims),
            )
        )

    async def pre_bind(self, state: CycleState, pod: PodInfo, node: str) -> Status | None:
        """Write what was found, say in each claim that the pod uses it, and wait until its devices are ready."""
        work: _Work | None = state.data.get(self.name)
        if work is None:
            return None
        try:
            for index, claim in enumerate(work.claims):
                if not _is_user(claim, pod):
                    work.claims[index] = await self._bind(claim, work.reserved.pop(uid_of(claim), None), pod)
            if (variant := work.variants.get(node)) is not None:
                await self._make(work, variant, pod)
            claims = [*work.claims, *filter(None, (work.made,))]
            if any(waits_for_conditions(status_of(claim)["allocation"]) for claim in claims):
                await self._until_ready(claims, pod, node)
        except (errors.ApiError, ConnectionError, TimeoutError) as problem:
            return error(str(problem))
        except (_Elsewhere, BindingFailed) as problem:
            return error(str(problem))
        return None

    async def _make(self, work: _Work, variant: Variant, pod: PodInfo) -> None:
        """Write the special claim, and have the pod say it. Raises ``ApiError``, ``_Elsewhere``."""
        try:
            work.made = await self._special.create(variant)
            work.made = await self._bind(work.made, work.reserved.pop(uid_of(variant.claim)), pod)
            await self._special.until_shown(work.made)
        finally:
            self._pending.end(variant.claim)
        await self._special.say(pod, work.made, variant)

    async def _bind(self, claim: Object, allocation: Object | None, pod: PodInfo) -> Object:
        """The claim as it is then. Raises ``ApiError``, ``_Elsewhere``."""
        current = claim
        try:
            for tries_left in reversed(range(_TRIES)):
                try:
                    current = await self._write(current, allocation, pod)
                    self._pending.written(current)
                    return current
                except errors.Conflict:
                    if not tries_left:
                        raise
                    current = await self._handle.client.get(RESOURCE_CLAIMS, name_of(claim), namespace_of(claim))
        finally:
            if allocation is not None:
                self._pending.end(claim)
        raise AssertionError("unreachable")

    async def _write(self, claim: Object, allocation: Object | None, pod: PodInfo) -> Object:
        client, wanted = self._handle.client, copy(claim)
        if is_deleting(wanted):
            raise _Elsewhere(f"claim {key_of(claim)} got deleted in the meantime")
        if allocation is not None:
            if _is_allocated(wanted):
                raise _Elsewhere(f"claim {key_of(claim)} got allocated elsewhere in the meantime")
            finalizers = wanted["metadata"].setdefault("finalizers", [])
            if FINALIZER not in finalizers:
                finalizers.append(FINALIZER)
                wanted = copy(await client.update(RESOURCE_CLAIMS, wanted))
            now = timestamp(self._handle.clock.now())
            wanted.setdefault("status", {})["allocation"] = {**copy(allocation), "allocationTimestamp": now}
        elif not _is_allocated(wanted):
            raise _Elsewhere(f"claim {key_of(claim)} got deallocated elsewhere in the meantime")
        status = wanted["status"]
        if not _is_user(wanted, pod):
            user = {"resource": "pods", "name": pod.name, "uid": pod.uid}
            status["reservedFor"] = [*(status.get("reservedFor") or ()), user]
        return await client.update_status(RESOURCE_CLAIMS, wanted)

    async def _until_ready(self, claims: Sequence[Object], pod: PodInfo, node: str) -> None:
        """Raises ``BindingFailed``."""
        message = f"waiting for binding conditions for device on node {node}"
        self._handle.recorder.event(pod.obj, "Normal", "BindingConditionsPending", message, action="Scheduling")
        changed = asyncio.Event()
        self._handle.watching.add(changed)
        try:
            async with asyncio.timeout(self._binding_seconds):
                while True:
                    current = [self._pending.get(namespace_of(c), name_of(c)) for c in claims]
                    if all(claim is not None and is_ready(claim) for claim in current):
                        return
                    await changed.wait()
                    changed.clear()
        except TimeoutError as late:
            raise BindingFailed("device binding timeout: context deadline exceeded") from late
        finally:
            self._handle.watching.discard(changed)

    # -- what may help ------------------------------------------------------------------------------------------------

    def events(self) -> Iterable[Registration]:
        change = Action.ADD | Action.UPDATE
        nodes = Action.ADD | Action.UPDATE_LABEL | Action.UPDATE_ALLOCATABLE
        yield Registration(ClusterEvent(Resource.NODE, nodes))
        yield Registration(ClusterEvent(Resource.RESOURCE_CLAIM, change | Action.DELETE), self.claim_changed)
        yield Registration(ClusterEvent(Resource.POD, Action.CLAIMS_MADE), self.claims_made)
        yield Registration(ClusterEvent(Resource.DEVICE_CLASS, change))
        yield Registration(ClusterEvent(Resource.RESOURCE_SLICE, change))

    def claim_changed(self, pod: PodInfo, old: Object | None, new: Object | None) -> bool:
        claims = self._claims(pod)
        if isinstance(claims, str):
            return False
        if old is not None and _is_allocated(old) and (new is None or not _is_allocated(new)):
            return True  # what it held may be free for others
        if new is None:
            return old is not None and pod.uid in pods_of(old)  # the special claim of an earlier attempt is gone
        if all(uid_of(claim) != uid_of(new) for claim in claims):
            return False
        return old is None or status_of(old) != status_of(new)

    def claims_made(self, pod: PodInfo, old: PodInfo, new: PodInfo) -> bool:
        return pod.uid == new.uid and not isinstance(self._claims(new), str)


class _Elsewhere(Exception):
    """Somebody else has decided about a claim."""


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


def _is_user(claim: Object, pod: PodInfo) -> bool:
    return any(user["uid"] == pod.uid for user in status_of(claim).get("reservedFor") or ())


def _is_usable(claim: Object, node: NodeInfo) -> bool:
    selector = status_of(claim)["allocation"].get("nodeSelector")
    if selector is None:
        return True
    return any(node_term(term).matches(node.name, node.labels) for term in selector.get("nodeSelectorTerms") or ())


def _has_alternatives(claim: Object) -> bool:
    requests = (claim["spec"].get("devices") or {}).get("requests") or ()
    return any(request.get("firstAvailable") for request in requests)


def _preference(claim: Object, allocation: Object) -> int:
    """The earlier the alternatives that were allocated stand in their requests, the more."""
    granted = {result["request"] for result in (allocation.get("devices") or {}).get("results") or ()}
    return sum(
        MAX_ALTERNATIVES - position
        for request in (claim["spec"].get("devices") or {}).get("requests") or ()
        for position, alternative in enumerate(request.get("firstAvailable") or ())
        if f"{request['name']}/{alternative['name']}" in granted
    )
