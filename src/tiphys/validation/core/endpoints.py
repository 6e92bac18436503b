"""Validation of Endpoints, and of the addresses that traffic may be sent to.

Source: https://kubernetes.io/docs/reference/generated/kubernetes-api/v1.36/#endpoints-v1-core
"""

from __future__ import annotations

from tiphys.api import fielderrors as field
from tiphys.api.meta import names
from tiphys.api.meta.addresses import parse_sloppy
from tiphys.api.object import Object
from tiphys.validation.pods.probes import protocol
from tiphys.validation.shared.common import (
    Errors,
    equal,
    invalid_all,
    label,
    name_is_subdomain,
    qualified,
)
from tiphys.validation.shared.ip import legacy_ip
from tiphys.validation.shared.objectmeta import validate_meta, validate_meta_update


def validate_endpoints(obj: Object) -> Errors:
    errs: Errors = []
    _endpoints(errs, obj, None)
    return errs


def validate_endpoints_update(new: Object, old: Object) -> Errors:
    errs: Errors = []
    validate_meta_update(errs, new, old)
    _endpoints(errs, new, old)
    return errs


def _endpoints(errs: Errors, obj: Object, old: Object | None) -> None:
    validate_meta(errs, obj, namespaced=True)
    problems: Errors = []
    subsets = obj.get("subsets") or []
    for i, subset in enumerate(subsets):
        _subset(problems, subset, f"subsets[{i}]")
    # What was stored before a rule was tightened may stay as it is.
    if problems and not (old is not None and equal(old.get("subsets") or [], subsets)):
        errs.extend(problems)


def _subset(errs: Errors, subset: Object, path: str) -> None:
    if not subset.get("addresses") and not subset.get("notReadyAddresses"):
        errs.append(field.required(path, "must specify `addresses` or `notReadyAddresses`"))
    for key in ("addresses", "notReadyAddresses"):
        for i, address in enumerate(subset.get(key) or ()):
            _address(errs, address, f"{path}.{key}[{i}]")
    ports = subset.get("ports") or []
    for i, port in enumerate(ports):
        _port(errs, port, require_name=len(ports) > 1, path=f"{path}.ports[{i}]")


def _address(errs: Errors, address: Object, path: str) -> None:
    ip, host, node = address.get("ip") or "", address.get("hostname"), address.get("nodeName")
    legacy_ip(errs, ip, f"{path}.ip")
    if host:
        label(errs, host, f"{path}.hostname")
    if node is not None:
        invalid_all(errs, f"{path}.nodeName", node, name_is_subdomain(node))
    endpoint_ip(errs, ip, f"{path}.ip")


def endpoint_ip(errs: Errors, text: str, path: str) -> None:
    """Not an address that means the node itself, or nothing."""
    ip = parse_sloppy(text)
    if ip is None:
        errs.append(field.invalid(path, text, "must be a valid IP address"))
        return
    mapped = getattr(ip, "ipv4_mapped", None)
    ip = mapped or ip
    if ip.is_unspecified:
        errs.append(field.invalid(path, text, f"may not be unspecified ({text})"))
    if ip.is_loopback:
        errs.append(field.invalid(path, text, "may not be in the loopback range (127.0.0.0/8, ::1/128)"))
    if ip.is_link_local:
        errs.append(field.invalid(path, text, "may not be in the link-local range (169.254.0.0/16, fe80::/10)"))
    if ip.packed[:3] == b"\xe0\x00\x00" if ip.version == 4 else ip.packed[0] == 0xFF and ip.packed[1] & 15 == 2:
        text_ = "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"
        errs.append(field.invalid(path, text, text_))


def _port(errs: Errors, port: Object, path: str, *, require_name: bool) -> None:
    name, number = port.get("name"), port.get("port") or 0
    if name:
        label(errs, name, f"{path}.name")
    elif require_name:
        errs.append(field.required(f"{path}.name"))
    invalid_all(errs, f"{path}.port", number, names.port_number(number))
    protocol(errs, port.get("protocol"), f"{path}.protocol")
    if port.get("appProtocol") is not None:
        qualified(errs, port["appProtocol"], f"{path}.appProtocol")
