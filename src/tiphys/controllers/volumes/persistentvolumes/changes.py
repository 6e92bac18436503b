"""What binding, unbinding and releasing change in a claim and in a volume. None stands for "it is so already".

Source: https://kubernetes.io/docs/concepts/storage/persistent-volumes/#lifecycle-of-a-volume-and-claim
"""

from __future__ import annotations

from tiphys.api.meta.quantity import Quantity
from tiphys.api.object import Object
from tiphys.api.volumes.claims import BIND_COMPLETED, BOUND_BY_CONTROLLER
from tiphys.controlkit.objects import (
    annotations_of,
    copy,
    name_of,
    set_annotation,
)

PROVISIONED_BY = "pv.kubernetes.io/provisioned-by"
MIGRATED_TO = "pv.kubernetes.io/migrated-to"
PROVISIONER = "volume.kubernetes.io/storage-provisioner"
OLD_PROVISIONER = "volume.beta.kubernetes.io/storage-provisioner"

_BEFORE_RESIZE = "volume.alpha.kubernetes.io/pre-resize-capacity"


def volume_without_claim(volume: Object) -> Object:
    """Free again; one that somebody kept for a claim by name stays kept for the next claim of that name."""
    wanted = copy(volume)
    if BOUND_BY_CONTROLLER not in annotations_of(volume):
        wanted["spec"]["claimRef"].pop("uid", None)
        return wanted
    del wanted["spec"]["claimRef"]
    del wanted["metadata"]["annotations"][BOUND_BY_CONTROLLER]
    return wanted


def claim_for(claim: Object, volume: Object) -> Object | None:
    """The claim, pointing at the volume."""
    wanted = copy(claim)
    changed = False
    if claim["spec"].get("volumeName", "") != name_of(volume):
        wanted["spec"]["volumeName"] = name_of(volume)
        if BOUND_BY_CONTROLLER not in annotations_of(claim):
            set_annotation(wanted, BOUND_BY_CONTROLLER, "yes")
        changed = True
    if BIND_COMPLETED not in annotations_of(claim):
        set_annotation(wanted, BIND_COMPLETED, "yes")
        changed = True
    return wanted if changed else None


def claim_with_provisioner(claim: Object, provisioner: str) -> Object | None:
    """The claim, annotated so that the provisioner makes a volume."""
    if annotations_of(claim).get(PROVISIONER) == provisioner:
        return None
    wanted = copy(claim)
    set_annotation(wanted, OLD_PROVISIONER, provisioner)
    set_annotation(wanted, PROVISIONER, provisioner)
    return wanted


def claim_status(claim: Object, phase: str, volume: Object | None) -> Object | None:
    """The claim with the status that goes with its volume.

    The capacity is taken over on binding only: afterwards it is the resizer's.
    """
    status = dict(claim.get("status") or {})
    before = dict(status)
    status["phase"] = phase
    if volume is None:
        for field in ("accessModes", "capacity", "currentVolumeAttributesClassName"):
            status.pop(field, None)
    else:
        status["accessModes"] = volume["spec"].get("accessModes")
        if before.get("phase") != phase:
            capacity = _capacity(volume, before.get("capacity") or {})
            if capacity:
                status["capacity"] = capacity
        attributes = volume["spec"].get("volumeAttributesClassName")
        if (before.get("phase"), phase) == ("Pending", "Bound") and attributes is not None:
            status["currentVolumeAttributesClassName"] = attributes
    return None if status == before else {**claim, "status": status}


def _capacity(volume: Object, current: Object) -> Object:
    offered: Object = volume["spec"].get("capacity") or {}
    before_resize = annotations_of(volume).get(_BEFORE_RESIZE)
    if before_resize is not None:
        return {**current, "storage": before_resize}
    same = "storage" in current and Quantity(current["storage"]) == Quantity(offered.get("storage", "0"))
    return current if same else offered


def volume_phase(volume: Object, phase: str, message: str = "") -> Object | None:
    current = volume.get("status") or {}
    if current.get("phase") == phase:
        return None
    status = {**current, "phase": phase, "message": message}
    if not message:
        del status["message"]
    return {**volume, "status": status}


def reclaim_trouble(volume: Object) -> tuple[str, str] | None:
    """Reason and message, if a released volume cannot be treated as its policy asks.

    Only provisioners outside of this controller delete volumes; they watch for released ones by themselves.
    """
    policy = volume["spec"].get("persistentVolumeReclaimPolicy")
    annotations = annotations_of(volume)
    if annotations.get(MIGRATED_TO) or policy == "Retain":
        return None
    if policy == "Recycle":
        return "VolumeFailedRecycle", "No recycler plugin found for the volume!"
    if policy != "Delete":
        return "VolumeUnknownReclaimPolicy", "Volume has unrecognized PersistentVolumeReclaimPolicy"
    provisioner = annotations.get(PROVISIONED_BY)
    if provisioner:
        inside = provisioner.startswith("kubernetes.io/")
        return ("VolumeFailedDelete", f"no volume plugin matched name: {provisioner}") if inside else None
    if volume["spec"].get("csi"):
        return None
    trouble = "no deletable volume plugin matched"
    return "VolumeFailedDelete", f'error getting deleter volume plugin for volume "{name_of(volume)}": {trouble}'
