"""Persistent volumes: the status records since when a volume is in its phase.

Source: https://kubernetes.io/docs/concepts/storage/persistent-volumes/
"""

from __future__ import annotations

from tiphys.api.object import Object
from tiphys.apiserver.registry.strategy import (
    Strategy,
    Write,
    copy_field,
)

_SINCE = "lastPhaseTransitionTime"


class PersistentVolumeStrategy(Strategy):
    has_status = True
    returns_deleted = True

    def prepare_create(self, obj: Object, write: Write) -> None:
        obj["status"] = {"phase": "Pending", _SINCE: write.now}

    def prepare_status_update(self, new: Object, old: Object, write: Write) -> None:
        super().prepare_status_update(new, old, write)
        status, before = new.setdefault("status", {}), old.get("status", {})
        since = status.get(_SINCE)
        if status.get("phase") == before.get("phase"):
            if since is None:
                copy_field(status, before, _SINCE)
        elif since is None or since == before.get(_SINCE):
            status[_SINCE] = write.now
