"""Claims for devices: access as an administrator is for namespaces that are labelled for it.

Source: KEP-5018 (DRA admin access).
"""

from __future__ import annotations

from typing import Any

from tiphys.api import fielderrors
from tiphys.api.fielderrors import FieldError
from tiphys.api.scheme import GroupVersionKind
from tiphys.apiserver.registry.registries import Registries
from tiphys.apiserver.registry.strategy import Finish, Strategy, Write, keep

Object = dict[str, Any]

_LABEL = "resource.kubernetes.io/admin-access"


class _DeviceStrategy(Strategy):
    returns_deleted = True

    def __init__(self, gvk: GroupVersionKind, registries: Registries) -> None:
        super().__init__(gvk)
        self._registries = registries

    async def begin_create(self, obj: Object, write: Write) -> Finish:
        # What validation looks at in the cache is as new as the store.
        await self._registries.get("", "namespaces").store.get("", write.namespace)
        return keep

    def _admin_errors(self, holders: list[Object], path: str, namespace: str) -> list[FieldError]:
        """``holders`` are what may ask for the access, at ``path[i].adminAccess``."""
        index = next((i for i, holder in enumerate(holders) if holder.get("adminAccess")), None)
        if index is None or self._is_labelled(namespace):
            return []
        text = f"admin access to devices requires the `{_LABEL}: true` label on the containing namespace"
        return [fielderrors.forbidden(f"{path}[{index}].adminAccess", text)]

    def _is_labelled(self, namespace: str) -> bool:
        store = self._registries.get("", "namespaces").store
        entry = store.cacher.get(store.key("", namespace))
        return entry is not None and entry.labels.get(_LABEL) == "true"

    def _of_requests(self, spec: Object, namespace: str) -> list[FieldError]:
        requests = (spec.get("devices") or {}).get("requests") or []
        exactly = [request.get("exactly") or {} for request in requests]
        return self._admin_errors(exactly, "spec.devices.requests", namespace)


class ClaimStrategy(_DeviceStrategy):
    has_status = True
    initial_status: Object | None = {}
    status_leaves_metadata = True
    reset_by_status = ("metadata", "spec")

    def validate_create(self, obj: Object, write: Write) -> list[FieldError]:
        own = super().validate_create(obj, write)
        return self._of_requests(obj.get("spec") or {}, write.namespace) + own

    def validate_status_update(self, new: Object, old: Object, write: Write) -> list[FieldError]:
        own = super().validate_status_update(new, old, write)
        if any(result.get("adminAccess") for result in _results(old)):
            return own
        return self._admin_errors(_results(new), "status.allocation.devices.results", write.namespace) + own


class ClaimTemplateStrategy(_DeviceStrategy):
    def validate_create(self, obj: Object, write: Write) -> list[FieldError]:
        own = super().validate_create(obj, write)
        return self._of_requests((obj.get("spec") or {}).get("spec") or {}, write.namespace) + own


def _results(claim: Object) -> list[Object]:
    allocation = (claim.get("status") or {}).get("allocation") or {}
    found: list[Object] = (allocation.get("devices") or {}).get("results") or []
    return found
