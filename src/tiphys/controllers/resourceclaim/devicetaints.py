"""The device taint eviction controller: removes pods whose claims have got devices that are tainted with NoExecute,
unless the claim tolerates it, and for as long as it does.

Taints are those that drivers publish in ResourceSlices. Source: KEP-5055.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from tiphys.api.object import Object
from tiphys.api.scheduling.taints import NO_EXECUTE, taint, tolerates, toleration
from tiphys.client import errors
from tiphys.client.informer import Callbacks
from tiphys.client.resources import PODS, RESOURCE_CLAIMS, RESOURCE_SLICES
from tiphys.client.rest import STRATEGIC_MERGE
from tiphys.controlkit.controller import Result
from tiphys.controlkit.objects import (
    is_controlled_by,
    is_deleting,
    key_of,
    name_of,
    namespace_of,
    parse_time,
    split_key,
    status_of,
    uid_of,
)
from tiphys.controlkit.pods import node_of
from tiphys.controllers.context import ControllerContext
from tiphys.controllers.nodes.disrupted import disruption_patch
from tiphys.controllers.resourceclaim import plan

NAME = "device-taint-eviction-controller"
REASON = "DeletionByDeviceTaintManager"
MESSAGE = "Device Taint manager: deleting due to NoExecute taint"
_BY_POOL, _BY_CLAIM = "device pool", "claim of devices"


# Decisions


def allocated_devices(claim: Object) -> list[Object]:
    allocation = status_of(claim).get("allocation") or {}
    return (allocation.get("devices") or {}).get("results") or []


def pool_of(device: Object) -> str:
    return f"{device['driver']}/{device['pool']}"


def pool_of_slice(slice: Object) -> str:
    return f"{slice['spec']['driver']}/{slice['spec']['pool']['name']}"


def evicting_taints(slices: Sequence[Object]) -> dict[str, list[Object]]:
    """By device of a pool, its evicting taints: only what the pool's newest generation says of it counts."""
    newest = max((slice["spec"]["pool"]["generation"] for slice in slices), default=None)
    current = (slice for slice in slices if slice["spec"]["pool"]["generation"] == newest)
    tainted = {}
    for device in (device for slice in current for device in slice["spec"].get("devices") or ()):
        if evicting := [entry for entry in device.get("taints") or () if entry.get("effect") == NO_EXECUTE]:
            tainted[device["name"]] = evicting
    return tainted


def end_of_toleration(entry: Object, tolerations: Iterable[Object]) -> float | None:
    """Until when a taint is tolerated, as seconds since the epoch; None: for ever, or nobody knows since when it is."""
    added = parse_time(entry.get("timeAdded"))
    evicting = (t for t in map(toleration, tolerations) if t.effect == NO_EXECUTE)
    covering = [t for t in evicting if tolerates(t, taint(entry), comparisons=False)]
    if added is None or any(t.seconds is None for t in covering):
        return None
    return added + min((max(t.seconds or 0, 0) for t in covering), default=0)


def uses(pod: Object, claim: Object) -> bool:
    """Whether a claim of that name is the pod's, and reserved for it."""
    entry = next((e for e in plan.claims_of(pod) if plan.name_for(pod, e) == name_of(claim)), None)
    if entry is None or (entry.get("resourceClaimTemplateName") is not None and not is_controlled_by(claim, pod)):
        return False
    return any(plan.consumes_as_pod(by) and by.get("uid") == uid_of(pod) for by in plan.consumers(claim))


class DeviceTaintEvictionController:
    def __init__(self, context: ControllerContext) -> None:
        self._client, self._clock = context.client, context.clock
        self._recorder = context.recorder.named(NAME)
        self._pods = context.informers.informer(PODS)
        self._claims = context.informers.informer(RESOURCE_CLAIMS)
        self._slices = context.informers.informer(RESOURCE_SLICES)
        self._pods.add_index(_BY_CLAIM, _claim_keys)
        self._claims.add_index(_BY_POOL, lambda claim: {pool_of(d) for d in allocated_devices(claim)})
        self._slices.add_index(_BY_POOL, lambda slice: (pool_of_slice(slice),))
        self._tainted: dict[str, dict[str, list[Object]]] = {}
        """By pool, the taints of its devices, until a slice of it changes."""
        self._waiting: set[str] = set()
        """Pods of which an event has to say that they are not evicted after all."""
        workers = context.config.concurrent_device_taint_eviction_syncs
        self._controller = context.controller("device_taint_eviction", self.reconcile, workers=workers)
        self._controller.handles(self._pods, _each(self._pod_changed))
        self._controller.handles(self._claims, _each(self._claim_changed))
        self._controller.handles(self._slices, _each(self._slice_changed))

    async def run(self) -> None:
        await self._controller.run()

    def _pod_changed(self, pod: Object) -> None:
        if plan.claims_of(pod):
            self._controller.queue.add(key_of(pod))

    def _claim_changed(self, claim: Object) -> None:
        for pod in self._pods.store.by_index(_BY_CLAIM, key_of(claim)):
            self._controller.queue.add(key_of(pod))

    def _slice_changed(self, slice: Object) -> None:
        self._tainted.pop(pool_of_slice(slice), None)
        for claim in self._claims.store.by_index(_BY_POOL, pool_of_slice(slice)):
            self._claim_changed(claim)

    async def reconcile(self, key: str) -> Result | None:
        """Evict a pod when the first of its devices' taints is tolerated no longer; returns the wait until then."""
        pod = self._pods.store.get(*split_key(key))
        if pod is None or is_deleting(pod):
            self._waiting.discard(key)
            return None
        at = self._eviction_time(pod)
        if at is None:
            if key in self._waiting:
                self._waiting.discard(key)
                self._recorder.event(pod, "Normal", "DeviceTaintManagerEviction", "Cancelling deletion")
            return None
        self._waiting.add(key)
        if (left := at - self._clock.now()) > 0:
            return Result(after=left)
        await self._evict(pod)
        self._waiting.discard(key)
        return None

    def _eviction_time(self, pod: Object) -> float | None:
        if not node_of(pod):
            return None
        keys = (split_key(key) for key in _claim_keys(pod))
        claims = [claim for key in keys if (claim := self._claims.store.get(*key)) is not None and uses(pod, claim)]
        return min((at for claim in claims for at in self._ends(claim)), default=None)

    def _ends(self, claim: Object) -> Iterator[float]:
        for device in allocated_devices(claim):
            for entry in self._taints_of(pool_of(device)).get(device["device"], ()):
                end = end_of_toleration(entry, device.get("tolerations") or ())
                if end is not None:
                    yield end

    def _taints_of(self, pool: str) -> dict[str, list[Object]]:
        if (known := self._tainted.get(pool)) is not None:
            return known
        slices = self._slices.store.by_index(_BY_POOL, pool)
        tainted = evicting_taints(slices)
        if slices:  # what is kept is dropped when one of them changes
            self._tainted[pool] = tainted
        return tainted

    async def _evict(self, pod: Object) -> None:
        name, namespace = name_of(pod), namespace_of(pod)
        try:
            live = await self._client.get(PODS, name, namespace)
            if uid_of(live) != uid_of(pod) or is_deleting(live):
                return
            self._recorder.event(live, "Normal", "DeviceTaintManagerEviction", "Marking for deletion")
            patch = disruption_patch(live, REASON, MESSAGE, self._clock.now())
            if patch is not None:
                await self._client.patch(PODS, name, patch, namespace, type=STRATEGIC_MERGE, subresource="status")
            await self._client.delete(PODS, name, namespace, uid=uid_of(pod))
        except errors.NotFound:
            return


def _claim_keys(pod: Object) -> set[str]:
    names = (plan.name_for(pod, entry) for entry in plan.claims_of(pod))
    return {f"{namespace_of(pod)}/{name}" for name in names if name}


def _each(notify: Callable[[Object], None]) -> Callbacks:
    """Both what an object was and what it is now counts."""

    def updated(old: Object, new: Object) -> None:
        notify(old)
        notify(new)

    return Callbacks(added=notify, updated=updated, deleted=notify)
