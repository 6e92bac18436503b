"""What devices of one claim must have in common, or apart: the constraints of a claim. Pure.

Source: https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/resource-claim-v1/#ResourceClaimSpec
"""

from __future__ import annotations

from typing import Any

from tiphys.api.object import Object
from tiphys.scheduler.devices.attributes import attribute_of
from tiphys.scheduler.devices.pools import Candidate


class Constraint:
    """One attribute, over the devices of some requests. ``distinct``: no two have the same; else all have the same.

    Devices are added, and taken away in the reverse order, while a solution is looked for.
    """

    def __init__(self, described: Object) -> None:
        self.distinct = described.get("matchAttribute") is None
        self._name: str = described["distinctAttribute"] if self.distinct else described["matchAttribute"]
        self._requests = frozenset(described.get("requests") or ())
        self._values: list[tuple[str, Any]] = []

    def concerns(self, request: str, alternative: str) -> bool:
        """``alternative`` is the name of the alternative of the request, if it has any."""
        names = {request, f"{request}/{alternative}"} if alternative else {request}
        return not self._requests or not self._requests.isdisjoint(names)

    def add(self, candidate: Candidate) -> bool:
        """Whether the device fits those before it; it is one of them from now on if so."""
        value = attribute_of(candidate.device, candidate.id.driver, self._name)
        if value is None or (self._values and (value in self._values) == self.distinct):
            return False
        self._values.append(value)
        return True

    def remove_last(self) -> None:
        self._values.pop()
