"""Certificate signing requests: who asks is recorded by the server; approval and certificate come by subresources.

Source: https://kubernetes.io/docs/reference/access-authn-authz/certificate-signing-requests/
"""

from __future__ import annotations

from typing import Any

from tiphys.api.fielderrors import FieldError
from tiphys.api.validation.subresources import validate_csr_approval
from tiphys.apiserver.registry.registry import Registry
from tiphys.apiserver.registry.strategy import Finish, Strategy, Write, copy_field, keep

Object = dict[str, Any]

_APPROVALS = ("Approved", "Denied")


class SigningRequestStrategy(Strategy):
    has_status = True
    initial_status: Object | None = {}
    reset_fields = ("spec", "status")
    reset_by_status = ("spec", "status.conditions")

    def prepare_create(self, obj: Object, write: Write) -> None:
        super().prepare_create(obj, write)
        spec = obj["spec"]
        for name in ("username", "uid", "groups", "extra"):
            spec.pop(name, None)
        spec |= write.user.as_user_info()

    def prepare_update(self, new: Object, old: Object, write: Write) -> None:
        super().prepare_update(new, old, write)
        copy_field(new, old, "spec")

    def prepare_status_update(self, new: Object, old: Object, write: Write) -> None:
        """The certificate and conditions other than an approval."""
        super().prepare_status_update(new, old, write)
        status = new.setdefault("status", {})
        others = [c for c in status.get("conditions") or [] if c.get("type") not in _APPROVALS]
        kept = [c for c in (old.get("status") or {}).get("conditions") or [] if c.get("type") in _APPROVALS]
        _set_conditions(status, kept + others, old, write.now)


class ApprovalRules:
    """``certificatesigningrequests/approval``: writes the conditions and nothing else."""

    reset: tuple[str, ...] = ("spec", "status.certificate")

    def __init__(self, registry: Registry) -> None:
        pass

    def prepare(self, new: Object, old: Object, write: Write) -> None:
        copy_field(new, old, "spec")
        status, kept = new.setdefault("status", {}), old.get("status") or {}
        copy_field(status, kept, "certificate")
        _set_conditions(status, status.get("conditions") or [], old, write.now)

    def validate(self, new: Object, old: Object, write: Write) -> list[FieldError]:
        return validate_csr_approval(new, old)

    async def begin(self, new: Object, old: Object, write: Write) -> Finish:
        return keep


def _set_conditions(status: Object, conditions: list[Object], old: Object, now: str) -> None:
    """Fill in the times that a client leaves out."""
    before = {c.get("type"): c for c in (old.get("status") or {}).get("conditions") or []}
    for condition in conditions:
        known = before.get(condition.get("type"))
        same = known is not None and known.get("status") == condition.get("status")
        if not condition.get("lastTransitionTime"):
            condition["lastTransitionTime"] = known["lastTransitionTime"] if known is not None and same else now
        if not condition.get("lastUpdateTime"):
            condition["lastUpdateTime"] = now
    if conditions:
        status["conditions"] = conditions
    else:
        status.pop("conditions", None)
