"""Resource names and amounts: of containers, pods, nodes, quotas and limit ranges.

Source: https://kubernetes.io/docs/concepts/configuration/manage-resources-containers/
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from tiphys.api import fielderrors as field
from tiphys.api.meta import names
from tiphys.api.meta.quantity import Quantity, QuantityError
from tiphys.api.object import Object
from tiphys.api.pods.resources import is_extended, is_native
from tiphys.validation.shared.common import (
    NEGATIVE,
    NOT_POSITIVE,
    Errors,
    invalid_all,
    label,
)

HUGE_PAGES = "hugepages-"
REQUESTS = "requests."
STANDARD_CONTAINER = frozenset(("cpu", "memory", "ephemeral-storage"))
STANDARD_QUOTA = frozenset(
    (
        *STANDARD_CONTAINER,
        "requests.cpu",
        "requests.memory",
        "requests.storage",
        "requests.ephemeral-storage",
        "limits.cpu",
        "limits.memory",
        "limits.ephemeral-storage",
        "pods",
        "resourcequotas",
        "services",
        "replicationcontrollers",
        "secrets",
        "persistentvolumeclaims",
        "configmaps",
        "services.nodeports",
        "services.loadbalancers",
    )
)
STANDARD = STANDARD_QUOTA | {"storage"}
INTEGER = frozenset(
    (
        "pods",
        "resourcequotas",
        "services",
        "replicationcontrollers",
        "secrets",
        "configmaps",
        "persistentvolumeclaims",
        "services.nodeports",
        "services.loadbalancers",
    )
)

NameCheck = Callable[[Errors, str, str], None]


def is_huge_page(name: str) -> bool:
    return name.startswith(HUGE_PAGES)


def is_quota_huge_page(name: str) -> bool:
    return name.startswith((HUGE_PAGES, REQUESTS + HUGE_PAGES))


def may_overcommit(name: str) -> bool:
    return is_native(name) and not is_huge_page(name)


def is_integer(name: str) -> bool:
    return name in INTEGER or is_extended(name)


def is_standard_quota(name: str) -> bool:
    return name in STANDARD_QUOTA or is_quota_huge_page(name)


def is_divisible(name: str, amount: Quantity) -> bool:
    """An amount of huge pages is a whole number of pages."""
    try:
        page = Quantity(name.removeprefix(HUGE_PAGES))
    except QuantityError:
        return False
    return page.sign > 0 and amount.value() % page.value() == 0


def resource_name(errs: Errors, name: str, path: str) -> None:
    if name in STANDARD:
        return
    before = len(errs)
    invalid_all(errs, path, name, names.qualified_name(name))
    if len(errs) == before and "/" not in name and not is_quota_huge_page(name):
        errs.append(field.invalid(path, name, "must be a standard resource type or fully qualified"))


def container_resource_name(errs: Errors, name: str, path: str) -> None:
    if name in STANDARD_CONTAINER:
        return
    resource_name(errs, name, path)
    if "/" not in name:
        if not is_huge_page(name):
            errs.append(field.invalid(path, name, "must be a standard resource for containers"))
    elif not is_native(name) and not is_extended(name):
        errs.append(field.invalid(path, name, "doesn't follow extended resource name standard"))


def pod_resource_name(errs: Errors, name: str, path: str) -> None:
    before = len(errs)
    resource_name(errs, name, path)
    if len(errs) == before and name not in ("cpu", "memory") and not is_huge_page(name):
        errs.append(field.not_supported(path, name, ("cpu", "hugepages-", "memory")))


def quota_resource_name(errs: Errors, name: str, path: str) -> None:
    resource_name(errs, name, path)
    if "/" not in name and not is_standard_quota(name):
        errs.append(field.invalid(path, name, "must be a standard resource for quota"))


def amount(errs: Errors, name: str, text: str | int, path: str) -> None:
    """Not negative, and whole if parts make no sense."""
    value = Quantity(text)
    if value.nano < 0:
        errs.append(field.invalid(path, str(value), NEGATIVE))
    if name not in STANDARD_CONTAINER and is_integer(name) and value.milli_value() % 1000:
        errs.append(field.invalid(path, str(value), "must be an integer"))


def positive_amount(errs: Errors, text: str | int, path: str) -> bool:
    value = Quantity(text)
    if value.nano > 0:
        return True
    errs.append(field.invalid(path, str(value), NOT_POSITIVE))
    return False


def basic_amount(errs: Errors, text: str | int, path: str) -> bool:
    value = Quantity(text).value()
    if value >= 0:
        return True
    errs.append(field.invalid(path, value, "must be a valid resource quantity"))
    return False


def requirements(
    errs: Errors,
    resources: Object,
    path: str,
    name_check: NameCheck = container_resource_name,
    claims: Collection[str] = (),
    *,
    allow_indivisible: bool = False,
) -> None:
    """``limits``, ``requests`` and ``claims`` of a container or a pod."""
    limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
    for name, text in limits.items():
        at = f"{path}.limits[{name}]"
        name_check(errs, name, at)
        amount(errs, name, text, at)
        if is_huge_page(name):
            _huge_pages(errs, name, text, at, allow_indivisible=allow_indivisible)
    for name, text in requests.items():
        at = f"{path}.requests[{name}]"
        name_check(errs, name, at)
        amount(errs, name, text, at)
        _request_fits(errs, name, text, limits, path)
        if is_huge_page(name):
            _huge_pages(errs, name, text, at, allow_indivisible=allow_indivisible)
    both = limits.keys() | requests.keys()
    if any(is_huge_page(name) for name in both) and "cpu" not in both and "memory" not in both:
        errs.append(field.forbidden(path, "HugePages require cpu or memory"))
    if resources.get("claims"):
        _claim_names(errs, resources["claims"], claims, f"{path}.claims")


def _request_fits(errs: Errors, name: str, text: str, limits: dict[str, str], path: str) -> None:
    if name not in limits:
        if not may_overcommit(name):
            errs.append(field.required(f"{path}.limits", "Limit must be set for non overcommitable resources"))
        return
    wanted, limit = Quantity(text), Quantity(limits[name])
    if wanted != limit and not may_overcommit(name):
        errs.append(field.invalid(f"{path}.requests", str(wanted), f"must be equal to {name} limit of {limit}"))
    elif wanted > limit:
        detail = f"must be less than or equal to {name} limit of {limit}"
        errs.append(field.invalid(f"{path}.requests", str(wanted), detail))


def _huge_pages(errs: Errors, name: str, text: str, path: str, *, allow_indivisible: bool) -> None:
    value = Quantity(text)
    if not allow_indivisible and not is_divisible(name, value):
        errs.append(field.invalid(path, str(value), f"{value} is not positive integer multiple of {name}"))


def _claim_names(errs: Errors, claims: list[Object], pod_claims: Collection[str], path: str) -> None:
    seen: set[str] = set()
    for i, claim in enumerate(claims):
        name, at = claim.get("name") or "", f"{path}[{i}]"
        if not name:
            errs.append(field.required(at))
            continue
        _claim_once(errs, claim, name, seen, at)
        if name not in pod_claims:
            text = "must be one of the names in pod.spec.resourceClaims"
            text += ": " + ", ".join(sorted(pod_claims)) if pod_claims else " which is empty"
            errs.append(field.FieldError(field.FieldErrorType.NOT_FOUND, at, name, text))


def _claim_once(errs: Errors, claim: Object, name: str, seen: set[str], path: str) -> None:
    """A claim is named once as a whole, or once for each of its requests."""
    if name in seen:
        errs.append(field.duplicate(path, name))
        return
    key, request = name, claim.get("request") or ""
    if request:
        label(errs, request, f"{path}.request")
        key += "/" + request
    if key in seen:
        errs.append(field.duplicate(path, key))
    elif not request:
        errs.extend(field.duplicate(path, name) for other in seen if other.startswith(name + "/"))
    seen.add(key)
