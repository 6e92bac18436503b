"""Rows of volumes, claims, classes and drivers, and of devices.

Source: https://kubernetes.io/docs/reference/using-api/api-concepts/#receiving-resources-as-tables
"""

from __future__ import annotations

from collections.abc import Sequence

from tiphys.api.meta.quantity import canonical
from tiphys.api.object import Object
from tiphys.api.tables.formats import (
    NONE,
    UNSET,
    Cells,
    age,
    conditions,
    name,
    since,
)

_MODES = {"ReadWriteOnce": "RWO", "ReadOnlyMany": "ROX", "ReadWriteMany": "RWX", "ReadWriteOncePod": "RWOP"}
_DEFAULT_CLASSES = (
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
)
_CLASS_ANNOTATION = "volume.beta.kubernetes.io/storage-class"


def print_volume(obj: Object, now: float) -> Cells:
    """The row of a persistent volume; ``now`` in seconds since the epoch."""
    spec, status = obj["spec"], obj.get("status", {})
    claim = spec.get("claimRef")
    return [
        name(obj),
        canonical(str((spec.get("capacity") or {}).get("storage", "0"))),
        _access_modes(spec.get("accessModes") or []),
        spec.get("persistentVolumeReclaimPolicy", ""),
        _phase(obj),
        f"{claim.get('namespace', '')}/{claim.get('name', '')}" if claim else "",
        _class(obj),
        spec.get("volumeAttributesClassName", UNSET),
        status.get("reason", ""),
        age(obj, now),
        spec.get("volumeMode", UNSET),
    ]


def print_claim(obj: Object, now: float) -> Cells:
    spec, status = obj["spec"], obj.get("status", {})
    bound = bool(spec.get("volumeName"))
    return [
        name(obj),
        _phase(obj),
        spec.get("volumeName", ""),
        canonical(str((status.get("capacity") or {}).get("storage", "0"))) if bound else "",
        _access_modes(status.get("accessModes") or []) if bound else "",
        _class(obj),
        spec.get("volumeAttributesClassName", UNSET),
        age(obj, now),
        spec.get("volumeMode", UNSET),
    ]


def _phase(obj: Object) -> str:
    return "Terminating" if obj["metadata"].get("deletionTimestamp") else obj.get("status", {}).get("phase", "")


def _access_modes(modes: Sequence[str]) -> str:
    return ",".join(short for mode, short in _MODES.items() if mode in modes)


def _class(obj: Object) -> str:
    annotated = (obj["metadata"].get("annotations") or {}).get(_CLASS_ANNOTATION)
    return annotated if annotated is not None else obj["spec"].get("storageClassName") or ""


def print_storage_class(obj: Object, now: float) -> Cells:
    annotations = obj["metadata"].get("annotations") or {}
    default = any(annotations.get(key) == "true" for key in _DEFAULT_CLASSES)
    return [
        name(obj) + (" (default)" if default else ""),
        obj.get("provisioner", ""),
        obj.get("reclaimPolicy", "Delete"),
        obj.get("volumeBindingMode", "Immediate"),
        bool(obj.get("allowVolumeExpansion")),
        age(obj, now),
    ]


def print_attributes_class(obj: Object, now: float) -> Cells:
    return [name(obj), obj.get("driverName", ""), age(obj, now)]


def print_attachment(obj: Object, now: float) -> Cells:
    spec = obj["spec"]
    volume = spec.get("source", {}).get("persistentVolumeName") or ""
    attached = bool(obj.get("status", {}).get("attached"))
    return [name(obj), spec.get("attacher", ""), volume, spec.get("nodeName", ""), attached, age(obj, now)]


def print_csi_node(obj: Object, now: float) -> Cells:
    return [name(obj), len(obj["spec"].get("drivers") or []), age(obj, now)]


def print_csi_driver(obj: Object, now: float) -> Cells:
    spec = obj["spec"]
    requests = spec.get("tokenRequests")
    return [
        name(obj),
        spec.get("attachRequired", True),
        bool(spec.get("podInfoOnMount")),
        bool(spec.get("storageCapacity")),
        UNSET if requests is None else ",".join(r.get("audience", "") for r in requests),
        bool(spec.get("requiresRepublish")),
        ",".join(spec.get("volumeLifecycleModes") or []) or NONE,
        age(obj, now),
    ]


def print_resource_claim(obj: Object, now: float) -> Cells:
    status, deleted = obj.get("status", {}), bool(obj["metadata"].get("deletionTimestamp"))
    states = ["deleted"] if deleted else []
    if status.get("allocation"):
        states += ["allocated"] + (["reserved"] if status.get("reservedFor") else [])
    elif not deleted:
        states.append("pending")
    return [name(obj), ",".join(states), age(obj, now)]


def print_resource_slice(obj: Object, now: float) -> Cells:
    spec = obj["spec"]
    return [name(obj), spec.get("nodeName", ""), spec.get("driver", ""), spec["pool"].get("name", ""), age(obj, now)]


def print_device_taint(obj: Object, now: float) -> Cells:
    taint = obj["spec"].get("taint") or {}
    added = since(taint["timeAdded"], now) if taint.get("timeAdded") else ""
    return [name(obj), taint.get("key", ""), taint.get("value", ""), taint.get("effect", ""), added, age(obj, now)]


def print_pool_status_request(obj: Object, now: float) -> Cells:
    """The row of a request for the status of resource pools: devices by state, summed over the pools."""
    status = obj.get("status")
    true = {type: c for type, c in conditions(obj).items() if c["status"] == "True"}
    counts: list[str] = ["-"] * 5
    pools = (status or {}).get("pools") or []
    if status is not None and "Failed" not in true:
        fields = ("totalDevices", "availableDevices", "allocatedDevices", "unavailableDevices")
        counts = [str(sum(p.get(f) or 0 for p in pools)) for f in fields]
        counts.append(str(sum(p.get("validationError") is not None for p in pools)))
    total = (status or {}).get("poolCount") or 0
    text = next((t for t in ("Complete", "Failed") if t in true), "Pending")
    if text == "Complete" and total > len(pools):
        text = f"Complete ({len(pools)}/{total} pools)"
    completed = since(true["Complete"].get("lastTransitionTime"), now) if "Complete" in true else NONE
    return [name(obj), obj["spec"].get("driver", ""), *counts, total, text, completed]
