"""Validation of PersistentVolume, and of the volume inside a VolumeAttachment.

Source: https://kubernetes.io/docs/reference/generated/kubernetes-api/v1.36/#persistentvolume-v1-core
"""

from __future__ import annotations

import posixpath

from tiphys.api import fielderrors as field
from tiphys.api.meta import names
from tiphys.api.object import Object
from tiphys.validation.core.paths import no_backsteps
from tiphys.validation.core.persistentvolumeclaim import VOLUME_MODES, access_modes
from tiphys.validation.pods.placement import node_selector
from tiphys.validation.pods.resources import basic_amount, positive_amount
from tiphys.validation.pods.volumes import (
    ISCSI_TOO_LONG,
    MORE_THAN_ONE,
    SHARED,
    Check,
    azure_disk,
    csi_driver_name,
    fibre_channel,
    flex_volume,
    flocker,
    glusterfs_persistent,
    host_path,
    iscsi_details,
    iscsi_name,
    nfs,
    quobyte,
    storage_os,
)
from tiphys.validation.shared.common import (
    IMMUTABLE,
    Errors,
    equal,
    immutable,
    invalid_all,
    label,
    name_is_subdomain,
    selector_has_bad_value,
    subdomain,
)
from tiphys.validation.shared.internal import spec_diff
from tiphys.validation.shared.objectmeta import meta_of, validate_meta, validate_meta_update

_RECLAIM = ("Delete", "Recycle", "Retain")
_INLINE = "may not be specified in the context of inline volumes"
_BETA_TO_GA = {
    "failure-domain.beta.kubernetes.io/zone": "topology.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region": "topology.kubernetes.io/region",
    "beta.kubernetes.io/os": "kubernetes.io/os",
    "beta.kubernetes.io/arch": "kubernetes.io/arch",
    "beta.kubernetes.io/instance-type": "node.kubernetes.io/instance-type",
}


_MOUNT_OPTIONS = "volume.beta.kubernetes.io/mount-options"
_MOUNTED_WITH_OPTIONS = (
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "glusterfs",
    "nfs",
    "rbd",
    "quobyte",
    "iscsi",
    "cinder",
    "cephfs",
    "azureFile",
    "vsphereVolume",
    "azureDisk",
    "photonPersistentDisk",
)


def validate_volume(obj: Object) -> Errors:
    errs: Errors = []
    _volume(errs, obj, bad_values=False)
    _mount_options(errs, obj)
    return errs


def _mount_options(errs: Errors, obj: Object) -> None:
    """The annotation that former versions had for mount options; only the volumes of that time know it."""
    spec = obj.get("spec") or {}
    annotations = meta_of(obj).get("annotations") or {}
    if _MOUNT_OPTIONS in annotations and not any(spec.get(key) is not None for key in _MOUNTED_WITH_OPTIONS):
        at = f"metadata.annotations.{_MOUNT_OPTIONS}"
        errs.append(field.forbidden(at, "may not specify mount options for this volume type"))


def _volume(errs: Errors, obj: Object, *, bad_values: bool) -> None:
    validate_meta(errs, obj, namespaced=False)
    volume_spec(errs, obj.get("spec") or {}, meta_of(obj).get("name") or "", "spec", bad_values=bad_values)


def volume_spec(
    errs: Errors, spec: Object, name: str, path: str, *, inline: bool = False, bad_values: bool = False
) -> None:
    """``inline``: the volume is part of an attachment, without a claim or a lifetime separate from it."""
    if inline:
        _inline(errs, spec, path)
    modes = spec.get("accessModes") or []
    if not modes:
        errs.append(field.required(f"{path}.accessModes"))
    access_modes(errs, modes, f"{path}.accessModes")
    if not inline:
        _capacity(errs, spec.get("capacity"), f"{path}.capacity")
    _reclaim_policy(errs, spec.get("persistentVolumeReclaimPolicy"), path, inline=inline)
    affinity = spec.get("nodeAffinity")
    if affinity is not None:
        _node_affinity(errs, affinity, f"{path}.nodeAffinity", inline=inline, bad_values=bad_values)
    _sources(errs, spec, name, path, has_affinity=affinity is not None and not inline)
    target = (spec.get("hostPath") or {}).get("path")
    if target and posixpath.normpath(target) in ("/", "//") and spec.get("persistentVolumeReclaimPolicy") == "Recycle":
        text = "may not be 'recycle' for a hostPath mount of '/'"
        errs.append(field.forbidden(f"{path}.persistentVolumeReclaimPolicy", text))
    _classes(errs, spec, path, inline=inline)


def _inline(errs: Errors, spec: Object, path: str) -> None:
    for key, is_set in (("claimRef", spec.get("claimRef") is not None), ("capacity", bool(spec.get("capacity")))):
        if is_set:
            errs.append(field.forbidden(f"{path}.{key}", _INLINE))
    if spec.get("csi") is None:
        errs.append(field.required(f"{path}.csi", "has to be specified in the context of inline volumes"))


def _capacity(errs: Errors, shown: dict[str, str] | None, path: str) -> None:
    capacity = shown or {}
    if not capacity:
        errs.append(field.required(path))
    if "storage" not in capacity or len(capacity) > 1:
        errs.append(field.not_supported(path, shown, ("storage",)))
    for name, text in capacity.items():
        basic_amount(errs, text, f"{path}[{name}]")
        positive_amount(errs, text, f"{path}[{name}]")


def _reclaim_policy(errs: Errors, policy: str | None, path: str, *, inline: bool) -> None:
    at = f"{path}.persistentVolumeReclaimPolicy"
    if not policy:
        return
    if inline:
        if policy != "Retain":
            errs.append(field.forbidden(at, "may only be Retain in the context of inline volumes"))
    elif policy not in _RECLAIM:
        errs.append(field.not_supported(at, policy, _RECLAIM))


def _node_affinity(errs: Errors, affinity: Object, path: str, *, inline: bool, bad_values: bool) -> None:
    if inline:
        errs.append(field.forbidden(path, _INLINE))
    elif affinity.get("required") is None:
        errs.append(field.required(f"{path}.required", "must specify required node constraints"))
    else:
        node_selector(errs, affinity["required"], f"{path}.required", allow_bad_values=bad_values)


def _sources(errs: Errors, spec: Object, name: str, path: str, *, has_affinity: bool) -> None:
    count = 0
    for key, check in _SOURCES.items():
        source = spec.get(key)
        if source is None:
            continue
        if count and key != "flexVolume":
            errs.append(field.forbidden(f"{path}.{'cephFS' if key == 'cephfs' else key}", MORE_THAN_ONE))
            continue
        count += 1
        at = f"{path}.{'persistentDisk' if key == 'gcePersistentDisk' else key}"
        if key == "iscsi":
            _iscsi(errs, source, name, at)
        else:
            check(errs, source, at)
        if key == "local" and not has_affinity:
            errs.append(field.required(f"{path}.nodeAffinity", "Local volume requires node affinity"))
    if not count:
        errs.append(field.required(path, "must specify a volume type"))


def _iscsi(errs: Errors, source: Object, name: str, path: str) -> None:
    portal = source.get("targetPortal") or ""
    if not portal:
        errs.append(field.required(f"{path}.targetPortal"))
    if source.get("initiatorName") is not None and names.byte_length(f"{name}:{portal}") > 64:
        errs.append(field.invalid(f"{path}.targetportal", portal, ISCSI_TOO_LONG))
    iscsi_details(errs, source, path, "must be valid format")
    if source.get("secretRef") is not None and not source["secretRef"].get("name"):
        errs.append(field.required(f"{path}.secretRef.name"))
    if source.get("initiatorName") is not None:
        iscsi_name(errs, source["initiatorName"], f"{path}.initiatorname", "must be valid format")


def _cinder(errs: Errors, source: Object, path: str) -> None:
    if not source.get("volumeID"):
        errs.append(field.required(f"{path}.volumeID"))
    _secret_ref(errs, source, path)


def _secret_ref(errs: Errors, source: Object, path: str) -> None:
    ref = source.get("secretRef")
    if ref is not None:
        errs.extend(field.required(f"{path}.secretRef.{key}") for key in ("name", "namespace") if not ref.get(key))


def _azure_file(errs: Errors, source: Object, path: str) -> None:
    errs.extend(field.required(f"{path}.{key}") for key in ("secretName", "shareName") if not source.get(key))
    if source.get("secretNamespace") == "":
        errs.append(field.required(f"{path}.secretNamespace"))


def _local(errs: Errors, source: Object, path: str) -> None:
    if not source.get("path"):
        errs.append(field.required(f"{path}.path"))
    else:
        no_backsteps(errs, source["path"], f"{path}.path")


def _storage_os(errs: Errors, source: Object, path: str) -> None:
    storage_os(errs, source, path)
    ref = source.get("secretRef")
    if ref is not None and not ref.get("namespace"):
        errs.append(field.required(f"{path}.secretRef.namespace"))


def _csi(errs: Errors, source: Object, path: str) -> None:
    csi_driver_name(errs, source.get("driver") or "", f"{path}.driver")
    if not source.get("volumeHandle"):
        errs.append(field.required(f"{path}.volumeHandle"))
    for key in (
        "controllerPublishSecretRef",
        "controllerExpandSecretRef",
        "nodePublishSecretRef",
        "nodeExpandSecretRef",
    ):
        if source.get(key) is not None:
            _csi_secret(errs, source[key], f"{path}.{key}")


def _csi_secret(errs: Errors, ref: Object, path: str) -> None:
    if not ref.get("name"):
        errs.append(field.required(f"{path}.name"))
    else:
        subdomain(errs, ref["name"], f"{path}.name")
    if not ref.get("namespace"):
        errs.append(field.required(f"{path}.namespace"))
    else:
        label(errs, ref["namespace"], f"{path}.namespace")


def _handled_apart(errs: Errors, source: Object, path: str) -> None:
    raise AssertionError("iSCSI needs the name of the volume")


_SOURCES: dict[str, Check] = {
    "hostPath": host_path,
    "gcePersistentDisk": SHARED["gcePersistentDisk"],
    "awsElasticBlockStore": SHARED["awsElasticBlockStore"],
    "glusterfs": glusterfs_persistent,
    "flocker": flocker,
    "nfs": nfs,
    "rbd": SHARED["rbd"],
    "quobyte": quobyte,
    "cephfs": SHARED["cephfs"],
    "iscsi": _handled_apart,
    "cinder": _cinder,
    "fc": fibre_channel,
    "flexVolume": flex_volume,
    "azureFile": _azure_file,
    "vsphereVolume": SHARED["vsphereVolume"],
    "photonPersistentDisk": SHARED["photonPersistentDisk"],
    "portworxVolume": SHARED["portworxVolume"],
    "azureDisk": azure_disk,
    "scaleIO": SHARED["scaleIO"],
    "local": _local,
    "storageos": _storage_os,
    "csi": _csi,
}


def _classes(errs: Errors, spec: Object, path: str, *, inline: bool) -> None:
    """Validate class, volume mode and attributes class of a volume; appends to ``errs``."""
    name, mode = spec.get("storageClassName"), spec.get("volumeMode")
    if name:
        if inline:
            errs.append(field.forbidden(f"{path}.storageClassName", _INLINE))
        else:
            invalid_all(errs, f"{path}.storageClassName", name, name_is_subdomain(name))
    if mode is not None:
        if not inline:
            if mode not in VOLUME_MODES:
                errs.append(field.not_supported(f"{path}.volumeMode", mode, VOLUME_MODES))
        elif mode != "Filesystem":
            text = "may not specify volumeMode other than Filesystem in the context of inline volumes"
            errs.append(field.forbidden(f"{path}.volumeMode", text))
    attributes = spec.get("volumeAttributesClassName")
    # Of a volume inside an attachment upstream does not look at the class.
    if attributes is not None and not inline:
        at = f"{path}.volumeAttributesClassName"
        if not attributes:
            errs.append(field.required(at, "an empty string is disallowed"))
        else:
            invalid_all(errs, at, attributes, name_is_subdomain(attributes))
        if spec.get("csi") is None:
            errs.append(field.required(f"{path}.csi", "has to be specified when using volumeAttributesClassName"))


def validate_volume_update(new: Object, old: Object) -> Errors:
    """The errors of an update of a PersistentVolume, whose source and node affinity are immutable."""
    errs: Errors = []
    before, after = old.get("spec") or {}, new.get("spec") or {}
    terms = ((before.get("nodeAffinity") or {}).get("required") or {}).get("nodeSelectorTerms") or ()
    bad_values = any(selector_has_bad_value(term) for term in terms)
    _volume(errs, new, bad_values=bad_values)
    _mount_options(errs, new)
    _volume(errs, new, bad_values=bad_values)  # upstream looks twice, and counts twice
    _source_unchanged(errs, after, before)
    immutable(errs, after.get("volumeMode"), before.get("volumeMode"), "volumeMode")
    if before.get("nodeAffinity") is not None and not _affinity_kept(after.get("nodeAffinity"), before["nodeAffinity"]):
        from tiphys.validation.shared.internal import internal_value

        shown = internal_value("VolumeNodeAffinity", after.get("nodeAffinity"))
        text = f"{IMMUTABLE}, except for updating from beta label to GA"
        errs.append(field.invalid("nodeAffinity", shown, text))
    if before.get("volumeAttributesClassName") is not None and after.get("volumeAttributesClassName") is None:
        text = "update from non-nil value to nil is forbidden"
        errs.append(field.forbidden("spec.volumeAttributesClassName", text))
    return errs


def _source_unchanged(errs: Errors, after: Object, before: Object) -> None:
    new = {key: after[key] for key in _SOURCES if after.get(key) is not None}
    old = {key: before[key] for key in _SOURCES if before.get(key) is not None}
    if "csi" in old and "csi" in new and old["csi"].get("controllerExpandSecretRef") is None:
        new["csi"] = {key: value for key, value in new["csi"].items() if key != "controllerExpandSecretRef"}
    if not equal(new, old):
        difference = spec_diff("PersistentVolumeSource", old, new)
        text = f"spec.persistentvolumesource is immutable after creation\n{difference}"
        errs.append(field.forbidden("spec.persistentvolumesource", text))


def _affinity_kept(new: Object | None, old: Object) -> bool:
    """Equal, but for labels that went from beta to GA."""
    before = (old.get("required") or {}).get("nodeSelectorTerms") or []
    after = ((new or {}).get("required") or {}).get("nodeSelectorTerms") or []
    if new is None or len(before) != len(after):
        return False
    return all(_term_kept(a, b) for a, b in zip(after, before, strict=True))


def _term_kept(new: Object, old: Object) -> bool:
    for key in ("matchExpressions", "matchFields"):
        before, after = old.get(key) or [], new.get(key) or []
        if len(before) != len(after):
            return False
        for a, b in zip(after, before, strict=True):
            if a.get("key") != b.get("key") and _BETA_TO_GA.get(b.get("key") or "", "") != (a.get("key") or ""):
                return False
            if not equal({**a, "key": ""}, {**b, "key": ""}):
                return False
    return True


def validate_volume_status_update(new: Object, old: Object) -> Errors:
    errs: Errors = []
    validate_meta_update(errs, new, old)
    if not meta_of(new).get("resourceVersion"):
        errs.append(field.required("resourceVersion"))
    return errs
