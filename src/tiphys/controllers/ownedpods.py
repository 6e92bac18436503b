"""A handler of pod events for controllers that own pods and keep expectations about them."""

from __future__ import annotations

from collections.abc import Callable

from tiphys.api.object import Object
from tiphys.client.informer import Informer
from tiphys.controlkit.expectations import Expectations
from tiphys.controlkit.objects import (
    controller_of,
    is_deleting,
    key_of,
    labels_of,
    namespace_of,
    uid_of,
)
from tiphys.controlkit.queue import WorkQueue
from tiphys.controlkit.selectors import Predicate, label_selector


class OwnedPodHandler:
    """Which owners of one kind a pod's change concerns, and which expectations it fulfils.

    ``selector`` gives an owner's LabelSelector, or a predicate over labels.
    """

    def __init__(
        self,
        *,
        kind: str,
        owners: Informer,
        queue: WorkQueue[str],
        expectations: Expectations | None,
        selector: Callable[[Object], Object | Predicate | None],
    ) -> None:
        self._kind, self._owners, self._queue = kind, owners, queue
        self._expectations, self._selector = expectations, selector

    def added(self, pod: Object, *, initial: bool) -> None:
        if is_deleting(pod):
            self.deleted(pod)
            return
        reference = controller_of(pod)
        if reference is None:
            self._enqueue_matching(pod)
        elif (key := self._key(pod, reference)) is not None:
            if self._expectations is not None:
                self._expectations.creation_observed(key)
            self._queue.add(key)

    def updated(self, old: Object, new: Object) -> None:
        if is_deleting(new):
            self.deleted(new)
            return
        before, after = controller_of(old), controller_of(new)
        if before is not None and before != after and (key := self._key(old, before)) is not None:
            self._queue.add(key)
        if after is None:
            if labels_of(old) != labels_of(new) or before is not None:
                self._enqueue_matching(new)
        elif (key := self._key(new, after)) is not None:
            self._queue.add(key)

    def deleted(self, pod: Object) -> None:
        reference = controller_of(pod)
        if reference is not None and (key := self._key(pod, reference)) is not None:
            if self._expectations is not None:
                self._expectations.deletion_observed(key, key_of(pod))
            self._queue.add(key)

    def _key(self, pod: Object, reference: Object) -> str | None:
        if reference["kind"] != self._kind:
            return None
        owner = self._owners.store.get(namespace_of(pod), reference["name"])
        return key_of(owner) if owner is not None and uid_of(owner) == reference["uid"] else None

    def _enqueue_matching(self, pod: Object) -> None:
        labels = labels_of(pod)
        for owner in self._owners.store.list(namespace_of(pod)) if labels else ():
            selector = self._selector(owner)
            matches = selector if callable(selector) else label_selector(selector)
            if matches(labels):
                self._queue.add(key_of(owner))
