"""Which custom resources the server serves: rows of the scheme that are added and removed with their definitions.

Source: https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from tiphys.api.object import Object
from tiphys.api.scheme import Resource
from tiphys.apiserver.registry.registries import Registries
from tiphys.apiserver.registry.registry import Registry

log = logging.getLogger(__name__)


class Serving:
    """``definitions`` is the registry of definitions; ``changed`` is called when the scheme has changed."""

    def __init__(self, registries: Registries, definitions: Registry, changed: Callable[[], None]) -> None:
        self._registries = registries
        self._definitions = definitions
        self._changed = changed
        self._served: dict[str, tuple[Object, Resource]] = {}

    def update(self) -> None:
        """Bring the scheme to what the definitions say now."""
        cacher = self._definitions.store.cacher
        definitions: dict[str, Object] = {}
        for entry in cacher.under(cacher.prefix):
            obj = self._definitions.shared_object(entry)
            definitions[entry.name] = {"spec": obj.get("spec"), "status": obj.get("status")}
        changes = [self._put_contained(name, said) for name, said in definitions.items()]
        unknown = {_name_of(key) for key in cacher.unreadable}
        gone = self._served.keys() - definitions.keys() - unknown
        for name in gone:
            self._remove(self._served.pop(name)[1])
        if gone or any(changes):
            self._changed()

    def _put_contained(self, name: str, said: Object) -> bool:
        """One definition that cannot be served leaves the others, and what is served of it, as they are."""
        try:
            return self._put(name, said)
        except Exception:
            log.exception("the custom resource %s cannot be served as it is defined now", name)
            return False

    def _put(self, name: str, said: Object) -> bool:
        before = self._served.get(name)
        if before is not None and before[0] == said:
            return False
        from tiphys.api.custom.definition import (
            resource_of,
        )  # what custom objects need costs a server nothing till then

        resource = resource_of(said)
        if resource is None:
            if before is not None:
                self._remove(self._served.pop(name)[1])
            return before is not None
        if before is None or _served_part(before[0]) != _served_part(said):
            self._registries.forget(resource.group, resource.plural)
        self._served[name] = (said, resource)
        self._registries.scheme.add(resource)
        return True

    def _remove(self, resource: Resource) -> None:
        self._registries.scheme.remove(resource.group, resource.plural)
        self._registries.forget(resource.group, resource.plural)


def _name_of(key: str) -> str:
    return key.rpartition("/")[2]


def _served_part(said: Object) -> Object:
    """What the caches of objects depend on: while it stays, watches continue."""
    return {"spec": said["spec"], "names": (said.get("status") or {}).get("acceptedNames")}
