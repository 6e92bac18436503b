"""Which slices were written, in which generation: not to decide on a copy that is older than our own writes."""

from __future__ import annotations

from collections.abc import Iterable

from tiphys.api.object import Object
from tiphys.controlkit.objects import (
    generation_of,
    namespace_of,
    uid_of,
)
from tiphys.controllers.network.endpointslice.plan import SERVICE_NAME

_DELETED = -1


def service_key(found: Object) -> str:
    return f"{namespace_of(found)}/{(found['metadata'].get('labels') or {}).get(SERVICE_NAME, '')}"


class SliceTracker:
    """Generations of slices by service and uid."""

    def __init__(self) -> None:
        self._generations: dict[str, dict[str, int]] = {}

    def wrote(self, found: Object) -> None:
        self._generations.setdefault(service_key(found), {})[uid_of(found)] = generation_of(found)

    def expect_deletion(self, found: Object) -> None:
        self._generations.setdefault(service_key(found), {})[uid_of(found)] = _DELETED

    def is_stale(self, service: str, slices: Iterable[Object]) -> bool:
        """Whether the informer lags: a slice is older than written, still there though deleted, or not yet there."""
        tracked = self._generations.get(service)
        if not tracked:
            return False
        seen = set()
        for found in slices:
            generation = tracked.get(uid_of(found))
            seen.add(uid_of(found))
            if generation == _DELETED or (generation is not None and generation > generation_of(found)):
                return True
        return any(generation != _DELETED and uid not in seen for uid, generation in tracked.items())

    def is_news(self, found: Object) -> bool:
        """Whether an added or changed slice is other than we wrote it."""
        generation = self._generations.get(service_key(found), {}).get(uid_of(found))
        return generation is None or generation_of(found) > generation

    def deletion_was_ours(self, found: Object) -> bool:
        """Note that a slice is gone; True where we had deleted it."""
        return self._generations.get(service_key(found), {}).pop(uid_of(found), None) == _DELETED

    def forget(self, service: str) -> None:
        self._generations.pop(service, None)
