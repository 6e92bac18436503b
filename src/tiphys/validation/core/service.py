"""Validation of Service.

Addresses, node ports and IP families that the server chooses are already set when an object gets here; whether they
are free and in range is for the allocators.

Source: https://kubernetes.io/docs/reference/kubernetes-api/service-resources/service-v1/
"""

from __future__ import annotations

from typing import Any

from tiphys.api import fielderrors as field
from tiphys.api.meta import names
from tiphys.api.meta.addresses import parse_sloppy
from tiphys.api.object import Object
from tiphys.validation.core.endpoints import endpoint_ip
from tiphys.validation.pods.probes import port_number_or_name, protocol
from tiphys.validation.shared.common import (
    Errors,
    invalid_all,
    label,
    labels,
    name_is_label,
    qualified,
    subdomain,
)
from tiphys.validation.shared.ip import dual_stack, is_ipv6, legacy_cidr, legacy_ip
from tiphys.validation.shared.objectmeta import meta_of, validate_meta, validate_meta_update

_TYPES = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
_ROUTED = ("ClusterIP", "NodePort", "LoadBalancer")
_POLICIES = ("Cluster", "Local")
_FAMILIES = ("IPv4", "IPv6")
_FAMILY_POLICIES = ("PreferDualStack", "RequireDualStack", "SingleStack")
_DISTRIBUTIONS = ("PreferClose", "PreferSameZone", "PreferSameNode")
_HINTS = "service.kubernetes.io/topology-aware-hints"
_MODE = "service.kubernetes.io/topology-mode"
_RANGES = "service.beta.kubernetes.io/load-balancer-source-ranges"
_MAX_AFFINITY = 86400
_CHANGED = "may not change once set"
_ONE_PER_FAMILY = "may specify no more than one IP for each IP family"


def validate_service(obj: Object) -> Errors:
    errs: Errors = []
    validate_meta(errs, obj, namespaced=True, name_check=name_is_label)
    _service(errs, obj, None)
    return errs


def validate_service_update(new: Object, old: Object) -> Errors:
    errs: Errors = []
    validate_meta_update(errs, new, old)
    after, before = new.get("spec") or {}, old.get("spec") or {}
    if "ExternalName" not in (after.get("type"), before.get("type")):
        _cluster_ips_kept(errs, after, before)
        _families_kept(errs, after, before)
    _load_balancer_class(errs, after, before)
    moved = (after.get("healthCheckNodePort") or 0) != (before.get("healthCheckNodePort") or 0)
    if moved and _needs_health_check(before) and _needs_health_check(after):
        errs.append(field.forbidden("spec.healthCheckNodePort", "field is immutable"))
    _service(errs, new, old)
    return errs


def _headless(spec: Object) -> bool:
    return (spec.get("clusterIPs") or []) == ["None"]


def externally_accessible(spec: Object) -> bool:
    kind = spec.get("type")
    return kind in ("LoadBalancer", "NodePort") or (kind == "ClusterIP" and bool(spec.get("externalIPs")))


def _needs_health_check(spec: Object) -> bool:
    return spec.get("type") == "LoadBalancer" and spec.get("externalTrafficPolicy") == "Local"


def _service(errs: Errors, obj: Object, old: Object | None) -> None:
    """Validate a Service; ``old`` allows addresses that it has already. Appends to ``errs``."""
    spec, old_spec = obj.get("spec") or {}, (old or {}).get("spec") or {}
    annotations = meta_of(obj).get("annotations") or {}
    kind, headless, ports = spec.get("type") or "", _headless(spec), spec.get("ports") or []
    if _HINTS in annotations and _MODE in annotations and annotations[_HINTS] != annotations[_MODE]:
        text = f"must match annotations[{_HINTS}] when both are specified"
        errs.append(field.invalid(f"metadata.annotations[{_MODE}]", annotations[_MODE], text))
    if not ports and not headless and kind != "ExternalName":
        errs.append(field.required("spec.ports"))
    _by_type(errs, spec, kind, headless=headless)
    _ports(errs, ports)
    labels(errs, spec.get("selector"), "spec.selector")
    _session_affinity(errs, spec)
    if kind != "ExternalName":
        _cluster_ips(errs, spec, old_spec, headless=headless)
    existing = old_spec.get("externalIPs") or ()
    for i, ip in enumerate(spec.get("externalIPs") or ()):
        if legacy_ip(errs, ip, f"spec.externalIPs[{i}]", existing):
            endpoint_ip(errs, ip, f"spec.externalIPs[{i}]")
    if not kind:
        errs.append(field.required("spec.type"))
    elif kind not in _TYPES:
        errs.append(field.not_supported("spec.type", kind, _TYPES))
    _port_numbers(errs, ports, kind)
    _source_ranges(errs, spec, annotations, old)
    if spec.get("allocateLoadBalancerNodePorts") is not None:
        if kind != "LoadBalancer":
            text = "may only be used when `type` is 'LoadBalancer'"
            errs.append(field.forbidden("spec.allocateLoadBalancerNodePorts", text))
    elif kind == "LoadBalancer":
        errs.append(field.required("allocateLoadBalancerNodePorts"))
    _load_balancer_class(errs, spec, None)
    _traffic(errs, spec, kind)


def _by_type(errs: Errors, spec: Object, kind: str, *, headless: bool) -> None:
    if kind in ("LoadBalancer", "NodePort"):
        if headless:
            errs.append(field.invalid("spec.clusterIPs[0]", "None", f"may not be set to 'None' for {kind} services"))
    elif kind == "ExternalName":
        text = "may not be set for ExternalName services"
        for key in ("clusterIPs", "ipFamilies"):
            if spec.get(key):
                errs.append(field.forbidden(f"spec.{key}", text))
        if spec.get("ipFamilyPolicy") is not None:
            errs.append(field.forbidden("spec.ipFamilyPolicy", text))
        name = (spec.get("externalName") or "").removesuffix(".")
        if name:
            subdomain(errs, name, "spec.externalName")
        else:
            errs.append(field.required("spec.externalName"))


def _ports(errs: Errors, ports: list[Object]) -> None:
    seen: set[str] = set()
    for i, port in enumerate(ports):
        at, name, number = f"spec.ports[{i}]", port.get("name"), port.get("port") or 0
        if name:
            label(errs, name, f"{at}.name")
            if name in seen:
                errs.append(field.duplicate(f"{at}.name", name))
            seen.add(name)
        elif len(ports) > 1:
            errs.append(field.required(f"{at}.name"))
        invalid_all(errs, f"{at}.port", number, names.port_number(number))
        protocol(errs, port.get("protocol"), f"{at}.protocol")
        port_number_or_name(errs, port.get("targetPort", 0), f"{at}.targetPort")
        if port.get("appProtocol") is not None:
            qualified(errs, port["appProtocol"], f"{at}.appProtocol")


def _port_numbers(errs: Errors, ports: list[Object], kind: str) -> None:
    """Validate that ports and node ports are unique; appends to ``errs``."""
    if kind == "ClusterIP":
        for i, port in enumerate(ports):
            if port.get("nodePort"):
                text = "may not be used when `type` is 'ClusterIP'"
                errs.append(field.forbidden(f"spec.ports[{i}].nodePort", text))
    node_ports: set[tuple[Any, int]] = set()
    for i, port in enumerate(ports):
        if number := port.get("nodePort"):
            if (port.get("protocol"), number) in node_ports:
                errs.append(field.duplicate(f"spec.ports[{i}].nodePort", number))
            node_ports.add((port.get("protocol"), number))
    seen: set[tuple[Any, int]] = set()
    for i, port in enumerate(ports):
        key = (port.get("protocol") or "", port.get("port") or 0)
        if key in seen:
            shown = {
                "Name": "",
                "Protocol": key[0],
                "AppProtocol": None,
                "Port": key[1],
                "TargetPort": 0,
                "NodePort": 0,
            }
            errs.append(field.duplicate(f"spec.ports[{i}]", shown))
        seen.add(key)


def _session_affinity(errs: Errors, spec: Object) -> None:
    """Validate the session affinity and its timeout in seconds; appends to ``errs``."""
    affinity, config, at = spec.get("sessionAffinity"), spec.get("sessionAffinityConfig"), "spec.sessionAffinityConfig"
    if not affinity:
        errs.append(field.required("spec.sessionAffinity"))
    elif affinity not in ("ClientIP", "None"):
        errs.append(field.not_supported("spec.sessionAffinity", affinity, ("ClientIP", "None")))
    if affinity == "None":
        if config is not None:
            errs.append(field.forbidden(at, "must not be set when session affinity is None"))
        return
    if affinity != "ClientIP":
        return
    text = "when session affinity type is ClientIP"
    if config is None:
        errs.append(field.required(at, text))
    elif config.get("clientIP") is None:
        errs.append(field.required(f"{at}.clientIP", text))
    else:
        seconds = config["clientIP"].get("timeoutSeconds")
        if seconds is None:
            errs.append(field.required(f"{at}.clientIP.timeoutSeconds", text))
        elif not 0 < seconds <= _MAX_AFFINITY:
            text = f"must be greater than 0 and less than {_MAX_AFFINITY}"
            errs.append(field.invalid(f"{at}.clientIP.timeoutSeconds", seconds, text))


def cluster_ip_fields(spec: Object, old: Object) -> Errors:
    """What of addresses and families can be judged before any are allocated."""
    errs: Errors = []
    if spec.get("type") != "ExternalName":
        _cluster_ips(errs, spec, old, headless=_headless(spec))
    return errs


def _cluster_ips(errs: Errors, spec: Object, old: Object, *, headless: bool) -> None:
    """Validate cluster IPs: one per family, the first in ``clusterIP`` too. Appends to ``errs``."""
    ips, families, at = spec.get("clusterIPs") or [], spec.get("ipFamilies") or [], "spec.clusterIPs"
    first = spec.get("clusterIP")
    if first:
        if not ips:
            errs.append(field.required(at))
        elif ips[0] != first:
            errs.append(field.invalid(at, ips, "first value must match `clusterIP`"))
    elif ips:
        errs.append(field.invalid(at, ips, "must be empty when `clusterIP` is not specified"))
    _families(errs, spec, families)
    bad = False
    for i, ip in enumerate(ips):
        if i == 0 and ip == "None":
            if len(ips) > 1:
                bad = True
                errs.append(field.invalid(at, ips, "'None' must be the first and only value"))
            continue
        if not legacy_ip(errs, ip, f"{at}[{i}]", old.get("clusterIPs") or ()):
            bad = True
    if len(ips) > 2:
        errs.append(field.invalid(at, ips, "may only hold up to 2 values"))
    if bad:
        return
    if len(ips) > 1 and not dual_stack(ips):
        errs.append(field.invalid(at, ips, _ONE_PER_FAMILY))
    if headless:
        return
    for i, (ip, family) in enumerate(zip(ips, families, strict=False)):
        if family in _FAMILIES and is_ipv6(ip) != (family == "IPv6"):
            text = f"expected an {family} value as indicated by `ipFamilies[{i}]`"
            errs.append(field.invalid(f"{at}[{i}]", ip, text))


def _families(errs: Errors, spec: Object, families: list[str]) -> None:
    seen: set[str] = set()
    for i, family in enumerate(families):
        if family not in _FAMILIES:
            errs.append(field.not_supported(f"spec.ipFamilies[{i}]", family, _FAMILIES))
        if family in seen:
            errs.append(field.duplicate(f"spec.ipFamilies[{i}]", family))
        seen.add(family)
    policy = spec.get("ipFamilyPolicy")
    if policy is not None and policy not in _FAMILY_POLICIES:
        errs.append(field.not_supported("spec.ipFamilyPolicy", policy, _FAMILY_POLICIES))


def _source_ranges(errs: Errors, spec: Object, annotations: dict[str, str], old: Object | None) -> None:
    only = "may only be used when `type` is 'LoadBalancer'"
    kind, ranges = spec.get("type"), spec.get("loadBalancerSourceRanges") or []
    if ranges:
        at = "spec.LoadBalancerSourceRanges"
        if kind != "LoadBalancer":
            errs.append(field.forbidden(at, only))
        old_ranges = ((old or {}).get("spec") or {}).get("loadBalancerSourceRanges") or ()
        existing = [value.strip() for value in old_ranges]
        for i, value in enumerate(ranges):
            legacy_cidr(errs, value.strip(), f"{at}[{i}]", existing)
    elif _RANGES in annotations:
        at, text = f"metadata.annotations[{_RANGES}]", annotations[_RANGES]
        if kind != "LoadBalancer":
            errs.append(field.forbidden(at, only))
        if old is None or (meta_of(old).get("annotations") or {}).get(_RANGES) != text:
            for value in text.strip().split(",") if text.strip() else ():
                legacy_cidr(errs, value.strip(), at)


def _load_balancer_class(errs: Errors, spec: Object, old: Object | None) -> None:
    chosen, at = spec.get("loadBalancerClass"), "spec.loadBalancerClass"
    both = old is not None and spec.get("type") == old.get("type") == "LoadBalancer"
    if both and old is not None and chosen != old.get("loadBalancerClass"):
        errs.append(field.invalid(at, chosen, _CHANGED))
    if chosen is None:
        return
    if spec.get("type") == "LoadBalancer":
        qualified(errs, chosen, at)
    else:
        errs.append(field.forbidden(at, "may only be used when `type` is 'LoadBalancer'"))


def _traffic(errs: Errors, spec: Object, kind: str) -> None:
    """Validate traffic policies, health check port and distribution; appends to ``errs``."""
    policy, at = spec.get("externalTrafficPolicy"), "spec.externalTrafficPolicy"
    if not externally_accessible(spec):
        if policy:
            errs.append(field.invalid(at, policy, "may only be set for externally-accessible services"))
    elif not policy:
        errs.append(field.required(at))
    elif policy not in _POLICIES:
        errs.append(field.not_supported(at, policy, _POLICIES))
    port, at = spec.get("healthCheckNodePort"), "spec.healthCheckNodePort"
    if not _needs_health_check(spec):
        if port:
            text = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"
            errs.append(field.invalid(at, port, text))
    elif not port:
        errs.append(field.required(at))
    else:
        invalid_all(errs, at, port, names.port_number(port))
    internal, at = spec.get("internalTrafficPolicy"), "spec.internalTrafficPolicy"
    if internal is None:
        if kind in _ROUTED:
            errs.append(field.required(at))
    elif internal not in _POLICIES:
        errs.append(field.not_supported(at, internal, _POLICIES))
    distribution = spec.get("trafficDistribution")
    if distribution is not None and distribution not in _DISTRIBUTIONS:
        errs.append(field.not_supported("spec.trafficDistribution", distribution, _DISTRIBUTIONS))


def _cluster_ips_kept(errs: Errors, new: Object, old: Object) -> None:
    """The primary address stays; a secondary one can be had and given back."""
    if _headless(old) and _headless(new):
        return
    after, before = new.get("clusterIPs") or [], old.get("clusterIPs") or []
    at = "spec.clusterIPs"
    if len(before) == len(after):
        for i, ip in enumerate(before):
            if ip != after[i]:
                errs.append(field.invalid(f"{at}[{i}]", after, _CHANGED))
        return
    if not after:
        errs.append(field.invalid(f"{at}[0]", None, "primary clusterIP can not be unset"))
    elif before and after[0] != before[0]:
        errs.append(field.invalid(f"{at}[0]", after, _CHANGED))
    if len(before) > len(after) == 1 and new.get("ipFamilyPolicy") != "SingleStack":
        text = "must be set to 'SingleStack' when releasing the secondary clusterIP"
        errs.append(field.invalid("spec.ipFamilyPolicy", new.get("ipFamilyPolicy"), text))


def _families_kept(errs: Errors, new: Object, old: Object) -> None:
    if _headless(new) or _headless(old):
        return
    after, before = new.get("ipFamilies") or [], old.get("ipFamilies") or []
    ips, at = new.get("clusterIPs") or None, "spec.ipFamilies[0]"
    if len(before) == len(after):
        errs.extend(field.invalid(at, after, _CHANGED) for i, family in enumerate(before) if family != after[i])
        return
    if len(before) > len(after) and not ips:
        errs.append(field.invalid(at, after or None, "primary ipFamily can not be unset"))
    if after and before and after[0] != before[0]:
        errs.append(field.invalid(at, ips, _CHANGED))
    if len(before) > len(after) == 1 and new.get("ipFamilyPolicy") != "SingleStack":
        text = "must be set to 'SingleStack' when releasing the secondary ipFamily"
        errs.append(field.invalid("spec.ipFamilyPolicy", new.get("ipFamilyPolicy"), text))


def validate_service_status_update(new: Object, old: Object) -> Errors:
    errs: Errors = []
    validate_meta_update(errs, new, old)
    after = (new.get("status") or {}).get("loadBalancer") or {}
    before = (old.get("status") or {}).get("loadBalancer") or {}
    ingress = after.get("ingress") or []
    at = "status.loadBalancer.ingress"
    if (new.get("spec") or {}).get("type") != "LoadBalancer" and ingress:
        errs.append(field.forbidden(at, "may only be used when `spec.type` is 'LoadBalancer'"))
        return errs
    existing = [entry["ip"] for entry in before.get("ingress") or () if entry.get("ip")]
    for i, entry in enumerate(ingress):
        _ingress(errs, entry, existing, f"{at}[{i}]")
    return errs


def _ingress(errs: Errors, entry: Object, existing: list[str], path: str) -> None:
    ip, mode = entry.get("ip"), entry.get("ipMode")
    if ip:
        legacy_ip(errs, ip, f"{path}.ip", existing)
    if mode is None:
        if ip:
            errs.append(field.required(f"{path}.ipMode", "must be specified when `ip` is set"))
    elif not ip:
        errs.append(field.forbidden(f"{path}.ipMode", "may not be specified when `ip` is not set"))
    elif mode not in ("Proxy", "VIP"):
        errs.append(field.not_supported(f"{path}.ipMode", mode, ("Proxy", "VIP")))
    load_balancer_host(errs, entry.get("hostname"), f"{path}.hostname")


def load_balancer_host(errs: Errors, name: str | None, path: str) -> None:
    if name:
        subdomain(errs, name, path)
        if parse_sloppy(name) is not None:
            errs.append(field.invalid(path, name, "must be a DNS name, not an IP address"))
