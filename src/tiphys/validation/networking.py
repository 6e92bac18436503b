"""Validation of the networking.k8s.io group, v1.

Source: https://kubernetes.io/docs/reference/generated/kubernetes-api/v1.36/#networkpolicy-v1-networking-k8s-io
"""

from __future__ import annotations

from collections.abc import Iterable

from tiphys.api import fielderrors as field
from tiphys.api.meta import names
from tiphys.api.meta.addresses import parse_cidr_sloppy, parse_sloppy
from tiphys.api.object import Object
from tiphys.validation.core.service import load_balancer_host
from tiphys.validation.shared.common import (
    IMMUTABLE,
    Errors,
    domain_prefixed_path,
    immutable,
    invalid_all,
    label_selector,
    name_is_label,
    name_is_subdomain,
    path_segment,
    subdomain,
)
from tiphys.validation.shared.ip import cidr, ip, is_ipv6, legacy_cidr, legacy_ip
from tiphys.validation.shared.objectmeta import meta_of, validate_meta, validate_meta_update

_PROTOCOLS = ("TCP", "UDP", "SCTP")
_PATH_TYPES = ("Exact", "ImplementationSpecific", "Prefix")
_BAD_SEQUENCES = ("//", "/./", "/../", "%2f", "%2F")
_BAD_SUFFIXES = ("/..", "/.")
_CLASS_ANNOTATION = "kubernetes.io/ingress.class"
_MAX_CONTROLLER = 250


# NetworkPolicy


def validate_network_policy(obj: Object) -> Errors:
    errs: Errors = []
    validate_meta(errs, obj, namespaced=True)
    _policy_spec(errs, obj.get("spec") or {}, bad_values=False, existing=())
    return errs


def validate_network_policy_update(new: Object, old: Object) -> Errors:
    errs: Errors = []
    before = old.get("spec") or {}
    stored: Errors = []
    label_selector(stored, before.get("podSelector"), "")
    existing: list[str] = []
    for peer, _ in _peers(before):
        if block := peer.get("ipBlock"):
            existing += [block.get("cidr") or "", *(block.get("except") or ())]
    validate_meta_update(errs, new, old)
    _policy_spec(errs, new.get("spec") or {}, bad_values=bool(stored), existing=existing)
    return errs


def _peers(spec: Object) -> Iterable[tuple[Object, str]]:
    for direction, key in (("ingress", "from"), ("egress", "to")):
        for i, rule in enumerate(spec.get(direction) or ()):
            for j, peer in enumerate(rule.get(key) or ()):
                yield peer, f"spec.{direction}[{i}].{key}[{j}]"


def _policy_spec(errs: Errors, spec: Object, existing: Iterable[str], *, bad_values: bool) -> None:
    label_selector(errs, spec.get("podSelector"), "spec.podSelector", allow_bad_values=bad_values)
    for direction, key in (("ingress", "from"), ("egress", "to")):
        for i, rule in enumerate(spec.get(direction) or ()):
            at = f"spec.{direction}[{i}]"
            for j, port in enumerate(rule.get("ports") or ()):
                _policy_port(errs, port, f"{at}.ports[{j}]")
            for j, peer in enumerate(rule.get(key) or ()):
                _policy_peer(errs, peer, f"{at}.{key}[{j}]", bad_values=bad_values, existing=existing)
    kinds = spec.get("policyTypes") or []
    if len(kinds) > 2:
        errs.append(field.invalid("spec.policyTypes", kinds, "may not specify more than two policyTypes"))
        return
    for i, kind in enumerate(kinds):
        if kind not in ("Ingress", "Egress"):
            errs.append(field.not_supported(f"spec.policyTypes[{i}]", kind, ("Ingress", "Egress")))


def _policy_port(errs: Errors, port: Object, path: str) -> None:
    protocol, first, last = port.get("protocol"), port.get("port"), port.get("endPort")
    if protocol is not None and protocol not in _PROTOCOLS:
        errs.append(field.not_supported(f"{path}.protocol", protocol, _PROTOCOLS))
    if first is None:
        if last is not None:
            text = "may not be specified when `port` is not specified"
            errs.append(field.invalid(f"{path}.endPort", last, text))
    elif isinstance(first, str):
        if last is not None:
            text = "may not be specified when `port` is non-numeric"
            errs.append(field.invalid(f"{path}.endPort", last, text))
        invalid_all(errs, f"{path}.port", first, names.port_name(first))
    else:
        invalid_all(errs, f"{path}.port", first, names.port_number(first))
        if last is not None:
            if last < first:
                text = "must be greater than or equal to `port`"
                errs.append(field.invalid(f"{path}.endPort", first, text))
            invalid_all(errs, f"{path}.endPort", last, names.port_number(last))


def _policy_peer(errs: Errors, peer: Object, path: str, existing: Iterable[str], *, bad_values: bool) -> None:
    count = 0
    for key in ("podSelector", "namespaceSelector"):
        if peer.get(key) is not None:
            count += 1
            label_selector(errs, peer[key], f"{path}.{key}", allow_bad_values=bad_values)
    block = peer.get("ipBlock")
    if block is not None:
        count += 1
        _ip_block(errs, block, f"{path}.ipBlock", existing)
    if not count:
        errs.append(field.required(path, "must specify a peer"))
    elif count > 1 and block is not None:
        errs.append(field.forbidden(path, "may not specify both ipBlock and another peer"))


def _ip_block(errs: Errors, block: Object, path: str, existing: Iterable[str]) -> None:
    text = block.get("cidr") or ""
    if not text:
        errs.append(field.required(f"{path}.cidr"))
        return
    legacy_cidr(errs, text, f"{path}.cidr", existing)
    whole = parse_cidr_sloppy(text)
    if whole is None:
        return
    for i, excepted in enumerate(block.get("except") or ()):
        at = f"{path}.except[{i}]"
        legacy_cidr(errs, excepted, at, existing)
        part = parse_cidr_sloppy(excepted)
        if part is None:
            continue
        outer, inner = whole[1], part[1]
        if inner.network_address not in outer or outer.prefixlen >= inner.prefixlen:
            errs.append(field.invalid(at, excepted, "must be a strict subset of `cidr`"))


# Ingress


def validate_ingress(obj: Object) -> Errors:
    errs: Errors = []
    validate_meta(errs, obj, namespaced=True)
    spec = obj.get("spec") or {}
    _ingress_spec(errs, spec, bad_secret=False, bad_wildcard=False)
    annotation = (meta_of(obj).get("annotations") or {}).get(_CLASS_ANNOTATION)
    name = spec.get("ingressClassName")
    if annotation is not None and name is not None and annotation != name:
        text = "must match `ingressClassName` when both are specified"
        errs.append(field.invalid(f"annotations.{_CLASS_ANNOTATION}", annotation, text))
    return errs


def validate_ingress_update(new: Object, old: Object) -> Errors:
    errs: Errors = []
    validate_meta_update(errs, new, old)
    before = old.get("spec") or {}
    bad_secret = any(t.get("secretName") and name_is_subdomain(t["secretName"]) for t in before.get("tls") or ())
    validate_meta(errs, new, namespaced=True)
    _ingress_spec(errs, new.get("spec") or {}, bad_secret=bad_secret, bad_wildcard=_bad_wildcard(before))
    return errs


def _bad_wildcard(spec: Object) -> bool:
    stored: Errors = []
    for rule in spec.get("rules") or ():
        if "*" in (rule.get("host") or "") and rule.get("http") is not None:
            _http(stored, rule["http"], "")
    return bool(stored)


def _ingress_spec(errs: Errors, spec: Object, *, bad_secret: bool, bad_wildcard: bool) -> None:
    rules, backend = spec.get("rules") or [], spec.get("defaultBackend")
    if not rules and backend is None:
        text = "either `defaultBackend` or `rules` must be specified"
        errs.append(field.invalid("spec", spec.get("rules"), text))
    if backend is not None:
        _backend(errs, backend, "spec.defaultBackend")
    for i, rule in enumerate(rules):
        _ingress_rule(errs, rule, f"spec.rules[{i}]", bad_wildcard=bad_wildcard)
    for i, tls in enumerate(spec.get("tls") or ()):
        for j, host in enumerate(tls.get("hosts") or ()):
            _host(errs, host, f"spec.tls[{i}].hosts[{j}]")
        secret = tls.get("secretName")
        if secret and not bad_secret:
            invalid_all(errs, f"spec.tls[{i}].secretName", secret, name_is_subdomain(secret))
    name = spec.get("ingressClassName")
    if name is not None:
        invalid_all(errs, "spec.ingressClassName", name, name_is_subdomain(name))


def _host(errs: Errors, host: str, path: str) -> None:
    check = names.wildcard_dns1123_subdomain if "*" in host else names.dns1123_subdomain
    invalid_all(errs, path, host, check(host))


def _ingress_rule(errs: Errors, rule: Object, path: str, *, bad_wildcard: bool) -> None:
    host = rule.get("host") or ""
    if host:
        if parse_sloppy(host) is not None:
            errs.append(field.invalid(f"{path}.host", host, "must be a DNS name, not an IP address"))
        _host(errs, host, f"{path}.host")
    if rule.get("http") is not None and not ("*" in host and bad_wildcard):
        _http(errs, rule["http"], f"{path}.http")


def _http(errs: Errors, http: Object, path: str) -> None:
    paths = http.get("paths") or []
    if not paths:
        errs.append(field.required(f"{path}.paths"))
    for i, entry in enumerate(paths):
        _http_path(errs, entry, f"{path}.paths[{i}]")


def _http_path(errs: Errors, entry: Object, path: str) -> None:
    kind, target, at = entry.get("pathType"), entry.get("path") or "", f"{path}.path"
    if kind is None:
        errs.append(field.required(f"{path}.pathType", "pathType must be specified"))
        return
    if kind not in _PATH_TYPES:
        errs.append(field.not_supported(f"{path}.pathType", kind, _PATH_TYPES))
    else:
        if (target or kind != "ImplementationSpecific") and not target.startswith("/"):
            errs.append(field.invalid(at, target, "must be an absolute path"))
        if kind != "ImplementationSpecific":
            bad = [part for part in _BAD_SEQUENCES if part in target]
            errs.extend(field.invalid(at, target, f"must not contain '{part}'") for part in bad)
            bad = [part for part in _BAD_SUFFIXES if target.endswith(part)]
            errs.extend(field.invalid(at, target, f"cannot end with '{part}'") for part in bad)
    _backend(errs, entry.get("backend") or {}, f"{path}.backend")


def _backend(errs: Errors, backend: Object, path: str) -> None:
    resource, service = backend.get("resource"), backend.get("service")
    if resource is not None and service is not None:
        errs.append(field.invalid(path, "", "cannot set both resource and service backends"))
    elif resource is not None:
        _typed_reference(errs, resource, f"{path}.resource")
    elif service is None:
        errs.append(field.invalid(path, "", "resource or service backend is required"))
    else:
        _service_backend(errs, service, path)


def _service_backend(errs: Errors, service: Object, path: str) -> None:
    name, port = service.get("name"), service.get("port") or {}
    if not name:
        errs.append(field.required(f"{path}.service.name"))
    else:
        invalid_all(errs, f"{path}.service.name", name, name_is_label(name))
    text, number = port.get("name"), port.get("number")
    if text and number:
        errs.append(field.invalid(path, "", "cannot set both port name & port number"))
    elif text:
        invalid_all(errs, f"{path}.service.port.name", text, names.port_name(text))
    elif number:
        invalid_all(errs, f"{path}.service.port.number", number, names.port_number(number))
    else:
        errs.append(field.required(path, "port name or number is required"))


def _typed_reference(errs: Errors, ref: Object, path: str) -> None:
    if ref.get("apiGroup") is not None:
        subdomain(errs, ref["apiGroup"], f"{path}.apiGroup")
    path_segment(errs, ref.get("kind"), f"{path}.kind")
    path_segment(errs, ref.get("name"), f"{path}.name")


def validate_ingress_status_update(new: Object, old: Object) -> Errors:
    errs: Errors = []
    validate_meta_update(errs, new, old)
    before = ((old.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
    existing = [entry["ip"] for entry in before if entry.get("ip")]
    for i, entry in enumerate(((new.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()):
        at = f"status.loadBalancer.ingress[{i}]"
        if entry.get("ip"):
            legacy_ip(errs, entry["ip"], f"{at}.ip", existing)
        load_balancer_host(errs, entry.get("hostname"), f"{at}.hostname")
    return errs


# IngressClass


def validate_ingress_class(obj: Object) -> Errors:
    errs: Errors = []
    _ingress_class(errs, obj)
    return errs


def validate_ingress_class_update(new: Object, old: Object) -> Errors:
    errs: Errors = []
    validate_meta_update(errs, new, old)
    after, before = new.get("spec") or {}, old.get("spec") or {}
    immutable(errs, after.get("controller") or "", before.get("controller") or "", "spec.controller")
    _ingress_class(errs, new)
    return errs


def _ingress_class(errs: Errors, obj: Object) -> None:
    validate_meta(errs, obj, namespaced=False)
    spec = obj.get("spec") or {}
    controller, parameters = spec.get("controller") or "", spec.get("parameters")
    if names.byte_length(controller) > _MAX_CONTROLLER:
        errs.append(field.too_long("spec.controller", _MAX_CONTROLLER))
    domain_prefixed_path(errs, controller, "spec.controller")
    if parameters is not None:
        _class_parameters(errs, parameters, "spec.parameters")


def _class_parameters(errs: Errors, parameters: Object, path: str) -> None:
    _typed_reference(errs, parameters, path)
    scope, namespace, at = parameters.get("scope"), parameters.get("namespace"), f"{path}.namespace"
    if scope is None:
        errs.append(field.required(f"{path}.scope"))
    elif scope not in ("Cluster", "Namespace"):
        errs.append(field.not_supported(f"{path}.scope", scope, ("Cluster", "Namespace")))
    elif scope == "Cluster":
        if namespace is not None:
            errs.append(field.forbidden(at, "`parameters.scope` is set to 'Cluster'"))
    elif namespace is None:
        errs.append(field.required(at, "`parameters.scope` is set to 'Namespace'"))
    else:
        invalid_all(errs, at, namespace, name_is_label(namespace))


# IPAddress and ServiceCIDR


def _address_name(name: str, *, prefix: bool) -> list[str]:
    errors: Errors = []
    ip(errors, name, "")
    return [error.detail for error in errors]


def validate_ip_address(obj: Object) -> Errors:
    errs: Errors = []
    _ip_address(errs, obj)
    return errs


def validate_ip_address_update(new: Object, old: Object) -> Errors:
    errs: Errors = []
    _ip_address(errs, new)
    validate_meta_update(errs, new, old)
    after, before = (new.get("spec") or {}).get("parentRef"), (old.get("spec") or {}).get("parentRef")
    keys = ("group", "resource", "namespace", "name")
    if {key: (after or {}).get(key) or "" for key in keys} != {key: (before or {}).get(key) or "" for key in keys}:
        shown = None if after is None else {key.capitalize(): after.get(key) or "" for key in keys}
        errs.append(field.invalid("spec.parentRef", shown, IMMUTABLE))
    return errs


def _ip_address(errs: Errors, obj: Object) -> None:
    validate_meta(errs, obj, namespaced=False, name_check=_address_name)
    parent, at = (obj.get("spec") or {}).get("parentRef"), "spec.parentRef"
    if parent is None:
        errs.append(field.required(at))
        return
    if parent.get("group"):
        subdomain(errs, parent["group"], f"{at}.group")
    path_segment(errs, parent.get("resource"), f"{at}.resource")
    path_segment(errs, parent.get("name"), f"{at}.name")
    if namespace := parent.get("namespace"):
        invalid_all(errs, f"{at}.namespace", namespace, names.path_segment_name(namespace))


def validate_service_cidr(obj: Object) -> Errors:
    errs: Errors = []
    validate_meta(errs, obj, namespaced=False)
    _cidrs(errs, (obj.get("spec") or {}).get("cidrs") or [])
    return errs


def _cidrs(errs: Errors, cidrs: list[str]) -> None:
    at = "spec.cidrs"
    if not cidrs:
        errs.append(field.required(at, "at least one CIDR required"))
        return
    if len(cidrs) > 2:
        errs.append(field.invalid(at, {"CIDRs": cidrs}, "may only hold up to 2 values"))
        return
    for i, text in enumerate(cidrs):
        cidr(errs, text, f"{at}[{i}]")
    parsed = [parse_cidr_sloppy(text) for text in cidrs]
    if (
        len(cidrs) == 2
        and None not in parsed
        and is_ipv6(cidrs[0].partition("/")[0]) == is_ipv6(cidrs[1].partition("/")[0])
    ):
        text = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64"
        errs.append(field.invalid(at, cidrs, text))


def validate_service_cidr_update(new: Object, old: Object) -> Errors:
    """A second family can be added; nothing else changes."""
    errs: Errors = []
    validate_meta_update(errs, new, old)
    shown = (new.get("spec") or {}).get("cidrs")
    after, before = shown or [], (old.get("spec") or {}).get("cidrs") or []
    at = "spec.cidrs"
    if len(before) == len(after):
        for i, text in enumerate(before):
            if text != after[i]:
                errs.append(field.invalid(f"{at}[{i}]", after[i], IMMUTABLE))
    elif len(before) == 1 and len(after) == 2:
        if after[0] != before[0]:
            errs.append(field.invalid(f"{at}[0]", after[0], IMMUTABLE))
        _cidrs(errs, after)
    else:
        errs.append(field.invalid(at, shown, IMMUTABLE))
    return errs


def validate_service_cidr_status_update(new: Object, old: Object) -> Errors:
    errs: Errors = []
    validate_meta_update(errs, new, old)
    return errs
