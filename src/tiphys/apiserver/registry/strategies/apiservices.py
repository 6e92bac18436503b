"""APIServices: one that names no service is served here, and available from the start.

Source: https://kubernetes.io/docs/reference/generated/kubernetes-api/v1.36/#apiservice-v1-apiregistration-k8s-io
"""

from __future__ import annotations

from tiphys.api.object import Object
from tiphys.apiserver.registry.strategy import (
    Strategy,
    Write,
)

LOCAL: Object = {
    "type": "Available",
    "status": "True",
    "reason": "Local",
    "message": "Local APIServices are always available",
}


class APIServiceStrategy(Strategy):
    has_status = True
    initial_status: Object | None = {}
    unconditional_update = False
    status_leaves_metadata = True
    reset_by_status = ("metadata", "spec")

    def prepare_create(self, obj: Object, write: Write) -> None:
        super().prepare_create(obj, write)
        if (obj.get("spec") or {}).get("service") is None:
            obj["status"]["conditions"] = [{**LOCAL, "lastTransitionTime": write.now}]
