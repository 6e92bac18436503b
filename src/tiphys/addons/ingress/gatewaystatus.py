"""The statuses of Gateway API's objects (pure).

Source: https://gateway-api.sigs.k8s.io/reference/spec/
"""

from __future__ import annotations

from collections.abc import Sequence

from tiphys.addons.ingress.gateways import CONTROLLER, GROUP, Listener, ReadGateway, ReadRoute
from tiphys.api.meta.conditions import set_condition
from tiphys.api.meta.timestamps import format_time
from tiphys.api.object import Object

Said = tuple[bool, str, str]
"""Whether a condition holds, the reason and the message."""


def class_status(obj: Object, now: float) -> Object:
    return {"conditions": _conditions(obj, obj.get("status") or {}, {"Accepted": (True, "Accepted", "")}, now)}


def gateway_status(gateway: ReadGateway, addresses: Sequence[str], now: float) -> Object:
    """Of the Gateway and of each of its listeners."""
    status = gateway.obj.get("status") or {}
    served = [listener for listener in gateway.listeners if listener.problem is None]
    accepted: Said = (True, "Accepted", "")
    if len(served) < len(gateway.listeners):
        accepted = (bool(served), "ListenersNotValid", "some listeners are not served; see their conditions")
    programmed: Said = (True, "Programmed", "")
    if not addresses:
        programmed = (False, "AddressNotAssigned", "the Service kube-system/tiphys-ingress has no address yet")
    elif not served:
        programmed = (False, "Invalid", "no listener is served")
    before = {entry["name"]: entry for entry in status.get("listeners") or ()}
    return {
        "addresses": [{"type": "IPAddress", "value": address} for address in addresses],
        "conditions": _conditions(gateway.obj, status, {"Accepted": accepted, "Programmed": programmed}, now),
        "listeners": [
            _listener(gateway.obj, listener, before.get(listener.name) or {}, now) for listener in gateway.listeners
        ],
    }


def _listener(gateway: Object, listener: Listener, before: Object, now: float) -> Object:
    accepted: Said = (True, "Accepted", "")
    resolved: Said = (True, "ResolvedRefs", "")
    if listener.problem is not None:
        accepted = (False, *listener.problem)
    if listener.certificate_problem:
        resolved = (False, "InvalidCertificateRef", listener.certificate_problem)
    well = accepted[0] and resolved[0]
    programmed: Said = (True, "Programmed", "") if well else (False, "Invalid", "")
    said = {"Accepted": accepted, "Programmed": programmed, "ResolvedRefs": resolved}
    return {
        "name": listener.name,
        "supportedKinds": [{"group": GROUP, "kind": "HTTPRoute"}],
        "attachedRoutes": listener.attached,
        "conditions": _conditions(gateway, before, said, now),
    }


def route_status(route: ReadRoute, now: float) -> Object:
    """Of each parent of ours, beside what other controllers say of theirs."""
    shown = (route.obj.get("status") or {}).get("parents") or []
    others = [entry for entry in shown if entry.get("controllerName") != CONTROLLER]
    before = [entry for entry in shown if entry.get("controllerName") == CONTROLLER]
    mine = []
    for result in route.parents:
        known: Object = next((entry for entry in before if entry.get("parentRef") == result.reference), {})
        said = {"Accepted": result.accepted, "ResolvedRefs": result.resolved}
        conditions = _conditions(route.obj, known, said, now)
        mine.append({"parentRef": result.reference, "controllerName": CONTROLLER, "conditions": conditions})
    return {"parents": [*others, *mine]}


def _conditions(obj: Object, before: Object, said: dict[str, Said], now: float) -> list[Object]:
    conditions = [dict(entry) for entry in before.get("conditions") or ()]
    for kind, (holds, reason, message) in said.items():
        new = {"type": kind, "status": "True" if holds else "False", "reason": reason, "message": message}
        new["observedGeneration"] = obj["metadata"].get("generation", 1)
        set_condition(conditions, new, format_time(now))
    return conditions
