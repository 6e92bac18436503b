"""The requests of claims, read for the search: one entry for each, or one for each of its alternatives. Pure.

Source: https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/resource-claim-v1/#ResourceClaimSpec
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tiphys.api.meta.objects import key_of
from tiphys.api.object import Object
from tiphys.api.scheduling.taints import NO_EXECUTE, NO_SCHEDULE, Toleration, taint, tolerates, toleration
from tiphys.scheduler.devices.pools import Candidate, Pool

MAX_DEVICES = 32
"""How many devices an allocation holds at most."""


class AllocationError(Exception):
    """A claim, a class or a slice is wrong, whichever node is looked at."""


@dataclass(slots=True, eq=False)
class Request:
    claim: str
    """Namespace and name of the claim."""
    name: str
    parent: str
    """The name of the request of which this is an alternative; empty if it is none."""
    spec: Object
    device_class: Object
    tolerations: tuple[Toleration, ...]
    amount: int = 0
    all: list[Candidate] | None = None
    """The devices, if the request is for all that fit; it can be granted only if there is one."""

    @property
    def full_name(self) -> str:
        return f"{self.parent}/{self.name}" if self.parent else self.name

    @property
    def admin(self) -> bool:
        return bool(self.spec.get("adminAccess"))

    @property
    def selectors(self) -> Sequence[Object]:
        return self.spec.get("selectors") or ()

    @property
    def capacity(self) -> Mapping[str, str]:
        return (self.spec.get("capacity") or {}).get("requests") or {}

    def takes(self, device: Object) -> bool:
        """Whether no taint of the device keeps it from this request."""
        hard = (t for t in map(taint, device.get("taints") or ()) if t.effect in (NO_EXECUTE, NO_SCHEDULE))
        return all(any(tolerates(own, one) for own in self.tolerations) for one in hard)


@dataclass(slots=True, eq=False)
class Choice:
    """One request of a claim. ``options`` has one entry, or one for each alternative, the best first."""

    options: list[Request]
    listed: bool
    chosen: int = 0

    @property
    def request(self) -> Request:
        return self.options[self.chosen]

    @property
    def least(self) -> int:
        return min(option.amount for option in self.options)


Select = Callable[[Request, Candidate], bool]
"""Whether a device is one that a request may have."""


class RequestReader:
    """``device_class(name)`` gives a DeviceClass or None."""

    def __init__(self, device_class: Callable[[str], Object | None], pools: Sequence[Pool], select: Select) -> None:
        self._device_class = device_class
        self._pools = pools
        self._select = select

    def read(self, claim: Object) -> list[Choice]:
        """Raises ``AllocationError``."""
        choices = []
        for request in (claim["spec"].get("devices") or {}).get("requests") or ():
            alternatives = request.get("firstAvailable") or ()
            specs = [("", request["name"], request.get("exactly") or {})]
            if alternatives:
                specs = [(request["name"], one["name"], one) for one in alternatives]
            choices.append(Choice([self._request(claim, *spec) for spec in specs], bool(alternatives)))
        least = sum(choice.least for choice in choices)
        if least > MAX_DEVICES:
            message = f"number of requested devices {least} exceeds the claim limit of {MAX_DEVICES}"
            raise AllocationError(f"claim {key_of(claim)}: {message}")
        return choices

    def _request(self, claim: Object, parent: str, name: str, spec: Object) -> Request:
        where = f"claim {key_of(claim)}, request {name}"
        for index, selector in enumerate(spec.get("selectors") or ()):
            if selector.get("cel") is None:
                message = f"selector #{index}: CEL expression empty (unsupported selector type?)"
                raise AllocationError(f"{where}, {message}")
        class_name = spec.get("deviceClassName") or ""
        if not class_name:
            raise AllocationError(f"{where}: missing device class name (unsupported request type?)")
        device_class = self._device_class(class_name)
        if device_class is None:
            raise AllocationError(f"{where}: could not retrieve device class {class_name}: not found")
        tolerations = tuple(map(toleration, spec.get("tolerations") or ()))
        request = Request(key_of(claim), name, parent, spec, device_class, tolerations)
        mode = spec.get("allocationMode") or "ExactCount"
        if mode == "ExactCount":
            request.amount = 1 if spec.get("count") is None else spec["count"]
        elif mode == "All":
            request.all = [c for pool in self._pools for c in self._all_of(where, pool) if self._select(request, c)]
            request.amount = len(request.all)
        else:
            raise AllocationError(f"{where}: unsupported count mode {mode}")
        return request

    def _all_of(self, where: str, pool: Pool) -> list[Candidate]:
        if not pool.usable:
            state = "being updated" if pool.incomplete else "invalid"
            raise AllocationError(f"{where}: asks for all devices, but resource pool {pool} is currently {state}")
        return pool.candidates
