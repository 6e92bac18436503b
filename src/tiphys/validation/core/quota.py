"""Validation of ResourceQuota and LimitRange.

Source: https://kubernetes.io/docs/reference/generated/kubernetes-api/v1.36/#resourcequota-v1-core
"""

from __future__ import annotations

from tiphys.api import fielderrors as field
from tiphys.api.meta import names
from tiphys.api.meta.quantity import Quantity
from tiphys.api.object import Object
from tiphys.validation.pods.resources import (
    amount,
    container_resource_name,
    is_standard_quota,
    may_overcommit,
    quota_resource_name,
    resource_name,
)
from tiphys.validation.shared.common import (
    IMMUTABLE,
    Errors,
    invalid_all,
)
from tiphys.validation.shared.objectmeta import meta_of, validate_meta, validate_meta_update

_POD_COUNT = frozenset(("pods",))
_POD_COMPUTE = frozenset(("cpu", "memory", "limits.cpu", "limits.memory", "requests.cpu", "requests.memory"))
_PODS = _POD_COUNT | _POD_COMPUTE
_SCOPE_RESOURCES = {
    "Terminating": _PODS,
    "NotTerminating": _PODS,
    "NotBestEffort": _PODS,
    "PriorityClass": _PODS,
    "CrossNamespacePodAffinity": _PODS,
    "BestEffort": _POD_COUNT,
    "VolumeAttributesClass": frozenset(("persistentvolumeclaims", "requests.storage")),
}
_EXISTS_ONLY = ("BestEffort", "NotBestEffort", "Terminating", "NotTerminating", "CrossNamespacePodAffinity")
_CONFLICTS = ({"BestEffort", "NotBestEffort"}, {"Terminating", "NotTerminating"})
_MAX_MILLI = 9223372036854775


def validate_quota(obj: Object) -> Errors:
    errs: Errors = []
    validate_meta(errs, obj, namespaced=True)
    _spec(errs, obj.get("spec") or {})
    _status(errs, obj.get("status") or {})
    return errs


def validate_quota_update(new: Object, old: Object) -> Errors:
    errs: Errors = []
    validate_meta_update(errs, new, old)
    spec = new.get("spec") or {}
    _spec(errs, spec)
    scopes = spec.get("scopes") or []
    if set(scopes) != set((old.get("spec") or {}).get("scopes") or ()):
        errs.append(field.invalid("spec.scopes", spec.get("scopes"), IMMUTABLE))
    return errs


def validate_quota_status_update(new: Object, old: Object) -> Errors:
    errs: Errors = []
    validate_meta_update(errs, new, old)
    if not meta_of(new).get("resourceVersion"):
        errs.append(field.required("resourceVersion"))
    _status(errs, new.get("status") or {})
    return errs


def _hard(errs: Errors, amounts: dict[str, str] | None, path: str) -> None:
    for name, text in (amounts or {}).items():
        at = f"{path}[{name}]"
        quota_resource_name(errs, name, at)
        amount(errs, name, text, at)


def _status(errs: Errors, status: Object) -> None:
    _hard(errs, status.get("hard"), "status.hard")
    _hard(errs, status.get("used"), "status.used")


def _spec(errs: Errors, spec: Object) -> None:
    _hard(errs, spec.get("hard"), "spec.hard")
    limited = [name for name in sorted(spec.get("hard") or ()) if is_standard_quota(name)]
    scopes = spec.get("scopes") or []
    unfit = {scope: _unfit(scope, limited) for scope in set(scopes)}
    unknown = field.invalid("spec.scopes", scopes, "unsupported scope")
    for scope in scopes:
        if scope not in _SCOPE_RESOURCES:
            errs.append(unknown)
        wrong = field.invalid("spec.scopes", scopes, "unsupported scope applied to resource")
        errs.extend([wrong] * min(unfit[scope], max(0, field.MOST - len(errs))))
    _conflicts(errs, set(scopes), scopes, "spec.scopes")
    selector = spec.get("scopeSelector")
    if selector is not None:
        _scope_selector(errs, selector, limited, scopes)


def _unfit(scope: str, limited: list[str]) -> int:
    """To how many of the limited resources the scope cannot be applied."""
    if scope not in _SCOPE_RESOURCES:
        return 0
    return sum(name not in _SCOPE_RESOURCES[scope] for name in limited)


def _conflicts(errs: Errors, scopes: set[str], shown: list[str], path: str) -> None:
    errs.extend(field.invalid(path, shown or None, "conflicting scopes") for pair in _CONFLICTS if pair <= scopes)


def _scope_selector(errs: Errors, selector: Object, limited: list[str], scopes: list[str]) -> None:
    """Validate a quota's scope selector; appends to ``errs``."""
    from tiphys.validation.shared.internal import internal_value

    at, named = "spec.scopeSelector.matchExpressions", set()
    shown, unfit = internal_value("ScopeSelector", selector), dict[str, int]()
    for requirement in selector.get("matchExpressions") or ():
        scope, operator = requirement.get("scopeName") or "", requirement.get("operator") or ""
        values = requirement.get("values") or []
        if scope not in _SCOPE_RESOURCES:
            errs.append(field.invalid(f"{at}.scopeName", scope, "unsupported scope"))
        if scope not in unfit:
            unfit[scope] = _unfit(scope, limited)
        wrong = field.invalid(at, shown, "unsupported scope applied to resource")
        errs.extend([wrong] * min(unfit[scope], max(0, field.MOST - len(errs))))
        if scope in _EXISTS_ONLY and operator != "Exists":
            text = (
                "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, "
                "ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or "
                "ResourceQuotaScopeCrossNamespacePodAffinity"
            )
            errs.append(field.invalid(f"{at}.operator", operator, text))
        if operator in ("In", "NotIn"):
            if not values:
                text = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector"
                errs.append(field.required(f"{at}.values", text))
        elif operator in ("Exists", "DoesNotExist"):
            if values:
                text = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector"
                errs.append(field.invalid(f"{at}.values", values, text))
        else:
            errs.append(field.invalid(f"{at}.operator", operator, "not a valid selector operator"))
        named.add(scope)
    _conflicts(errs, named, scopes, at)


def validate_limit_range(obj: Object) -> Errors:
    errs: Errors = []
    validate_meta(errs, obj, namespaced=True)
    seen: set[str] = set()
    for i, limit in enumerate((obj.get("spec") or {}).get("limits") or ()):
        at, kind = f"spec.limits[{i}]", limit.get("type") or ""
        _limit_type(errs, kind, f"{at}.type")
        if kind in seen:
            errs.append(field.duplicate(f"{at}.type", kind))
        seen.add(kind)
        _limit(errs, limit, kind, at)
    return errs


def validate_limit_range_update(new: Object, old: Object) -> Errors:
    """The strategy looks at the new object alone."""
    return validate_limit_range(new)


def _limit_type(errs: Errors, kind: str, path: str) -> None:
    before = len(errs)
    invalid_all(errs, path, kind, names.qualified_name(kind))
    standard = kind in ("Pod", "Container", "PersistentVolumeClaim")
    if len(errs) == before and "/" not in kind and not standard:
        errs.append(field.invalid(path, kind, "must be a standard limit type or fully qualified"))


def _limit(errs: Errors, limit: Object, kind: str, path: str) -> None:
    check = container_resource_name if kind in ("Pod", "Container") else resource_name
    used: dict[str, dict[str, Quantity]] = {}
    for key in ("max", "min", "default", "defaultRequest", "maxLimitRequestRatio"):
        if key == "maxLimitRequestRatio" and kind == "PersistentVolumeClaim":
            _needs_storage(errs, limit, f"{path}.limits")
        bounds = limit.get(key) or {}
        used[key] = {}
        if kind == "Pod" and key in ("default", "defaultRequest"):
            if bounds:
                errs.append(field.forbidden(f"{path}.{key}", "may not be specified when `type` is 'Pod'"))
            continue
        for name, text in bounds.items():
            check(errs, name, f"{path}.{key}[{name}]")
            used[key][name] = Quantity(text)
    for name in dict.fromkeys(name for amounts in used.values() for name in amounts):
        _compare(errs, name, {key: amounts.get(name) for key, amounts in used.items()}, path)


def _needs_storage(errs: Errors, limit: Object, path: str) -> None:
    if "storage" not in (limit.get("min") or {}) and "storage" not in (limit.get("max") or {}):
        text = "either minimum or maximum storage value is required, but neither was provided"
        errs.append(field.required(path, text))


def _compare(errs: Errors, name: str, amounts: dict[str, Quantity | None], path: str) -> None:
    """Each amount must lie between those that bound it."""
    low, high = amounts["min"], amounts["max"]
    default, request, ratio = amounts["default"], amounts["defaultRequest"], amounts["maxLimitRequestRatio"]

    def wrong(key: str, value: Quantity, text: str) -> None:
        errs.append(field.invalid(f"{path}.{key}[{name}]", str(value), text))

    if low is not None and high is not None and low > high:
        wrong("min", low, f"min value {low} is greater than max value {high}")
    if request is not None:
        if low is not None and low > request:
            wrong("defaultRequest", request, f"min value {low} is greater than default request value {request}")
        if high is not None and request > high:
            wrong("defaultRequest", request, f"default request value {request} is greater than max value {high}")
        if default is not None and request > default:
            text = f"default request value {request} is greater than default limit value {default}"
            wrong("defaultRequest", request, text)
    if default is not None:
        if low is not None and low > default:
            wrong("default", low, f"min value {low} is greater than default value {default}")
        if high is not None and default > high:
            wrong("default", high, f"default value {default} is greater than max value {high}")
    if ratio is not None:
        if ratio < Quantity("1"):
            wrong("maxLimitRequestRatio", ratio, f"ratio {ratio} is less than 1")
        if low is not None and high is not None:
            _ratio_fits(errs, f"{path}.maxLimitRequestRatio[{name}]", ratio, low, high)
    if not may_overcommit(name) and default is not None and request is not None and default != request:
        text = f"default value {default} must equal to defaultRequest value {request} in {name}"
        wrong("defaultRequest", request, text)


def _ratio_fits(errs: Errors, path: str, ratio: Quantity, low: Quantity, high: Quantity) -> None:
    value, least, most = float(ratio.value()), low.value(), high.value()
    if max(ratio.value(), least, most) < _MAX_MILLI:
        value, least, most = ratio.milli_value() / 1000, low.milli_value(), high.milli_value()
    bound = most / least if least else float("inf")
    if value > bound:
        errs.append(field.invalid(path, str(ratio), f"ratio {ratio} is greater than max/min = {bound:f}"))
