"""Which slices were written, in which generation: not to decide on a copy that is older than our own writes.

Source: https://kubernetes.io/docs/concepts/services-networking/endpoint-slices/
"""

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


def service_key(endpoint_slice: Object) -> str:
    return f"{namespace_of(endpoint_slice)}/{(endpoint_slice['metadata'].get('labels') or {}).get(SERVICE_NAME, '')}"


class SliceTracker:
    """Generations of slices by service and uid."""

    def __init__(self) -> None:
        self._generations: dict[str, dict[str, int]] = {}

    def wrote(self, endpoint_slice: Object) -> None:
        self._generations.setdefault(service_key(endpoint_slice), {})[uid_of(endpoint_slice)] = generation_of(
            endpoint_slice
        )

    def expect_deletion(self, endpoint_slice: Object) -> None:
        self._generations.setdefault(service_key(endpoint_slice), {})[uid_of(endpoint_slice)] = _DELETED

    def is_stale(self, service: str, slices: Iterable[Object]) -> bool:
        """Whether the informer lags: a slice is older than written, still there though deleted, or not yet there."""
        tracked = self._generations.get(service)
        if not tracked:
            return False
        seen = set()
        for endpoint_slice in slices:
            generation = tracked.get(uid_of(endpoint_slice))
            seen.add(uid_of(endpoint_slice))
            if generation == _DELETED or (generation is not None and generation > generation_of(endpoint_slice)):
                return True
        return any(generation != _DELETED and uid not in seen for uid, generation in tracked.items())

    def is_news(self, endpoint_slice: Object) -> bool:
        """Whether an added or changed slice is other than we wrote it."""
        generation = self._generations.get(service_key(endpoint_slice), {}).get(uid_of(endpoint_slice))
        return generation is None or generation_of(endpoint_slice) > generation

    def deletion_was_ours(self, endpoint_slice: Object) -> bool:
        """Note that a slice is gone; True if we had deleted it."""
        return self._generations.get(service_key(endpoint_slice), {}).pop(uid_of(endpoint_slice), None) == _DELETED

    def forget(self, service: str) -> None:
        self._generations.pop(service, None)
