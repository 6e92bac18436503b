"""CustomResourceDefinitions: their status is the server's, and their objects are deleted before they are.

Deleting one marks it, with a finalizer of the server's own; it is gone when its objects are.
Source: https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/
"""

from __future__ import annotations

from tiphys.api.meta.conditions import set_condition
from tiphys.api.object import Object
from tiphys.apiserver.registry.strategy import Strategy, Write, copy_field

CLEANUP = "customresourcecleanup.apiextensions.k8s.io"
TERMINATING = "Terminating"


def empty_status() -> Object:
    """What the wire form shows of a status in which nothing has been written yet."""
    return {"conditions": None, "acceptedNames": {"plural": "", "kind": ""}, "storedVersions": None}


class DefinitionStrategy(Strategy):
    has_status = True
    counts = ("spec",)
    lengthy = True
    unconditional_update = False
    has_own_deletion = True
    collects_garbage_at_once = False

    def reset_status(self, obj: Object) -> None:
        obj["status"] = empty_status()
        _store_version(obj)

    def prepare_update(self, new: Object, old: Object, write: Write) -> None:
        copy_field(new, old, "status")
        super().prepare_update(new, old, write)
        _store_version(new)

    def mark_deleted(self, obj: Object, now: str) -> bool | None:
        meta = obj["metadata"]
        if "deletionTimestamp" in meta:
            return None
        meta["deletionTimestamp"] = now
        finalizers = meta.setdefault("finalizers", [])
        if CLEANUP not in finalizers:
            finalizers.append(CLEANUP)
        text = "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon"
        set_status_condition(obj, TERMINATING, "True", "InstanceDeletionPending", text, now)
        return True


def _store_version(obj: Object) -> None:
    """Remember that objects may be kept in the version that is now written to the store."""
    status = obj.setdefault("status", empty_status())
    stored: list[str] = status.get("storedVersions") or []
    version = storage_version(obj)
    if version is not None and version not in stored:
        status["storedVersions"] = [*stored, version]


def storage_version(obj: Object) -> str | None:
    """The first version that is marked as the one to store."""
    versions: list[Object] = obj["spec"].get("versions") or []
    return next((version.get("name", "") for version in versions if version.get("storage")), None)


def set_status_condition(obj: Object, kind: str, status: str, reason: str, message: str, now: str) -> bool:
    """Whether anything changed."""
    holder = obj.setdefault("status", empty_status())
    conditions: list[Object] = holder.get("conditions") or []
    condition = {"type": kind, "status": status, "reason": reason, "message": message}
    changed = set_condition(conditions, condition, now)
    holder["conditions"] = conditions
    return changed
