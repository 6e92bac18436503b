"""Namespaces: deleting one marks it as terminating; it is gone when the last of ``spec.finalizers`` is.

Source: https://kubernetes.io/docs/concepts/overview/working-with-objects/namespaces/
"""

from __future__ import annotations

from tiphys.api.fielderrors import FieldError
from tiphys.api.object import Object
from tiphys.apiserver.registry.registry import Registry
from tiphys.apiserver.registry.strategy import Finish, Strategy, Write, copy_field, keep
from tiphys.validation.subresources import validate_namespace_finalize

KUBERNETES = "kubernetes"
_NAME_LABEL = "kubernetes.io/metadata.name"


class NamespaceStrategy(Strategy):
    has_status = True
    returns_deleted = True
    has_own_deletion = True

    def prepare_create(self, obj: Object, write: Write) -> None:
        obj["status"] = {"phase": "Active"}
        finalizers = obj.setdefault("spec", {}).setdefault("finalizers", [])
        if KUBERNETES not in finalizers:
            finalizers.append(KUBERNETES)
        _label(obj)

    def prepare_update(self, new: Object, old: Object, write: Write) -> None:
        copy_field(new, old, "status")
        copy_field(new.setdefault("spec", {}), old.get("spec") or {}, "finalizers")
        _label(new)

    def mark_deleted(self, obj: Object, now: str) -> bool | None:
        if "deletionTimestamp" not in obj["metadata"]:
            obj["metadata"]["deletionTimestamp"] = now
            obj.setdefault("status", {})["phase"] = "Terminating"
            return True
        return False if (obj.get("spec") or {}).get("finalizers") else None

    def deleted_by_update(self, new: Object, old: Object) -> bool:
        return not (new.get("spec") or {}).get("finalizers")


def _label(obj: Object) -> None:
    meta = obj["metadata"]
    if meta.get("name"):
        meta.setdefault("labels", {})[_NAME_LABEL] = meta["name"]


class FinalizeRules:
    """``namespaces/finalize``: sets ``spec.finalizers``."""

    reset: tuple[str, ...] = ("status",)

    def __init__(self, registry: Registry) -> None:
        """The rules are the same for every registry of namespaces."""

    def prepare(self, new: Object, old: Object, write: Write) -> None:
        copy_field(new, old, "status")

    def validate(self, new: Object, old: Object, write: Write) -> list[FieldError]:
        return validate_namespace_finalize(new, old)

    async def begin(self, new: Object, old: Object, write: Write) -> Finish:
        return keep
