"""APIServices: one that names no service is served here, and available from the start."""

from __future__ import annotations

from tiphys.api.object import Object
from tiphys.apiserver.registry.strategy import (
    Strategy,
    Write,
)


class APIServiceStrategy(Strategy):
    has_status = True
    initial_status: Object | None = {}
    unconditional_update = False
    status_leaves_metadata = True
    reset_by_status = ("metadata", "spec")

    def prepare_create(self, obj: Object, write: Write) -> None:
        super().prepare_create(obj, write)
        if (obj.get("spec") or {}).get("service") is None:
            message = "Local APIServices are always available"
            available = {"type": "Available", "status": "True", "reason": "Local", "message": message}
            obj["status"]["conditions"] = [{**available, "lastTransitionTime": write.now}]
