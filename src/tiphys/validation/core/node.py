"""Validation of Node.

Source: https://kubernetes.io/docs/reference/generated/kubernetes-api/v1.36/#node-v1-core
"""

from __future__ import annotations

import re
from typing import Any

from tiphys.api import fielderrors as field
from tiphys.api.codec import jsontext
from tiphys.api.codec.typed import plain, type_name
from tiphys.api.gotext import quote
from tiphys.api.meta import names
from tiphys.api.meta.addresses import parse_cidr_sloppy
from tiphys.api.object import Object
from tiphys.validation.pods.placement import taint_effect
from tiphys.validation.pods.resources import amount
from tiphys.validation.shared.common import (
    Errors,
    invalid_all,
    name_is_label,
    name_is_subdomain,
    positive,
    qualified,
)
from tiphys.validation.shared.ip import is_ipv6, legacy_cidr
from tiphys.validation.shared.objectmeta import meta_of, validate_meta, validate_meta_update

_FEATURE_RE = re.compile(r"[A-Z][a-zA-Z0-9]*(/[a-zA-Z][a-zA-Z0-9]*)*")
_TAINTS = "scheduler.alpha.kubernetes.io/taints"
_AVOID = "scheduler.alpha.kubernetes.io/preferAvoidPods"
_POD_CIDR = 'node updates may not change podCIDR except from "" to valid'
_PROVIDER = 'node updates may not change providerID except from "" to valid'


def validate_node(obj: Object) -> Errors:
    errs: Errors = []
    validate_meta(errs, obj, namespaced=False)
    _annotations(errs, meta_of(obj).get("annotations") or {})
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    # The taints are reported under metadata, and always have been.
    taints(errs, spec.get("taints") or [], "metadata.taints")
    _amounts(errs, status)
    capacity = ((status.get("nodeInfo") or {}).get("swap") or {}).get("capacity")
    if capacity is not None:
        positive(errs, capacity, "metadata.nodeSwapStatus.capacity")
    _features(errs, status.get("declaredFeatures") or [])
    _pod_cidrs(errs, spec.get("podCIDRs") or [])
    return errs


def _annotations(errs: Errors, annotations: dict[str, str]) -> None:
    """Taints, and pods to keep away from, were once written as annotations."""
    if annotations.get(_TAINTS):
        old_taints = _annotated(errs, annotations[_TAINTS], list, "[]core.Taint", ("metadata.annotations", _TAINTS))
        taints(errs, [_lower_keys(taint) for taint in old_taints or ()], f"metadata.annotations.{_TAINTS}")
    if annotations.get(_AVOID):
        place = ("metadata.annotations.AvoidPods", _AVOID)
        avoid = _annotated(errs, annotations[_AVOID], dict, "v1.AvoidPods", place)
        for i, entry in enumerate((avoid or {}).get("preferAvoidPods") or ()):
            at = f"metadata.annotations.{_AVOID}[{i}].PodSignature"
            owner = (entry.get("podSignature") or {}).get("podController")
            if owner is None:
                errs.append(field.required(at))
            elif not owner.get("controller"):
                errs.append(field.invalid(f"{at}.PodController.Controller", False, "must point to a controller"))


def _annotated(errs: Errors, text: str, kind: type, go: str, place: tuple[str, str]) -> Any:
    """The value that is written in an annotation, if it is of the right type."""
    try:
        node = jsontext.read(text.encode())
        value = plain(node)
    except ValueError as error:
        errs.append(field.invalid(*place, str(error)))
        return None
    if value is None or isinstance(value, kind):
        return value
    errs.append(field.invalid(*place, f"json: cannot unmarshal {type_name(node)} into Go value of type {go}"))
    return None


def _lower_keys(obj: Object) -> Object:
    """Upstream reads this annotation into a type without JSON names, for which case does not count."""
    return {key[:1].lower() + key[1:]: value for key, value in obj.items()}


def taints(errs: Errors, entries: list[Object], path: str) -> None:
    """Validate taints, which are unique by key and effect; appends to ``errs``."""
    seen: set[tuple[str, str]] = set()
    for i, taint in enumerate(entries):
        at, key, effect = f"{path}[{i}]", taint.get("key") or "", taint.get("effect") or ""
        qualified(errs, key, f"{at}.key")
        if problems := names.label_value(taint.get("value") or ""):
            errs.append(field.invalid(f"{at}.value", taint.get("value"), ";".join(problems)))
        if not effect:
            errs.append(field.required(f"{at}.effect"))
        else:
            taint_effect(errs, effect, f"{at}.effect")
        if (key, effect) in seen:
            shown = {
                "Key": key,
                "Value": taint.get("value") or "",
                "Effect": effect,
                "TimeAdded": taint.get("timeAdded"),
            }
            text = "taints must be unique by key and effect pair"
            errs.append(field.FieldError(field.FieldErrorType.DUPLICATE, at, shown, text))
        seen.add((key, effect))


def _amounts(errs: Errors, status: Object) -> None:
    for key in ("capacity", "allocatable"):
        for name, text in (status.get(key) or {}).items():
            amount(errs, name, text, f"status.{key}.{name}")


def _features(errs: Errors, features: list[str]) -> None:
    for i, name in enumerate(features):
        at = f"status.declaredFeatures[{i}]"
        if names.byte_length(name) > 253:
            errs.append(
                field.invalid(at, name, f"invalid feature name {quote(name)}: must be no more than 253 characters")
            )
        elif not _FEATURE_RE.fullmatch(name):
            text = (
                f"invalid feature name {quote(name)}: must start with an UpperCamelCase segment, with subsequent "
                "segments separated by '/' (e.g., MyFeature or MyFeature/mySubFeature), and contain only alphanumeric "
                "characters and slashes"
            )
            errs.append(field.invalid(at, name, text))
        if i + 1 < len(features):
            at, following = f"status.declaredFeatures[{i + 1}]", features[i + 1]
            if following == name:
                errs.append(field.duplicate(at, following))
            elif following < name:
                errs.append(field.invalid(at, following, "list must be sorted alphabetically"))


def _pod_cidrs(errs: Errors, cidrs: list[str]) -> None:
    for i, value in enumerate(cidrs):
        legacy_cidr(errs, value, f"spec.podCIDRs[{i}]")
    if len(cidrs) < 2:
        return
    broken = next((value for value in cidrs if parse_cidr_sloppy(value) is None), None)
    if broken is not None:
        text = (
            "invalid PodCIDRs. failed to check with dual stack with error:"
            f"invalid CIDR[{cidrs.index(broken)}]: <nil> (invalid CIDR address: {broken})"
        )
        errs.append(field.internal("spec.podCIDRs", text))
    families = {is_ipv6(value.partition("/")[0]) for value in cidrs}
    if broken is not None or len(families) != 2 or len(cidrs) > 2:
        text = "may specify no more than one CIDR for each IP family"
        errs.append(field.invalid("spec.podCIDRs", cidrs, text))


def validate_node_update(new: Object, old: Object) -> Errors:
    return validate_node(new) + validate_node_status_update(new, old)


def validate_node_status_update(new: Object, old: Object) -> Errors:
    """The errors of an update of a Node's status; as upstream does, fixed parts of the spec are checked too."""
    errs: Errors = []
    validate_meta_update(errs, new, old)
    _annotations(errs, meta_of(new).get("annotations") or {})
    spec, before, status = new.get("spec") or {}, old.get("spec") or {}, new.get("status") or {}
    _amounts(errs, status)
    _features(errs, status.get("declaredFeatures") or [])
    seen: set[tuple[str, str]] = set()
    for i, address in enumerate(status.get("addresses") or ()):
        pair = (address.get("type") or "", address.get("address") or "")
        if pair in seen:
            errs.append(field.duplicate(f"status.addresses[{i}]", {"Type": pair[0], "Address": pair[1]}))
        seen.add(pair)
    _pod_cidrs_kept(errs, spec.get("podCIDRs") or [], before.get("podCIDRs") or [])
    if before.get("providerID") and before["providerID"] != (spec.get("providerID") or ""):
        errs.append(field.forbidden("spec.providerID", _PROVIDER))
    if spec.get("configSource") is not None:
        _config_source(errs, spec["configSource"], "spec.configSource", in_status=False)
    for key in ("assigned", "active", "lastKnownGood"):
        source = (status.get("config") or {}).get(key)
        if source is not None:
            _config_source(errs, source, f"status.config.{key}", in_status=True)
    taints(errs, spec.get("taints") or [], "metadata.taints")
    if (spec.get("externalID") or "") != (before.get("externalID") or ""):
        errs.append(field.forbidden("spec.externalID", "may not be updated"))
    return errs


def _pod_cidrs_kept(errs: Errors, new: list[str], old: list[str]) -> None:
    if not old:
        return
    if len(old) != len(new):
        errs.append(field.forbidden("spec.podCIDRs", _POD_CIDR))
        return
    errs.extend(field.forbidden("spec.podCIDRs", _POD_CIDR) for a, b in zip(old, new, strict=True) if a != b)


def _config_source(errs: Errors, source: Object, path: str, *, in_status: bool) -> None:
    from tiphys.validation.shared.internal import internal_value

    config_map = source.get("configMap")
    if config_map is None:
        shown = internal_value("NodeConfigSource", source)
        errs.append(field.invalid(path, shown, "exactly one reference subfield must be non-nil"))
        return
    at = f"{path}.configMap"
    for key in ("uid", "resourceVersion"):
        if in_status and not config_map.get(key):
            errs.append(field.required(f"{at}.{key}"))
        elif not in_status and config_map.get(key):
            errs.append(field.forbidden(f"{at}.{key}", f"{key} must not be set in spec"))
    checks = (("namespace", name_is_label), ("name", name_is_subdomain), ("kubeletConfigKey", names.config_map_key))
    for key, check in checks:
        value = config_map.get(key)
        if not value:
            errs.append(field.required(f"{at}.{key}"))
        else:
            invalid_all(errs, f"{at}.{key}", value, check(value))
