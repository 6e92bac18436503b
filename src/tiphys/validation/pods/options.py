"""What a pod may keep on update though it would be refused today.

Validation has become stricter over time. An object that was stored before must still be updatable, so each tightened
rule is waived if the old object breaks it already. On create nothing is waived.

Source: https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from tiphys.api.meta.quantity import Quantity
from tiphys.api.object import Object
from tiphys.validation.core.paths import local_non_reserved
from tiphys.validation.pods.placement import match_label_keys
from tiphys.validation.pods.podoptions import POD, TEMPLATE, PodOptions, all_containers
from tiphys.validation.pods.resources import is_divisible, is_huge_page
from tiphys.validation.pods.security import host_sysctl
from tiphys.validation.shared.common import (
    Errors,
    label_selector,
    selector_has_bad_value,
)


def waivers(old: Object | None, *, is_pod: bool) -> PodOptions:
    """The options for an update of ``old``: a pod, or a pod template."""
    strict = POD if is_pod else TEMPLATE
    if not old:
        return strict
    spec = old.get("spec") or {}
    annotations = (old.get("metadata") or {}).get("annotations") or {}
    broken = {name: True for name, breaks in _RULES.items() if breaks(spec)}
    if bad_deletion_cost(annotations):
        broken["deletion_cost"] = True
    return PodOptions(is_pod=is_pod, **broken) if broken else strict


def bad_deletion_cost(annotations: dict[str, str]) -> bool:
    text = annotations.get("controller.kubernetes.io/pod-deletion-cost")
    if text is None:
        return False
    digits = text[1:] if text.startswith("-") else text
    if not digits.isascii() or not digits.isdecimal() or len(digits) > 10:
        return True
    if not text.startswith("-") and text[0] == "0" and text != "0":
        return True
    return not -(2**31) <= int(text) < 2**31


def affinity_terms(spec: Object) -> Iterator[Object]:
    affinity = spec.get("affinity") or {}
    for key in ("podAffinity", "podAntiAffinity"):
        part = affinity.get(key) or {}
        yield from part.get("requiredDuringSchedulingIgnoredDuringExecution") or ()
        for weighted in part.get("preferredDuringSchedulingIgnoredDuringExecution") or ():
            yield weighted.get("podAffinityTerm") or {}


def _selector_values(spec: Object) -> bool:
    errs: Errors = []
    for term in affinity_terms(spec):
        label_selector(errs, term.get("labelSelector"), "")
        label_selector(errs, term.get("namespaceSelector"), "")
    return bool(errs)


def _indivisible(spec: Object) -> bool:
    lists: list[dict[str, Any]] = [spec.get("overhead") or {}]
    for container, _ in all_containers(spec):
        resources = container.get("resources") or {}
        lists += [resources.get("limits") or {}, resources.get("requests") or {}]
    return any(
        is_huge_page(name) and not is_divisible(name, Quantity(text))
        for amounts in lists
        for name, text in amounts.items()
    )


def _spread_selector(spec: Object) -> bool:
    errs: Errors = []
    for constraint in spec.get("topologySpreadConstraints") or ():
        label_selector(errs, constraint.get("labelSelector"), "")
    return bool(errs)


def _spread_keys(spec: Object) -> bool:
    errs: Errors = []
    for constraint in spec.get("topologySpreadConstraints") or ():
        match_label_keys(errs, constraint, "")
    return bool(errs)


def _token_path(spec: Object) -> bool:
    errs: Errors = []
    for volume in spec.get("volumes") or ():
        for source in (volume.get("projected") or {}).get("sources") or ():
            if token := source.get("serviceAccountToken"):
                local_non_reserved(errs, token.get("path") or "", "")
    return bool(errs)


def _host_sysctls(spec: Object) -> bool:
    sysctls = (spec.get("securityContext") or {}).get("sysctls") or ()
    return any(host_sysctl(s.get("name") or "", spec) for s in sysctls)


def _node_affinity_values(spec: Object) -> bool:
    node = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    terms = (node.get("requiredDuringSchedulingIgnoredDuringExecution") or {}).get("nodeSelectorTerms") or ()
    return any(selector_has_bad_value(term) for term in terms)


def _restart_on_resize(spec: Object) -> bool:
    return any(
        policy.get("restartPolicy") == "RestartContainer"
        for container in spec.get("initContainers") or ()
        if container.get("restartPolicy") != "Always"
        for policy in container.get("resizePolicy") or ()
    )


def _devices(spec: Object) -> bool:
    return spec.get("hostUsers") is False and any(c.get("volumeDevices") for c, _ in all_containers(spec))


def _host_network(spec: Object) -> bool:
    return spec.get("hostUsers") is False and bool(spec.get("hostNetwork"))


def _compare_tolerations(spec: Object) -> bool:
    return any(t.get("operator") in ("Lt", "Gt") for t in spec.get("tolerations") or ())


def _selinux_policy(spec: Object) -> bool:
    return (spec.get("securityContext") or {}).get("seLinuxChangePolicy") is not None


_RULES: dict[str, Callable[[Object], bool]] = {
    "selector_values": _selector_values,
    "indivisible_huge_pages": _indivisible,
    "spread_selector": _spread_selector,
    "spread_match_label_keys": _spread_keys,
    "token_path": _token_path,
    "host_sysctls": _host_sysctls,
    "node_affinity_values": _node_affinity_values,
    "restart_on_resize": _restart_on_resize,
    "devices_in_user_namespace": _devices,
    "host_network_in_user_namespace": _host_network,
    "compare_tolerations": _compare_tolerations,
    "selinux_mount_option": _selinux_policy,
}
