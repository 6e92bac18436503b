"""Validation of PersistentVolumeClaim, and of the claim templates inside pods and stateful sets.

Source: https://kubernetes.io/docs/reference/generated/kubernetes-api/v1.36/#persistentvolumeclaim-v1-core
"""

from __future__ import annotations

from typing import Any

from tiphys.api import fielderrors as field
from tiphys.api.meta import names
from tiphys.api.meta.quantity import Quantity
from tiphys.api.object import Object
from tiphys.api.pods.resources import is_native
from tiphys.validation.pods.resources import amount, basic_amount, positive_amount
from tiphys.validation.shared.common import (
    IMMUTABLE,
    Errors,
    equal,
    immutable,
    invalid_all,
    label_selector,
    name_is_label,
    name_is_subdomain,
    selector_has_bad_value,
    subdomain,
)
from tiphys.validation.shared.internal import spec_diff
from tiphys.validation.shared.objectmeta import meta_of, template_meta, validate_meta, validate_meta_update

ACCESS_MODES = ("ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod")
VOLUME_MODES = ("Block", "Filesystem")
BETA_CLASS = "volume.beta.kubernetes.io/storage-class"
_RESIZE_STATES = (
    "ControllerResizeInProgress",
    "ControllerResizeInfeasible",
    "NodeResizeInProgress",
    "NodeResizeInfeasible",
    "NodeResizePending",
)


def validate_claim(obj: Object) -> Errors:
    errs: Errors = []
    _claim(errs, obj, bad_selector=False, bad_group=False)
    return errs


def _claim(errs: Errors, obj: Object, *, bad_selector: bool, bad_group: bool) -> None:
    validate_meta(errs, obj, namespaced=True)
    claim_spec(errs, obj.get("spec") or {}, "spec", bad_selector=bad_selector, bad_group=bad_group)


def claim_template(errs: Errors, template: Object, path: str) -> None:
    template_meta(errs, template.get("metadata"), f"{path}.metadata")
    claim_spec(errs, template.get("spec") or {}, f"{path}.spec")


def access_modes(errs: Errors, modes: list[str], path: str) -> None:
    supported = [mode for mode in modes if mode in ACCESS_MODES]
    errs.extend(field.not_supported(path, mode, ACCESS_MODES) for mode in modes if mode not in ACCESS_MODES)
    if "ReadWriteOncePod" in modes and any(mode != "ReadWriteOncePod" for mode in supported):
        errs.append(field.forbidden(path, "may not use ReadWriteOncePod with other access modes"))


def claim_spec(errs: Errors, spec: Object, path: str, *, bad_selector: bool = False, bad_group: bool = False) -> None:
    """Validate the specification of a claim; the flags allow what was stored wrong before. Appends to ``errs``."""
    modes = spec.get("accessModes") or []
    if not modes:
        errs.append(field.required(f"{path}.accessModes", "at least 1 access mode is required"))
    if spec.get("selector"):
        label_selector(errs, spec["selector"], f"{path}.selector", allow_bad_values=bad_selector)
    access_modes(errs, modes, f"{path}.accessModes")
    storage = ((spec.get("resources") or {}).get("requests") or {}).get("storage")
    at = f"{path}.resources[storage]"
    if storage is None:
        errs.append(field.required(at))
    elif positive_amount(errs, storage, at):
        amount(errs, "storage", storage, at)
    _class_name(errs, spec.get("storageClassName"), f"{path}.storageClassName")
    mode = spec.get("volumeMode")
    if mode is not None and mode not in VOLUME_MODES:
        errs.append(field.not_supported(f"{path}.volumeMode", mode, VOLUME_MODES))
    _data_sources(errs, spec, path, bad_group=bad_group)
    _class_name(errs, spec.get("volumeAttributesClassName"), f"{path}.volumeAttributesClassName")


def _class_name(errs: Errors, name: str | None, path: str) -> None:
    if name:
        invalid_all(errs, path, name, name_is_subdomain(name))


def _data_sources(errs: Errors, spec: Object, path: str, *, bad_group: bool) -> None:
    source, ref = spec.get("dataSource"), spec.get("dataSourceRef")
    for key, reference in (("dataSource", source), ("dataSourceRef", ref)):
        if reference is not None:
            _data_source(errs, reference, f"{path}.{key}", bad_group=bad_group)
    if source is None or ref is None:
        return
    if ref.get("namespace"):
        text = "may not be specified when dataSourceRef.namespace is specified"
    elif any((source.get(key) or None) != (ref.get(key) or None) for key in ("apiGroup", "kind", "name")):
        text = "must match dataSourceRef"
    else:
        return
    # Upstream gives the field's path for the value, and a path has nothing to show.
    errs.append(field.invalid(path, {}, text))


def _data_source(errs: Errors, source: Object, path: str, *, bad_group: bool) -> None:
    errs.extend(field.required(f"{path}.{key}") for key in ("name", "kind") if not source.get(key))
    group, kind = source.get("apiGroup") or "", source.get("kind") or ""
    if not group and kind != "PersistentVolumeClaim":
        text = "must be 'PersistentVolumeClaim' when referencing the default apiGroup"
        errs.append(field.invalid(path, kind, text))
    if group and not bad_group:
        subdomain(errs, group, f"{path}.apiGroup")
    if namespace := source.get("namespace"):
        invalid_all(errs, f"{path}.namespace", namespace, name_is_label(namespace))


def validate_claim_update(new: Object, old: Object) -> Errors:
    errs: Errors = []
    validate_meta_update(errs, new, old)
    old_spec, new_spec = old.get("spec") or {}, new.get("spec") or {}
    bad_group = any((old_spec.get(key) or {}).get("apiGroup") is not None for key in ("dataSource", "dataSourceRef"))
    bad_selector: Errors = []
    label_selector(bad_selector, old_spec.get("selector"), "")
    waived = bool(bad_selector) or selector_has_bad_value(old_spec.get("selector"))
    _claim(errs, new, bad_selector=waived, bad_group=bad_group)
    _spec_unchanged(errs, new, old)
    _size(errs, new_spec, old_spec, old)
    immutable(errs, new_spec.get("volumeMode"), old_spec.get("volumeMode"), "volumeMode")
    _attributes_class(errs, new_spec, old_spec, old.get("status") or {})
    return errs


def _spec_unchanged(errs: Errors, new: Object, old: Object) -> None:
    """All but the size and the attributes class, which a bound claim may change."""
    before: dict[str, Any] = dict(old.get("spec") or {})
    after: dict[str, Any] = dict(new.get("spec") or {})
    if not before.get("volumeName"):
        before["volumeName"] = after.get("volumeName")
    old_beta = (meta_of(old).get("annotations") or {}).get(BETA_CLASS)
    new_beta = (meta_of(new).get("annotations") or {}).get(BETA_CLASS)
    old_class, new_class = before.get("storageClassName"), after.get("storageClassName")
    from_annotation = old_beta is not None and new_class == old_beta and new_beta in (None, old_beta)
    if old_class is None and from_annotation:
        after["storageClassName"] = None
    else:
        if (new_beta or "") != (old_beta or ""):
            errs.append(field.invalid(f"metadata.annotations.{BETA_CLASS}", new_beta or "", IMMUTABLE))
        if old_class is None and new_class is not None and old_beta in (None, new_class):
            after["storageClassName"] = None
    if (new.get("status") or {}).get("phase") == "Bound":
        after["resources"] = _with_storage(after.get("resources"), before.get("resources"))
        after["volumeAttributesClassName"] = before.get("volumeAttributesClassName")
    if not equal(after, before):
        text = (
            "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims"
        )
        difference = spec_diff("PersistentVolumeClaimSpec", before, after)
        errs.append(field.forbidden("spec", f"{text}\n{difference}"))


def _with_storage(after: Object | None, before: Object | None) -> Object | None:
    requests = (after or {}).get("requests")
    if after is None or requests is None:
        return after
    old = ((before or {}).get("requests") or {}).get("storage", "0")
    return {**after, "requests": {**requests, "storage": old}}


def _size(errs: Errors, new: Object, old: Object, old_claim: Object) -> None:
    """A claim may shrink after a failed expansion, but not below what it has."""
    size = Quantity(((new.get("resources") or {}).get("requests") or {}).get("storage", "0"))
    before = Quantity(((old.get("resources") or {}).get("requests") or {}).get("storage", "0"))
    has = Quantity(((old_claim.get("status") or {}).get("capacity") or {}).get("storage", "0"))
    if size < before and size <= has:
        errs.append(field.forbidden("spec.resources.requests.storage", "field can not be less than status.capacity"))


def _attributes_class(errs: Errors, new: Object, old: Object, status: Object) -> None:
    after, at = new.get("volumeAttributesClassName"), "spec.volumeAttributesClassName"
    if after == old.get("volumeAttributesClassName") or status.get("currentVolumeAttributesClassName") is None:
        return
    what = "nil" if after is None else "empty string"
    if not after:
        text = f"update to {what} is forbidden when status.currentVolumeAttributesClassName is not nil"
        errs.append(field.forbidden(at, text))


def validate_claim_status_update(new: Object, old: Object) -> Errors:
    """The errors of an update of a PersistentVolumeClaim's status."""
    errs: Errors = []
    validate_meta_update(errs, new, old)
    if not meta_of(new).get("resourceVersion"):
        errs.append(field.required("resourceVersion"))
    if not (new.get("spec") or {}).get("accessModes"):
        errs.append(field.required("Spec.accessModes"))
    status = new.get("status") or {}
    for name, text in (status.get("capacity") or {}).items():
        basic_amount(errs, text, f"status.capacity[{name}]")
    for name, state in (status.get("allocatedResourceStatuses") or {}).items():
        at = "status.allocatedResourceStatuses"
        _resource_key(errs, name, at)
        if state not in _RESIZE_STATES:
            errs.append(field.not_supported(at, name, sorted(_RESIZE_STATES)))
    for name, text in (status.get("allocatedResources") or {}).items():
        at = f"status.allocatedResources[{name}]"
        if _resource_key(errs, name, "status.allocatedResources") and basic_amount(errs, text, at):
            amount(errs, "storage", text, at)
    return errs


def _resource_key(errs: Errors, name: str, path: str) -> bool:
    before = len(errs)
    invalid_all(errs, path, name, names.qualified_name(name))
    if len(errs) == before and is_native(name) and name != "storage":
        errs.append(field.not_supported(path, name, ("storage",)))
    return len(errs) == before
