"""Priority classes: their value never changes, so that they are of generation 1 for ever.

Source: https://kubernetes.io/docs/reference/generated/kubernetes-api/v1.36/#priorityclass-v1-scheduling-k8s-io
"""

from __future__ import annotations

from tiphys.api import errors
from tiphys.api.object import Object
from tiphys.apiserver.registry.strategy import (
    Strategy,
    Write,
)
from tiphys.validation.scheduling import SYSTEM_CLASSES


class PriorityClassStrategy(Strategy):
    def prepare_create(self, obj: Object, write: Write) -> None:
        obj["metadata"]["generation"] = 1

    def check_delete(self, obj: Object, write: Write) -> None:
        name = obj["metadata"]["name"]
        if name in SYSTEM_CLASSES:
            reason = "this is a system priority class and cannot be deleted"
            raise errors.forbidden("scheduling.k8s.io", "priorityclasses", name, reason)
