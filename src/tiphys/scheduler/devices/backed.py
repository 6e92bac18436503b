"""How much of an extended resource a node has as devices of a class, and how much of it is used: for scores.

Source: KEP-5004
"""

from __future__ import annotations

from tiphys.api.object import Object
from tiphys.scheduler.devices.attributes import SelectorError
from tiphys.scheduler.devices.extended import class_behind
from tiphys.scheduler.devices.pools import Candidate, Reached, SliceIndex, reaches
from tiphys.scheduler.devices.state import Given
from tiphys.scheduler.framework.cyclestate import CycleState
from tiphys.scheduler.handle import Handle

_KEY = "given devices"


class BackedResources:
    """The extended resources behind which classes stand, on any node."""

    def __init__(self, handle: Handle) -> None:
        self._handle = handle

    def class_of(self, resource: str) -> Object | None:
        return class_behind(self._handle.store("deviceclasses"), resource)

    def amounts(self, state: CycleState, node: Reached, resource: str) -> tuple[int, int]:
        """Devices that a node reaches, and how many of them are given away; (0, 0) if no class stands behind it."""
        behind = self.class_of(resource)
        if behind is None:
            return 0, 0
        try:
            candidates = self._devices(node, behind)
        except SelectorError:
            return 0, 0
        given = self._given(state)
        return len(candidates), sum(given.is_used(candidate.id) for candidate in candidates)

    def _devices(self, node: Reached, behind: Object) -> list[Candidate]:
        """Raises ``SelectorError``."""
        expressions = [one["cel"]["expression"] for one in behind["spec"].get("selectors") or () if one.get("cel")]
        return [
            candidate
            for pool in SliceIndex(self._handle.store("resourceslices")).pools(node)
            for candidate in pool.candidates
            if _is_reached(candidate, node) and all(self._handle.matches.holds(text, candidate) for text in expressions)
        ]

    def _given(self, state: CycleState) -> Given:
        """Found out once in a cycle."""
        if _KEY not in state.data:
            state.data[_KEY] = self._handle.claims.given()
        given: Given = state.data[_KEY]
        return given


def _is_reached(candidate: Candidate, node: Reached) -> bool:
    return not candidate.slice["spec"].get("perDeviceNodeSelection") or reaches(candidate.device, node)
