"""Claims as the scheduler sees them: the informer's copy, and what it has decided and the copy does not show yet.

A decision is *in flight* from the choice of a node until it is written or given up; what was written holds until the
copy shows it, or something newer. Source: KEP-4381
"""

from __future__ import annotations

from collections.abc import Callable

from tiphys.api.meta.objects import name_of, namespace_of, uid_of
from tiphys.api.object import Object
from tiphys.client.informer import Store
from tiphys.scheduler.devices.state import Given, Known
from tiphys.scheduler.framework.versions import version_of

_PLURAL = "resourceclaims"


class PendingClaims:
    """``store`` gives the informer's copy of a resource."""

    def __init__(self, store: Callable[[str], Store]) -> None:
        self._store = store
        self._in_flight: dict[str, Object] = {}
        self._written: dict[str, Object] = {}
        """Both by the claim's uid."""

    def get(self, namespace: str, name: str) -> Object | None:
        """The claim in the newest version that is known."""
        stored = self._store(_PLURAL).get(namespace, name)
        if stored is None:
            return None
        written = self._written.get(uid_of(stored))
        return stored if written is None or version_of(stored) >= version_of(written) else written

    def is_shown(self, claim: Object) -> bool:
        """Whether the copy shows a claim as it was written, or a later version of it."""
        stored = self._store(_PLURAL).get(namespace_of(claim), name_of(claim))
        return stored is not None and version_of(stored) >= version_of(claim)

    def is_in_flight(self, claim: Object) -> bool:
        return uid_of(claim) in self._in_flight

    def begin(self, claim: Object, allocation: Object) -> None:
        self._in_flight[uid_of(claim)] = {**claim, "status": {**(claim.get("status") or {}), "allocation": allocation}}

    def end(self, claim: Object) -> None:
        self._in_flight.pop(uid_of(claim), None)

    def written(self, claim: Object) -> None:
        self._written[uid_of(claim)] = claim

    def given(self) -> Given:
        """What is given away as things are now."""
        for uid, claim in list(self._written.items()):
            if self.get(namespace_of(claim), name_of(claim)) is not claim:
                del self._written[uid]
        return Known(self._store(_PLURAL), {**self._written, **self._in_flight})
