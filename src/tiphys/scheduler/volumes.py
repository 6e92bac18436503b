"""Claims and volumes as the scheduler sees them: the informers' copies, and what it has decided and not written yet.

An assumption holds until the API server has a newer version of the object, or it is taken back.
"""

from __future__ import annotations

from tiphys.api.meta.objects import name_of, namespace_of
from tiphys.api.object import Object
from tiphys.api.volumes.matching import class_of
from tiphys.client.informer import Store
from tiphys.scheduler.framework.podinfo import PodInfo
from tiphys.scheduler.framework.versions import version_of
from tiphys.scheduler.handle import Handle

_CLASS = "class"


def not_found(resource: str, name: str) -> str:
    """As an API server says it: ``persistentvolumeclaim "x" not found``."""
    return f'{resource} "{name}" not found'


def not_owned(pod: PodInfo, claim: str) -> str:
    """Of a claim with the name of one that is made for a pod, but that somebody else has made."""
    return f"PVC {pod.namespace}/{claim} was not created for pod {pod.namespace}/{pod.name} (pod is not owner)"


class Assumptions:
    """Of one resource: objects in a version of which only the scheduler knows."""

    def __init__(self, handle: Handle, plural: str) -> None:
        self._handle = handle
        self._plural = plural
        self._assumed: dict[tuple[str, str], Object] = {}

    @property
    def store(self) -> Store:
        return self._handle.store(self._plural)

    def get(self, namespace: str, name: str) -> Object | None:
        stored = self.store.get(namespace, name)
        return stored if stored is None else self._newest(stored)

    def of_class(self, name: str) -> list[Object]:
        """Those of a storage class."""
        if not self.store.has_index(_CLASS):
            self.store.add_index(_CLASS, lambda obj: (class_of(obj),))
        return [self._newest(stored) for stored in self.store.by_index(_CLASS, name)]

    def assume(self, obj: Object) -> None:
        self._assumed[namespace_of(obj), name_of(obj)] = obj

    def take_back(self, obj: Object) -> None:
        """Forget it, if it is the object that is assumed still."""
        key = (namespace_of(obj), name_of(obj))
        if self._assumed.get(key) is obj:
            del self._assumed[key]

    def _newest(self, stored: Object) -> Object:
        key = (namespace_of(stored), name_of(stored))
        assumed = self._assumed.get(key)
        if assumed is None:
            return stored
        if stored["metadata"].get("uid") == assumed["metadata"].get("uid") and version_of(stored) <= version_of(
            assumed
        ):
            return assumed
        del self._assumed[key]
        return stored
