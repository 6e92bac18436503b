"""Validation of the storage.k8s.io group, v1.

Source: https://kubernetes.io/docs/reference/generated/kubernetes-api/v1.36/#storageclass-v1-storage-k8s-io
"""

from __future__ import annotations

from typing import Any

from tiphys.api import fielderrors as field
from tiphys.api.meta import names
from tiphys.api.meta.quantity import Quantity
from tiphys.api.object import Object
from tiphys.validation.core.persistentvolume import volume_spec
from tiphys.validation.pods.volumes import csi_driver_name
from tiphys.validation.shared.common import (
    IMMUTABLE,
    Errors,
    equal,
    immutable,
    invalid_all,
    label_selector,
    name_is_subdomain,
    non_negative,
    qualified,
    sorted_map,
)
from tiphys.validation.shared.internal import internal_value
from tiphys.validation.shared.objectmeta import validate_meta, validate_meta_update

_MAX_PARAMETERS = 512
_MAX_PARAMETERS_SIZE = 256 * 1024
_MAX_ERROR = 1024
_MAX_NODE_ID = 256
_BINDING_MODES = ("Immediate", "WaitForFirstConsumer")
_FS_GROUP_POLICIES = ("File", "None", "ReadWriteOnceWithFSType")


# StorageClass and VolumeAttributesClass


def validate_storage_class(obj: Object) -> Errors:
    errs: Errors = []
    validate_meta(errs, obj, namespaced=False)
    _provisioner(errs, obj.get("provisioner") or "", "provisioner")
    _parameters(errs, obj.get("parameters") or {})
    policy, mode = obj.get("reclaimPolicy"), obj.get("volumeBindingMode")
    if policy and policy not in ("Delete", "Retain"):
        errs.append(field.not_supported("reclaimPolicy", policy, ("Delete", "Retain")))
    if mode is None:
        errs.append(field.required("volumeBindingMode"))
    elif mode not in _BINDING_MODES:
        errs.append(field.not_supported("volumeBindingMode", mode, _BINDING_MODES))
    _topologies(errs, obj.get("allowedTopologies") or [])
    return errs


def _provisioner(errs: Errors, name: str, path: str) -> None:
    if not name:
        errs.append(field.required(path))
    else:
        qualified(errs, name.lower(), path)


def _parameters(errs: Errors, parameters: dict[str, str]) -> None:
    if len(parameters) > _MAX_PARAMETERS:
        errs.append(field.too_long("parameters", _MAX_PARAMETERS))
        return
    if "" in parameters:
        errs.append(field.invalid("parameters", "", "field can not be empty."))
    if sum(names.byte_length(k) + names.byte_length(v or "") for k, v in parameters.items()) > _MAX_PARAMETERS_SIZE:
        errs.append(field.too_long("parameters", _MAX_PARAMETERS_SIZE))


def _topologies(errs: Errors, terms: list[Object]) -> None:
    seen: dict[frozenset[tuple[str, frozenset[str]]], int] = {}
    for i, term in enumerate(terms):
        at = f"allowedTopologies[{i}].matchLabelExpressions"
        values_by_key: dict[str, set[str]] = {}
        for j, requirement in enumerate(term.get("matchLabelExpressions") or ()):
            key, values = requirement.get("key") or "", requirement.get("values") or []
            _topology_values(errs, values, f"{at}[{j}].values")
            qualified(errs, key, f"{at}[{j}].key")
            if key in values_by_key:
                errs.append(field.duplicate(f"{at}[{j}].key", key))
            values_by_key[key] = set(values)
        content = frozenset((key, frozenset(values)) for key, values in values_by_key.items())
        equal_ones = seen.get(content, 0)
        seen[content] = equal_ones + 1
        # A term without expressions equals the empty places that upstream keeps in its list.
        equal_ones += 0 if values_by_key else len(terms)
        errs.extend([field.duplicate(at, "")] * min(equal_ones, max(0, field.MOST - len(errs))))


def _topology_values(errs: Errors, values: list[str], path: str) -> None:
    if not values:
        errs.append(field.required(path))
    seen: set[str] = set()
    for i, value in enumerate(values):
        if value in seen:
            errs.append(field.duplicate(f"{path}[{i}]", value))
        seen.add(value)


def validate_storage_class_update(new: Object, old: Object) -> Errors:
    errs = validate_storage_class(new)
    validate_meta_update(errs, new, old)
    if not equal(new.get("parameters"), old.get("parameters")):
        errs.append(field.invalid("parameters", sorted_map(new.get("parameters")), IMMUTABLE))
    immutable(errs, new.get("provisioner") or "", old.get("provisioner") or "", "provisioner")
    for key in ("reclaimPolicy", "volumeBindingMode"):
        immutable(errs, new.get(key), old.get(key), key)
    return errs


def validate_attributes_class(obj: Object) -> Errors:
    errs: Errors = []
    _attributes_class(errs, obj)
    return errs


def _attributes_class(errs: Errors, obj: Object) -> None:
    validate_meta(errs, obj, namespaced=False)
    _provisioner(errs, obj.get("driverName") or "", "driverName")
    parameters = obj.get("parameters") or {}
    _parameters(errs, parameters)
    if not parameters:
        errs.append(field.required("parameters", "must contain at least one key/value pair"))


def validate_attributes_class_update(new: Object, old: Object) -> Errors:
    errs: Errors = []
    validate_meta_update(errs, new, old)
    if (new.get("driverName") or "") != (old.get("driverName") or ""):
        errs.append(field.forbidden("driverName", "updates to driverName are forbidden."))
    if not equal(new.get("parameters"), old.get("parameters")):
        errs.append(field.forbidden("parameters", "updates to parameters are forbidden."))
    _attributes_class(errs, new)
    return errs


# VolumeAttachment


def validate_attachment(obj: Object) -> Errors:
    """The errors of a VolumeAttachment."""
    errs: Errors = []
    validate_meta(errs, obj, namespaced=False)
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    csi_driver_name(errs, spec.get("attacher") or "", "spec.attacher")
    source = spec.get("source") or {}
    _attachment_source(errs, source)
    node = spec.get("nodeName") or ""
    invalid_all(errs, "spec.nodeName", node, name_is_subdomain(node))
    metadata = status.get("attachmentMetadata") or {}
    if sum(names.byte_length(k) + names.byte_length(v or "") for k, v in metadata.items()) > _MAX_PARAMETERS_SIZE:
        errs.append(field.too_long("status.attachmentMetadata", _MAX_PARAMETERS_SIZE))
    for key in ("attachError", "detachError"):
        if status.get(key) is not None:
            _volume_error(errs, status[key], f"status.{key}")
    name = source.get("persistentVolumeName")
    if name is not None:
        invalid_all(errs, "spec.source.persistentVolumeName", name, name_is_subdomain(name))
    return errs


def _attachment_source(errs: Errors, source: Object) -> None:
    inline, name, at = source.get("inlineVolumeSpec"), source.get("persistentVolumeName"), "spec.source"
    text = "must specify exactly one of inlineVolumeSpec and persistentVolumeName"
    if inline is None and name is None:
        errs.append(field.required(at, text))
    elif inline is not None and name is not None:
        errs.append(field.forbidden(at, text))
    elif inline is not None:
        volume_spec(errs, inline, "", f"{at}.inlineVolumeSpec", inline=True)
    elif not name:
        text = "must specify non empty persistentVolumeName"
        errs.append(field.required(f"{at}.persistentVolumeName", text))


def _volume_error(errs: Errors, error: Object, path: str) -> None:
    if names.byte_length(error.get("message") or "") > _MAX_ERROR:
        # The limit in the message is not the one that is applied.
        errs.append(field.too_long(f"{path}.message", _MAX_PARAMETERS_SIZE))
    code = error.get("errorCode")
    if code is not None and code < 0:
        errs.append(field.invalid(f"{path}.errorCode", code, names.range_error(0, 2147483647)))


def validate_attachment_update(new: Object, old: Object) -> Errors:
    """The errors of an update of a VolumeAttachment, whose specification is immutable."""
    errs = validate_attachment(new)
    after, before = new.get("spec") or {}, old.get("spec") or {}
    if not equal(after, before):
        source = after.get("source") or {}
        shown = {
            "Attacher": after.get("attacher") or "",
            "Source": {
                "PersistentVolumeName": source.get("persistentVolumeName"),
                "InlineVolumeSpec": internal_value("PersistentVolumeSpec", source.get("inlineVolumeSpec")),
            },
            "NodeName": after.get("nodeName") or "",
        }
        errs.append(field.invalid("spec", shown, IMMUTABLE))
    return errs


# CSINode


def validate_csi_node(obj: Object) -> Errors:
    errs: Errors = []
    validate_meta(errs, obj, namespaced=False)
    seen: set[str] = set()
    for i, driver in enumerate((obj.get("spec") or {}).get("drivers") or ()):
        _node_driver(errs, driver, seen, f"spec.drivers[{i}]")
    return errs


def _node_driver(errs: Errors, driver: Object, seen: set[str], path: str) -> None:
    name, identity = driver.get("name") or "", driver.get("nodeID") or ""
    csi_driver_name(errs, name, f"{path}.name")
    if not identity:
        errs.append(field.required(f"{path}.nodeID"))
    if names.byte_length(identity) > _MAX_NODE_ID:
        errs.append(field.invalid(f"{path}.nodeID", identity, f"must be {_MAX_NODE_ID} characters or less"))
    non_negative(errs, (driver.get("allocatable") or {}).get("count"), f"{path}.allocatable.count")
    if name in seen:
        errs.append(field.duplicate(f"{path}.name", name))
    seen.add(name)
    keys: set[str] = set()
    for key in driver.get("topologyKeys") or ():
        if not key:
            errs.append(field.required(path))
        if key in keys:
            errs.append(field.duplicate(path, key))
        keys.add(key)
        qualified(errs, key, path)


def validate_csi_node_update(new: Object, old: Object) -> Errors:
    """Drivers may be added and removed; of one that stays, only how many volumes it takes may change."""
    errs = validate_csi_node(new)
    after = (new.get("spec") or {}).get("drivers") or []
    for before in (old.get("spec") or {}).get("drivers") or ():
        for driver in after:
            if driver.get("name") != before.get("name"):
                continue
            kept: list[dict[str, Any]] = [
                {key: value for key, value in d.items() if key != "allocatable"} for d in (driver, before)
            ]
            if not equal(*kept):
                shown = {
                    "Name": driver.get("name") or "",
                    "NodeID": driver.get("nodeID") or "",
                    "TopologyKeys": driver.get("topologyKeys"),
                    "Allocatable": None,
                }
                errs.append(field.invalid("spec.drivers", shown, IMMUTABLE))
    return errs


# CSIDriver


def validate_csi_driver(obj: Object) -> Errors:
    errs: Errors = []
    validate_meta(errs, obj, namespaced=False)
    _driver_spec(errs, obj.get("spec") or {})
    return errs


def validate_csi_driver_update(new: Object, old: Object) -> Errors:
    errs: Errors = []
    validate_meta_update(errs, new, old)
    after, before = new.get("spec") or {}, old.get("spec") or {}
    _driver_spec(errs, after)
    immutable(errs, after.get("attachRequired"), before.get("attachRequired"), "spec.attachedRequired")
    modes = "volumeLifecycleModes"
    immutable(errs, after.get(modes), before.get(modes), f"spec.{modes}")
    return errs


def _driver_spec(errs: Errors, spec: Object) -> None:
    """Validate the specification of a CSIDriver; appends to ``errs``."""
    for key, shown in (
        ("attachRequired", "attachedRequired"),
        ("podInfoOnMount", "podInfoOnMount"),
        ("storageCapacity", "storageCapacity"),
    ):
        if spec.get(key) is None:
            errs.append(field.required(f"spec.{shown}"))
    policy = spec.get("fsGroupPolicy")
    if policy is not None and policy not in _FS_GROUP_POLICIES:
        errs.append(field.not_supported("spec.fsGroupPolicy", policy, _FS_GROUP_POLICIES))
    requests = spec.get("tokenRequests") or []
    _token_requests(errs, requests, "spec.tokenRequests")
    for mode in spec.get("volumeLifecycleModes") or ():
        if mode not in ("Persistent", "Ephemeral"):
            errs.append(field.not_supported("spec.volumeLifecycleModes", mode, ("Persistent", "Ephemeral")))
    if spec.get("seLinuxMount") is None:
        errs.append(field.required("spec.seLinuxMount"))
    period = spec.get("nodeAllocatableUpdatePeriodSeconds")
    if period is not None and period < 10:
        text = "must be greater than or equal to 10 seconds"
        errs.append(field.invalid("spec.nodeAllocatableUpdatePeriodSeconds", period, text))
    in_secrets = spec.get("serviceAccountTokenInSecrets")
    if in_secrets is not None and not requests:
        text = "serviceAccountTokenInSecrets is set but no tokenRequests are specified"
        errs.append(field.invalid("spec.serviceAccountTokenInSecrets", in_secrets, text))


def _token_requests(errs: Errors, requests: list[Object], path: str) -> None:
    seen: set[str] = set()
    for i, request in enumerate(requests):
        audience, seconds = request.get("audience") or "", request.get("expirationSeconds")
        if audience in seen:
            errs.append(field.duplicate(f"{path}[{i}].audience", audience))
            continue
        seen.add(audience)
        at = f"{path}[{i}].expirationSeconds"
        if seconds is not None and seconds < 600:
            errs.append(field.invalid(at, seconds, "may not specify a duration less than 10 minutes"))
        if seconds is not None and seconds > 1 << 32:
            errs.append(field.invalid(at, seconds, "may not specify a duration larger than 2^32 seconds"))


# CSIStorageCapacity


def validate_capacity(obj: Object) -> Errors:
    errs: Errors = []
    _capacity(errs, obj, bad_values=False)
    return errs


def _capacity(errs: Errors, obj: Object, *, bad_values: bool) -> None:
    validate_meta(errs, obj, namespaced=True)
    label_selector(errs, obj.get("nodeTopology"), "nodeTopology", allow_bad_values=bad_values)
    name = obj.get("storageClassName") or ""
    invalid_all(errs, "storageClassName", name, name_is_subdomain(name))
    amount = obj.get("capacity")
    if amount is not None and Quantity(amount).nano < 0:
        errs.append(field.invalid("capacity", str(Quantity(amount)), "must be greater than or equal to 0"))


def validate_capacity_update(new: Object, old: Object) -> Errors:
    errs: Errors = []
    stored: Errors = []
    label_selector(stored, old.get("nodeTopology"), "")
    _capacity(errs, new, bad_values=bool(stored))
    validate_meta_update(errs, new, old)
    if not equal(new.get("nodeTopology"), old.get("nodeTopology")):
        errs.append(field.invalid("nodeTopology", new.get("nodeTopology"), IMMUTABLE))
    immutable(errs, new.get("storageClassName") or "", old.get("storageClassName") or "", "storageClassName")
    return errs
