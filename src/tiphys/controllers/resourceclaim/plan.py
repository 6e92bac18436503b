"""What pods and ResourceClaims ask of the controller: pure decisions.

Source: https://kubernetes.io/docs/concepts/scheduling-eviction/dynamic-resource-allocation/
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tiphys.api.object import Object
from tiphys.controlkit.objects import (
    annotations_of,
    controller_of,
    copy,
    is_controlled_by,
    is_deleting,
    name_of,
    namespace_of,
    status_of,
    uid_of,
)
from tiphys.controlkit.pods import is_finished, node_of

CLAIM_NAME = "resource.kubernetes.io/pod-claim-name"
"""The annotation of a generated claim: which of its pod's claims it is."""
FINALIZER = "resource.kubernetes.io/delete-protection"
_LONGEST_BASE = 57
"""What is left of a name of 63 characters for what the server does not add to it."""


def claims_of(pod: Object) -> list[Object]:
    return pod["spec"].get("resourceClaims") or []


def statuses_of(pod: Object) -> dict[str, str | None]:
    """The generated claims that a pod's status knows: each one's name, or None when it is not needed."""
    known = status_of(pod).get("resourceClaimStatuses") or ()
    return {entry["name"]: entry.get("resourceClaimName") for entry in known}


def name_for(pod: Object, entry: Object) -> str:
    """The name of the ResourceClaim behind one of a pod's claims; empty until one is made, or if none is needed."""
    return entry.get("resourceClaimName") or statuses_of(pod).get(entry["name"]) or ""


def claim_names(pod: Object) -> Iterator[str]:
    """The ResourceClaims that a pod uses, as far as they are there."""
    yield from filter(None, (name_for(pod, entry) for entry in claims_of(pod)))
    extended = status_of(pod).get("extendedResourceClaimStatus")
    if extended:
        yield extended["resourceClaimName"]


def may_still_run(pod: Object) -> bool:
    return not is_finished(pod) and not (is_deleting(pod) and not node_of(pod))


def needs_reservation(pod: Object, entry: Object, claim: Object | None) -> bool:
    """Whether a pod that is on a node already, past the scheduler, lacks the reservation of an allocated claim."""
    if claim is None or not node_of(pod) or status_of(claim).get("allocation") is None:
        return False
    if entry.get("resourceClaimTemplateName") is not None and not is_controlled_by(claim, pod):
        return False
    return all(consumer.get("uid") != uid_of(pod) for consumer in consumers(claim))


def consumers(claim: Object) -> list[Object]:
    return status_of(claim).get("reservedFor") or []


def consumes_as_pod(consumer: Object) -> bool:
    return not consumer.get("apiGroup") and consumer.get("resource") == "pods"


def reserved_for(claim: Object, pod: Object) -> Object:
    """The claim with the pod among its consumers."""
    wanted: Object = copy(claim)
    consumer = {"resource": "pods", "name": name_of(pod), "uid": uid_of(pod)}
    wanted["status"]["reservedFor"] = [*consumers(claim), consumer]
    return wanted


def released(claim: Object, remaining: list[Object]) -> Object:
    """The claim with the remaining consumers alone; without any, what was allocated is free for others."""
    wanted: Object = copy(claim)
    status = wanted.setdefault("status", {})
    status["reservedFor"] = remaining
    if not remaining and FINALIZER in finalizers_of(claim):
        status.pop("allocation", None)
    return wanted


def finalizers_of(claim: Object) -> list[str]:
    return claim["metadata"].get("finalizers") or []


def without_finalizer(claim: Object) -> Object:
    wanted: Object = copy(claim)
    wanted["metadata"]["finalizers"] = [name for name in finalizers_of(claim) if name != FINALIZER]
    return wanted


def generated_for(pod: Object, entry: Object, claims: Iterable[Object]) -> Object | None:
    """The claim that was made for one of a pod's claims, if the pod's status does not know it yet."""
    made = (claim for claim in claims if annotations_of(claim).get(CLAIM_NAME) == entry["name"])
    return next((claim for claim in made if is_controlled_by(claim, pod)), None)


def from_template(pod: Object, entry: Object, template: Object) -> Object:
    """The claim to create for a pod."""
    meta = template["spec"].get("metadata") or {}
    owner = {"apiVersion": "v1", "kind": "Pod", "name": name_of(pod), "uid": uid_of(pod), "controller": True}
    metadata: Object = {
        "generateName": base_name(name_of(pod), entry["name"]),
        "namespace": namespace_of(pod),
        "annotations": {**(meta.get("annotations") or {}), CLAIM_NAME: entry["name"]},
        "ownerReferences": [owner],
    }
    if meta.get("labels"):
        metadata["labels"] = dict(meta["labels"])
    spec = template["spec"]["spec"]
    return {"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim", "metadata": metadata, "spec": spec}


def base_name(pod: str, entry: str) -> str:
    """``pod-entry-``, both cut in proportion when that is too long."""
    whole = f"{pod}-{entry}-"
    if len(whole) <= _LONGEST_BASE:
        return whole
    kept = f"{pod[: len(pod) * _LONGEST_BASE // len(whole)]}-"
    return f"{kept}{entry[: len(entry) * _LONGEST_BASE // len(whole)]}"


def owning_pod(claim: Object) -> Object | None:
    """The owner reference to the pod that a claim was generated for."""
    owner = controller_of(claim)
    if owner is None or owner.get("kind") != "Pod" or owner.get("apiVersion") != "v1":
        return None
    return owner
