"""Claims for devices: access as an administrator is for namespaces that are labelled for it.

Who writes a claim's status may allocate only with a right on ``resourceclaims/binding``, and report devices of a driver
only with one on ``resourceclaims/driver``, by the driver's name. Source: KEP-5018 (DRA admin access), KEP-4817.
"""

from __future__ import annotations

from tiphys.api import fielderrors
from tiphys.api.fielderrors import FieldError
from tiphys.api.meta.names import dns1123_subdomain
from tiphys.api.object import Object
from tiphys.api.scheme import GroupKind, GroupVersionKind
from tiphys.apiserver.authn.serviceaccounts import NODE_NAME as NODE_NAME_KEY
from tiphys.apiserver.authn.serviceaccounts import split_name
from tiphys.apiserver.authz.authorizer import Access, Authorizer, refuse
from tiphys.apiserver.call import User
from tiphys.apiserver.registry.registries import Registries
from tiphys.apiserver.registry.strategy import Finish, Strategy, Write, keep
from tiphys.validation.shared.common import equal

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

    def __init__(self, gvk: GroupVersionKind, registries: Registries, authorizer: Authorizer) -> None:
        super().__init__(gvk, registries)
        self._authorizer = authorizer

    def validate_create(self, obj: Object, write: Write) -> list[FieldError]:
        own = super().validate_create(obj, write)
        return self._of_requests(obj.get("spec") or {}, write.namespace) + own

    async def begin_status_update(self, new: Object, old: Object, write: Write) -> Finish:
        status, kept = new.get("status") or {}, old.get("status") or {}
        write.denied = []
        if not all(equal(status.get(name), kept.get(name)) for name in ("allocation", "reservedFor")):
            what = "changing status.allocation or status.reservedFor"
            if denied := await self._denied(write, (write.verb,), "binding"):
                write.denied.append(_forbidden("status.allocation", what, "binding", write.verb, denied))
        if status.get("allocation") is not None:
            await self._check_drivers(status, kept, write)
        return keep

    async def _check_drivers(self, status: Object, kept: Object, write: Write) -> None:
        verbs = driver_verbs(write.user, node_of_allocation(status["allocation"]), write.verb)
        for driver in sorted(changed_drivers(status, kept)):
            if denied := await self._denied(write, verbs, "driver", write.namespace, driver):
                shown = f"[{' '.join(verbs)}]"
                write.denied.append(_forbidden("status.devices", "changing status.devices", "driver", shown, denied))

    async def _denied(
        self, write: Write, verbs: tuple[str, ...], subresource: str, namespace: str = "", name: str = ""
    ) -> str:
        """Why the user may do none of ``verbs``; empty if they may do one."""
        version = write.version.rpartition("/")[2]
        asked = Access(write.user, "", self.gvk.group, version, "resourceclaims", subresource, namespace, name)
        refusals = []
        for verb in verbs:
            access = asked._replace(verb=verb)
            decision = await self._authorizer.authorize(access)
            if decision.allowed:
                return ""
            refusals.append(refuse(access, decision).message)
        return refusals[0]

    def validate_status_update(self, new: Object, old: Object, write: Write) -> list[FieldError]:
        own = write.denied + super().validate_status_update(new, old, write)
        if any(result.get("adminAccess") for result in _results(old)):
            return own
        return self._admin_errors(_results(new), "status.allocation.devices.results", write.namespace) + own


class ClaimTemplateStrategy(_DeviceStrategy):
    def validate_create(self, obj: Object, write: Write) -> list[FieldError]:
        own = super().validate_create(obj, write)
        return self._of_requests((obj.get("spec") or {}).get("spec") or {}, write.namespace) + own


def device_strategies(registries: Registries, authorizer: Authorizer) -> dict[GroupKind, Strategy]:
    group = "resource.k8s.io"
    return {
        GroupKind(group, "ResourceClaim"): ClaimStrategy(
            GroupVersionKind(group, "v1", "ResourceClaim"), registries, authorizer
        ),
        GroupKind(group, "ResourceClaimTemplate"): ClaimTemplateStrategy(
            GroupVersionKind(group, "v1", "ResourceClaimTemplate"), registries
        ),
    }


def changed_drivers(status: Object, kept: Object) -> set[str]:
    """The drivers whose devices a status adds, removes or changes."""
    before = {_device_key(device): device for device in kept.get("devices") or ()}
    changed = set()
    for device in status.get("devices") or ():
        if not equal(before.pop(_device_key(device), None), device):
            changed.add(device.get("driver", ""))
    return changed | {device.get("driver", "") for device in before.values()}


def _device_key(device: Object) -> tuple[str, ...]:
    return tuple(device.get(name) or "" for name in ("driver", "pool", "device", "shareID"))


def node_of_allocation(allocation: Object) -> str:
    """The one node that an allocation is for; empty if it is for any or for several."""
    terms = (allocation.get("nodeSelector") or {}).get("nodeSelectorTerms") or []
    if len(terms) != 1 or terms[0].get("matchExpressions"):
        return ""
    match terms[0].get("matchFields"):
        case [{"key": "metadata.name", "operator": "In", "values": [name]}]:
            return str(name)
    return ""


def driver_verbs(user: User, node: str, verb: str) -> tuple[str, ...]:
    """Of which one is needed to write device status: for any node, or, for an account on the allocated node, for it."""
    anywhere = f"arbitrary-node:{verb}"
    is_there = bool(node) and split_name(user.name) is not None and user.extra_values(NODE_NAME_KEY) == (node,)
    return (f"associated-node:{verb}", anywhere) if is_there and not dns1123_subdomain(node) else (anywhere,)


def _forbidden(path: str, what: str, subresource: str, verbs: str, denied: str) -> FieldError:
    needed = f'resource="resourceclaims/{subresource}", verb="{verbs}" permission'
    return fielderrors.forbidden(path, f"{what} requires {needed}: {denied}")


def _results(claim: Object) -> list[Object]:
    allocation = (claim.get("status") or {}).get("allocation") or {}
    results: list[Object] = (allocation.get("devices") or {}).get("results") or []
    return results
