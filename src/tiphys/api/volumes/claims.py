"""Which claims a pod mounts, and how a claim and its volume point at each other.

Source: https://kubernetes.io/docs/concepts/storage/persistent-volumes/#binding
"""

from __future__ import annotations

from collections.abc import Iterator

from tiphys.api.meta.objects import annotations_of, name_of, namespace_of, uid_of
from tiphys.api.object import Object

BIND_COMPLETED = "pv.kubernetes.io/bind-completed"
BOUND_BY_CONTROLLER = "pv.kubernetes.io/bound-by-controller"
SELECTED_NODE = "volume.kubernetes.io/selected-node"
"""On a claim: for which node the scheduler wants its volume to be provisioned."""


def claim_name(pod: Object, volume: Object) -> str:
    """The claim of one of a pod's volumes; empty if it has none."""
    if volume.get("persistentVolumeClaim"):
        return str(volume["persistentVolumeClaim"]["claimName"])
    return ephemeral_claim(pod, volume) if volume.get("ephemeral") else ""


def claim_names(pod: Object) -> Iterator[str]:
    """Those of all of a pod's volumes."""
    for volume in pod["spec"].get("volumes") or ():
        if name := claim_name(pod, volume):
            yield name


def claims_of(pod: Object) -> list[str]:
    """Keys of the claims that a pod mounts, those of its ephemeral volumes included."""
    return [f"{namespace_of(pod)}/{name}" for name in claim_names(pod)]


def ephemeral_claim(pod: Object, volume: Object) -> str:
    """Name of the claim that is made for an ephemeral volume."""
    return f"{name_of(pod)}-{volume['name']}"


def is_of(obj: Object, pod: Object) -> bool:
    """Whether a claim was made for the pod: the pod controls it."""
    owners = obj["metadata"].get("ownerReferences") or ()
    return namespace_of(obj) == namespace_of(pod) and any(
        owner.get("controller") and owner.get("uid") == uid_of(pod) for owner in owners
    )


def is_bound(claim: Object) -> bool:
    """Whether the claim has its volume, and both know it."""
    return bool(claim["spec"].get("volumeName")) and BIND_COMPLETED in annotations_of(claim)
