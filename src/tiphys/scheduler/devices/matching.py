"""Whether devices are as selectors want them, kept from pod to pod.

The expression language is imported with the first selector: few clusters have one, and it is a third of a scheduler's
imports.

Source: KEP-4381
"""

from __future__ import annotations

from tiphys.api.object import Object
from tiphys.scheduler.devices.pools import Candidate, DeviceId


class Matches:
    """Whether devices match selectors, by slice in its version, device and expression."""

    def __init__(self, most: int = 20_000) -> None:
        self._slices: dict[tuple[str, str, str], dict[tuple[DeviceId, str], bool]] = {}
        self._most = most

    def holds(self, text: str, candidate: Candidate) -> bool:
        """A device has the same attributes on whichever node it is looked at. Raises ``SelectorError``."""
        known, key = self._of(candidate.slice), (candidate.id, text)
        if key not in known:
            from tiphys.scheduler.devices.selectors import matches

            known[key] = matches(text, candidate.id.driver, candidate.device)
        return known[key]

    def _of(self, slice: Object) -> dict[tuple[DeviceId, str], bool]:
        meta = slice["metadata"]
        key = (meta["name"], meta.get("uid") or "", meta.get("resourceVersion") or "")
        if key not in self._slices:
            if len(self._slices) >= self._most:
                del self._slices[next(iter(self._slices))]  # the oldest
            self._slices[key] = {}
        return self._slices[key]
