"""What is derived from all objects of a resource, kept up with the cache: a change costs the work of one object.

Source: https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes
"""

from __future__ import annotations

from tiphys.apiserver.registry.registry import Registry
from tiphys.apiserver.storage.entry import Entry
from tiphys.runtime.tasks import contain


class Follower:
    """Hears of every object of a resource: of all of them first, then of what changes."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self._generation = -1
        self._revision = 0

    async def refresh(self) -> bool:
        """Catch up with the cache, and say whether anything was new; does not wait once the cache is filled."""
        cacher = self.registry.store.cacher
        await cacher.ready()
        if cacher.generation == self._generation:
            return False
        changes = cacher.since(self._revision) if self._generation >= 0 else None
        self._generation, self._revision = cacher.generation, cacher.changed_at
        if changes is None:
            self.clear()
            for entry in cacher.under(self.registry.store.prefix):
                self._take(entry)
            return True
        for change in changes:
            if change.previous is not None:
                self.drop(change.previous)
            if change.entry is not None:
                self._take(change.entry)
        return True

    def _take(self, entry: Entry) -> None:
        """One object that cannot be understood takes nothing from the others."""
        contain(f"reading {entry.key}", self.put, entry)

    def clear(self) -> None:
        """Forget everything: all objects follow."""
        raise NotImplementedError

    def put(self, entry: Entry) -> None:
        """An object as it is now; what it was has been dropped."""
        raise NotImplementedError

    def drop(self, entry: Entry) -> None:
        """An object as it was before it changed or was deleted."""
        raise NotImplementedError
