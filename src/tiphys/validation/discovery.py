"""Validation of the discovery.k8s.io group, v1.

Source: https://kubernetes.io/docs/reference/generated/kubernetes-api/v1.36/#endpointslice-v1-discovery-k8s-io
"""

from __future__ import annotations

from tiphys.api import fielderrors as field
from tiphys.api.meta import names
from tiphys.api.object import Object
from tiphys.validation.core.endpoints import endpoint_ip
from tiphys.validation.shared.common import (
    Errors,
    equal,
    fully_qualified_domain,
    immutable,
    invalid_all,
    label,
    labels,
    name_is_subdomain,
    one_of,
    qualified,
)
from tiphys.validation.shared.ip import ip, is_ipv6, legacy_ip
from tiphys.validation.shared.objectmeta import validate_meta

_ADDRESS_TYPES = ("FQDN", "IPv4", "IPv6")
_MAX_ADDRESSES = 100
_MAX_PORTS = 20000
_MAX_ENDPOINTS = 1000
_MAX_HINTS = 8
_MAX_TOPOLOGY = 16


def validate_slice(obj: Object) -> Errors:
    errs: Errors = []
    _slice(errs, obj, None)
    return errs


def validate_slice_update(new: Object, old: Object) -> Errors:
    errs: Errors = []
    _slice(errs, new, old)
    immutable(errs, new.get("addressType") or "", old.get("addressType") or "", "addressType")
    return errs


def _slice(errs: Errors, obj: Object, old: Object | None) -> None:
    validate_meta(errs, obj, namespaced=True)
    kind = obj.get("addressType") or ""
    if not kind:
        errs.append(field.required("addressType"))
    elif kind not in _ADDRESS_TYPES:
        errs.append(field.not_supported("addressType", kind, _ADDRESS_TYPES))
    _ports(errs, obj.get("ports") or [])
    problems: Errors = []
    endpoints = obj.get("endpoints") or []
    if len(endpoints) > _MAX_ENDPOINTS:
        problems.append(field.too_many("endpoints", len(endpoints), _MAX_ENDPOINTS))
    else:
        for i, endpoint in enumerate(endpoints):
            _endpoint(problems, endpoint, kind, f"endpoints[{i}]")
    # What was stored before a rule was tightened may stay as it is.
    if problems and not (old is not None and equal(old.get("endpoints") or [], endpoints)):
        errs.extend(problems)


def _ports(errs: Errors, ports: list[Object]) -> None:
    if len(ports) > _MAX_PORTS:
        errs.append(field.too_many("ports", len(ports), _MAX_PORTS))
        return
    seen: set[str] = set()
    for i, port in enumerate(ports):
        at, name = f"ports[{i}]", port.get("name") or ""
        if name:
            label(errs, name, f"{at}.name")
        if name in seen:
            errs.append(field.duplicate(f"{at}.name", name))
        seen.add(name)
        if port.get("protocol") is None:
            errs.append(field.required(f"{at}.protocol"))
        else:
            one_of(errs, port["protocol"], f"{at}.protocol", ("SCTP", "TCP", "UDP"))
        if port.get("appProtocol") is not None:
            qualified(errs, port["appProtocol"], f"{at}.appProtocol")


def _endpoint(errs: Errors, endpoint: Object, kind: str, path: str) -> None:
    addresses, at = endpoint.get("addresses") or [], f"{path}.addresses"
    if not addresses:
        errs.append(field.required(at, "must contain at least 1 address"))
    elif len(addresses) > _MAX_ADDRESSES:
        errs.append(field.too_many(at, len(addresses), _MAX_ADDRESSES))
    for i, address in enumerate(addresses):
        _address(errs, address, kind, at, f"{at}[{i}]")
    node, topology = endpoint.get("nodeName"), endpoint.get("deprecatedTopology") or {}
    if node is not None:
        invalid_all(errs, f"{path}.nodeName", node, name_is_subdomain(node))
    if len(topology) > _MAX_TOPOLOGY:
        errs.append(field.too_many(f"{path}.deprecatedTopology", len(topology), _MAX_TOPOLOGY))
    labels(errs, topology, f"{path}.deprecatedTopology")
    if endpoint.get("hostname") is not None:
        label(errs, endpoint["hostname"], f"{path}.hostname")
    if endpoint.get("hints") is not None:
        _hints(errs, endpoint["hints"], f"{path}.hints")


def _address(errs: Errors, address: str, kind: str, addresses: str, path: str) -> None:
    if kind == "FQDN":
        fully_qualified_domain(errs, address, path)
        return
    before = len(errs)
    if kind == "IPv4":
        legacy_ip(errs, address, path)
    elif kind == "IPv6":
        ip(errs, address, path)
    else:
        return
    if len(errs) == before:
        if is_ipv6(address) != (kind == "IPv6"):
            errs.append(field.invalid(addresses, address, f"must be an {kind} address"))
        endpoint_ip(errs, address, path)


def _hints(errs: Errors, hints: Object, path: str) -> None:
    for key, check in (("forZones", names.label_value), ("forNodes", name_is_subdomain)):
        zones = hints.get(key) or []
        if len(zones) > _MAX_HINTS:
            errs.append(field.too_many(f"{path}.{key}", len(zones), _MAX_HINTS))
            return
        seen: set[str] = set()
        for i, hint in enumerate(zones):
            name, at = hint.get("name") or "", f"{path}.{key}[{i}].name"
            if name in seen:
                errs.append(field.duplicate(at, name))
            seen.add(name)
            invalid_all(errs, at, name, check(name))
