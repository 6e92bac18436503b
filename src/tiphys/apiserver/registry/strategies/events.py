"""Events: they expire, deletion waits for nobody, and what they must hold depends on the group they come by.

Source: https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/event-v1/
"""

from __future__ import annotations

from tiphys import validation
from tiphys.api.fielderrors import FieldError
from tiphys.api.object import Object
from tiphys.api.scheme import GroupVersionKind
from tiphys.apiserver.registry.strategy import (
    Strategy,
    Write,
)

_NEW = GroupVersionKind("events.k8s.io", "v1", "Event")


class EventStrategy(Strategy):
    create_on_update = True
    collects_garbage = False

    def validate_create(self, obj: Object, write: Write) -> list[FieldError]:
        return validation.validate_create(obj, self._rules_of(write))

    def validate_update(self, new: Object, old: Object, write: Write) -> list[FieldError]:
        return validation.validate_update(new, old, self._rules_of(write))

    def _rules_of(self, write: Write) -> GroupVersionKind:
        return _NEW if write.version == _NEW.api_version else self.gvk
