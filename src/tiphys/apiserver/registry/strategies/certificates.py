"""Certificate signing requests: the server records the requester; approval and certificate have subresources.

Source: https://kubernetes.io/docs/reference/access-authn-authz/certificate-signing-requests/
"""

from __future__ import annotations

from tiphys.api.fielderrors import FieldError
from tiphys.api.object import Object
from tiphys.apiserver.registry.registry import Registry
from tiphys.apiserver.registry.strategy import Finish, Strategy, Write, copy_field, keep
from tiphys.validation.subresources import validate_csr_approval

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
        conditions = _conditions(new)
        for kind in _APPROVALS:
            _preserve(conditions, _conditions(old), kind)
        _fill_times(conditions, _conditions(old), write.now)


def _preserve(conditions: list[Object], old: list[Object], kind: str) -> None:
    """Keep the conditions of a type as they were; if some were added or removed, validation says so."""
    kept = [c for c in old if c.get("type") == kind]
    places = [i for i, c in enumerate(conditions) if c.get("type") == kind]
    if len(kept) == len(places):
        for i, condition in zip(places, kept, strict=True):
            conditions[i] = condition


class ApprovalRules:
    """``certificatesigningrequests/approval``: writes the conditions and nothing else."""

    reset: tuple[str, ...] = ("spec", "status.certificate")

    def __init__(self, registry: Registry) -> None:
        pass

    def prepare(self, new: Object, old: Object, write: Write) -> None:
        copy_field(new, old, "spec")
        copy_field(new.setdefault("status", {}), old.get("status") or {}, "certificate")
        _fill_times(_conditions(new), _conditions(old), write.now)

    def validate(self, new: Object, old: Object, write: Write) -> list[FieldError]:
        return validate_csr_approval(new, old)

    async def begin(self, new: Object, old: Object, write: Write) -> Finish:
        return keep


def _conditions(obj: Object) -> list[Object]:
    return (obj.get("status") or {}).get("conditions") or []


def _fill_times(conditions: list[Object], old: list[Object], now: str) -> None:
    """Fill in the times that a client leaves out: a status that was there before has lasted since then."""
    for condition in conditions:
        if not condition.get("lastUpdateTime"):
            condition["lastUpdateTime"] = now
        if not condition.get("lastTransitionTime"):
            same = (c for c in old if all(c.get(key) == condition.get(key) for key in ("type", "status")))
            since = next((c["lastTransitionTime"] for c in same if c.get("lastTransitionTime")), now)
            condition["lastTransitionTime"] = since
