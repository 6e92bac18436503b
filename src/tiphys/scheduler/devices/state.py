"""Which devices claims have, at the API server and in the scheduler's mind: what the search must not give again.

Claims are found by the devices that they have, through an index of the informer's copy, so that a look at one device
costs the same however many claims there are. Source: KEP-4381, KEP-5075
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

from tiphys.api.meta.objects import status_of, uid_of
from tiphys.api.meta.quantity import parse
from tiphys.api.object import Object
from tiphys.client.informer import Store
from tiphys.scheduler.devices.pools import DeviceId

_INDEX = "device"


class Given(Protocol):
    """What is given away."""

    def is_taken(self, device: DeviceId) -> bool:
        """Whether a claim has the device for itself."""
        ...

    def is_used(self, device: DeviceId) -> bool:
        """Whether a claim has it, or a part of it."""
        ...

    def capacity(self, device: DeviceId) -> Mapping[str, int]:
        """How much of it is used, in billionths, if claims share it."""
        ...


def results_of(allocation: Object) -> Iterator[Object]:
    """The devices of an allocation; those of administrators' requests are used beside whoever has them."""
    for result in (allocation.get("devices") or {}).get("results") or ():
        if not result.get("adminAccess"):
            yield result


def device_of(result: Object) -> DeviceId:
    return DeviceId(result["driver"], result["pool"], result["device"])


class Results:
    """``Given`` of a number of results; those with a share id have a part of their device."""

    def __init__(self, results: Iterable[Object]) -> None:
        self._taken: set[DeviceId] = set()
        self._shared: dict[DeviceId, dict[str, int]] = {}
        for result in results:
            device = device_of(result)
            if result.get("shareID") is None:
                self._taken.add(device)
                continue
            used = self._shared.setdefault(device, {})
            for name, amount in (result.get("consumedCapacity") or {}).items():
                used[name] = used.get(name, 0) + parse(amount).nano

    def is_taken(self, device: DeviceId) -> bool:
        return device in self._taken

    def is_used(self, device: DeviceId) -> bool:
        return device in self._taken or device in self._shared

    def capacity(self, device: DeviceId) -> Mapping[str, int]:
        return self._shared.get(device, {})


class Known:
    """``Given`` of the claims in ``store``, with ``decided`` (claims by uid) in the place of those that are older."""

    def __init__(self, store: Store, decided: Mapping[str, Object]) -> None:
        if not store.has_index(_INDEX):
            store.add_index(_INDEX, _devices)
        self._store = store
        self._decided = decided
        self._results: dict[DeviceId, list[Object]] = {}
        for claim in decided.values():
            for result in _results(claim):
                self._results.setdefault(device_of(result), []).append(result)
        self._known: dict[DeviceId, Results] = {}

    def _of(self, device: DeviceId) -> Results:
        """Looked up once: nothing changes while a pod's node is looked for."""
        if device not in self._known:
            stored = (
                result
                for claim in self._store.by_index(_INDEX, str(device))
                if uid_of(claim) not in self._decided
                for result in _results(claim)
                if device_of(result) == device
            )
            self._known[device] = Results((*stored, *self._results.get(device, ())))
        return self._known[device]

    def is_taken(self, device: DeviceId) -> bool:
        return self._of(device).is_taken(device)

    def is_used(self, device: DeviceId) -> bool:
        return self._of(device).is_used(device)

    def capacity(self, device: DeviceId) -> Mapping[str, int]:
        return self._of(device).capacity(device)


def _results(claim: Object) -> Iterator[Object]:
    return results_of(status_of(claim).get("allocation") or {})


def _devices(claim: Object) -> set[str]:
    return {str(device_of(result)) for result in _results(claim)}
