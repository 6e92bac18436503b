"""The devices that were chosen, as ``status.allocation`` of a claim says it. Pure.

Source: https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/resource-claim-v1/#ResourceClaimStatus
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from tiphys.api.meta.objects import name_of
from tiphys.api.meta.quantity import Quantity
from tiphys.api.object import Object
from tiphys.scheduler.devices.pools import Candidate
from tiphys.scheduler.devices.requests import AllocationError, Choice, Request


@dataclass(frozen=True, slots=True, eq=False)
class Chosen:
    candidate: Candidate
    request: Request
    consumed: Mapping[str, Quantity]
    """How much of the device's capacity, if it is shared."""


def allocation(
    claim: Object, choices: Sequence[Choice], chosen: Sequence[Chosen], node: str, new_id: Callable[[], str]
) -> Object:
    """The allocation of one claim, made for one node; it says which other nodes could use it."""
    devices: Object = {"results": [_result(one, new_id) for one in chosen]}
    if configuration := [*_of_classes(choices), *_of_claim(claim, choices)]:
        devices["config"] = configuration
    made: Object = {"devices": devices}
    if (selector := _node_selector(claim, chosen, node)) is not None:
        made["nodeSelector"] = selector
    return made


def _result(chosen: Chosen, new_id: Callable[[], str]) -> Object:
    candidate, request = chosen.candidate, chosen.request
    driver, pool, device = candidate.id
    result: Object = {"request": request.full_name, "driver": driver, "pool": pool, "device": device}
    if request.admin:
        result["adminAccess"] = True
    if tolerations := request.spec.get("tolerations"):
        result["tolerations"] = tolerations
    for name in ("bindingConditions", "bindingFailureConditions"):
        if conditions := candidate.device.get(name):
            result[name] = conditions
    if candidate.shared:
        result["shareID"] = new_id()
    if chosen.consumed:
        result["consumedCapacity"] = {name: str(amount) for name, amount in chosen.consumed.items()}
    return result


def _of_classes(choices: Sequence[Choice]) -> list[Object]:
    """The configurations of the classes, each class once, with the names of all requests for it."""
    requests: dict[str, list[Request]] = {}
    for choice in choices:
        requests.setdefault(name_of(choice.request.device_class), []).append(choice.request)
    return [
        {"source": "FromClass", "requests": [one.full_name for one in of_class], **entry}
        for of_class in requests.values()
        for entry in of_class[0].device_class["spec"].get("config") or ()
    ]


def _of_claim(claim: Object, choices: Sequence[Choice]) -> Iterator[Object]:
    """The claim's own, as far as they concern what was chosen."""
    for entry in (claim["spec"].get("devices") or {}).get("config") or ():
        names = entry.get("requests") or ()
        granted = [{c.request.full_name, c.request.parent} for c in choices]
        for _ in range(1 if not names else sum(not own.isdisjoint(names) for own in granted)):
            yield {"source": "FromClaim", **entry}


def _node_selector(claim: Object, chosen: Sequence[Chosen], node: str) -> Object | None:
    """None if every node can use the devices. Raises ``AllocationError``."""
    term: dict[str, list[Object]] = {}
    for one in chosen:
        spec, device = one.candidate.slice["spec"], one.candidate.device
        place = device if spec.get("perDeviceNodeSelection") else spec
        if place.get("nodeName") or device.get("bindsToNode"):
            own = {"key": "metadata.name", "operator": "In", "values": [node]}
            return {"nodeSelectorTerms": [{"matchFields": [own]}]}
        terms = (place.get("nodeSelector") or {}).get("nodeSelectorTerms") or ()
        if len(terms) > 1:
            message = f"unsupported ResourceSlice.NodeSelector with {len(terms)} terms"
            raise AllocationError(f"create NodeSelector for claim {name_of(claim)}: {message}")
        for kind in ("matchFields", "matchExpressions"):
            for requirement in terms[0].get(kind) or () if terms else ():
                known = term.setdefault(kind, [])
                if not any(_same(requirement, other) for other in known):
                    known.append(requirement)
    return {"nodeSelectorTerms": [term]} if term else None


def _same(one: Object, other: Object) -> bool:
    return all(one.get(name) == other.get(name) for name in ("key", "operator")) and set(
        one.get("values") or ()
    ) == set(other.get("values") or ())
