"""Validation of the ``resize`` subresource of a pod: CPU and memory, and nothing else (KEP-1287)."""

from __future__ import annotations

from typing import Any

from tiphys.api import fielderrors as field
from tiphys.api.object import Object
from tiphys.api.pods.qos import qos_class, qos_of
from tiphys.validation.pods.options import waivers
from tiphys.validation.pods.pod import MIRROR, pod_metadata_and_spec
from tiphys.validation.shared.common import (
    Errors,
    equal,
)
from tiphys.validation.shared.objectmeta import meta_of, validate_meta_update

_MUTABLE = "only cpu and memory resources are mutable"
_KINDS = ("containers", "initContainers")


def validate_pod_resize(new: Object, old: Object) -> Errors:
    """The errors of a resize, which may change CPU and memory only, and not the QoS class."""
    errs: Errors = []
    validate_meta_update(errs, new, old)
    pod_metadata_and_spec(errs, new, waivers(old, is_pod=True))
    after, before = new.get("spec") or {}, old.get("spec") or {}
    if MIRROR in (meta_of(old).get("annotations") or {}):
        return [field.forbidden("[]", "static pods cannot be resized")]
    if (before.get("os") or {}).get("name") == "windows":
        return [field.forbidden("[]", "windows pods cannot be resized")]
    old_status = old.get("status") or {}
    if qos_of(old) != qos_class(after):
        shown = (new.get("status") or {}).get("qosClass") or ""
        errs.append(field.invalid("spec", shown, "Pod QOS Class may not change as a result of resizing"))
    if not _node_can(old_status):
        errs.append(field.forbidden("spec", "Pod running on node without support for resize"))
    munged: dict[str, Any] = dict(after)
    if _has_pod_level(before) or _has_pod_level(after):
        _pod_level(errs, munged, before)
    if old_status.get("nodeAllocatableResourceClaimStatuses"):
        errs.append(field.forbidden("spec", "pods with node allocatable resource claims cannot be resized"))
    ordered = _same_containers(errs, after, before)
    if not ordered:
        return errs
    for key in ("initContainers", "containers"):
        for i, container in enumerate(before.get(key) or ()):
            _nothing_removed(errs, after[key][i], container, f"spec.{key}[{i}].resources")
    _only_cpu_and_memory(errs, munged, before)
    if not errs and not equal(munged, before):
        errs.append(field.forbidden("spec", _MUTABLE))
    return errs


def _node_can(status: Object) -> bool:
    for container in status.get("containerStatuses") or ():
        if (container.get("state") or {}).get("running") is not None:
            return container.get("resources") is not None
    return True


def _has_pod_level(spec: Object) -> bool:
    resources = spec.get("resources") or {}
    return bool(resources.get("requests") or resources.get("limits"))


def _pod_level(errs: Errors, munged: Object, old: Object) -> None:
    before, after = old.get("resources"), munged.get("resources")
    if before is not None and after is None:
        errs.append(field.forbidden("spec.resources", "pod-level resources cannot be removed"))
        return
    if before is not None:
        for key, what in (("requests", "requests"), ("limits", "limits")):
            if _removed((after or {}).get(key), before.get(key)):
                text = f"pod-level resource {what} cannot be removed"
                errs.append(field.forbidden(f"spec.resources.{key}", text))
    munged["resources"] = _set_back(after or {}, before or {}) or None
    if not equal(munged["resources"], before):
        errs.append(field.forbidden("spec", f"{_MUTABLE} at pod-level"))


def _removed(new: Object | None, old: Object | None) -> bool:
    return any(name not in (new or {}) for name in old or ())


def _set_back(new: Object, old: Object) -> Object:
    """Resources with CPU and memory as they were."""
    result: dict[str, Any] = {}
    for key in ("limits", "requests"):
        before = old.get(key) or {}
        kept = {name: text for name, text in (new.get(key) or {}).items() if name not in ("cpu", "memory")}
        kept |= {name: before[name] for name in ("cpu", "memory") if name in before}
        if kept:
            result[key] = kept
    return result


def _same_containers(errs: Errors, new: Object, old: Object) -> bool:
    count = len(errs)
    for key in _KINDS:
        after, before = new.get(key) or [], old.get(key) or []
        if len(after) != len(before):
            errs.append(field.forbidden(f"spec.{key}", f"{key} may not be added or removed on resize"))
            continue
        for i, (a, b) in enumerate(zip(after, before, strict=True)):
            if a.get("name") != b.get("name"):
                text = f"{key} may not be renamed or reordered on resize"
                errs.append(field.forbidden(f"spec.{key}[{i}].name", text))
    return len(errs) == count


def _nothing_removed(errs: Errors, new: Object, old: Object, path: str) -> None:
    after, before = new.get("resources") or {}, old.get("resources") or {}
    for key, what in (("requests", "requests"), ("limits", "limits")):
        if _removed(after.get(key), before.get(key)):
            errs.append(field.forbidden(f"{path}.{key}", f"resource {what} cannot be removed"))


def _only_cpu_and_memory(errs: Errors, munged: Object, old: Object) -> None:
    for key in _KINDS:
        if not munged.get(key):
            continue
        result = []
        for i, (after, before) in enumerate(zip(munged[key], old[key], strict=True)):
            plain = {**after, "resources": _set_back(after.get("resources") or {}, before.get("resources") or {})}
            modified = not equal(after, before)
            # Claims of a container are dropped with the rest, so a container that has some never compares equal.
            if not equal(plain, before):
                if key == "containers":
                    errs.append(field.forbidden("spec", _MUTABLE))
                else:
                    text = "only cpu and memory resources for init or sidecar containers are mutable"
                    errs.append(field.forbidden(f"spec.initContainers[{i}]", text))
            if key == "initContainers" and modified and after.get("restartPolicy") != "Always":
                _restarts(errs, after, i)
            result.append(plain)
        munged[key] = result


def _restarts(errs: Errors, container: Object, index: int) -> None:
    for policy in container.get("resizePolicy") or ():
        if policy.get("restartPolicy") == "RestartContainer":
            text = "non-sidecar init containers with a resize policy of RestartContainer cannot be resized"
            errs.append(field.forbidden(f"spec.initContainers[{index}]", text))
