"""What is written into a volume to bind it to a claim: by the scheduler, or by the binder of claims.

Source: https://kubernetes.io/docs/concepts/storage/persistent-volumes/#binding
"""

from __future__ import annotations

from tiphys.api.meta.copying import copy
from tiphys.api.meta.objects import annotations_of, name_of, namespace_of, set_annotation, uid_of
from tiphys.api.object import Object
from tiphys.api.volumes.claims import BOUND_BY_CONTROLLER
from tiphys.api.volumes.matching import is_bound_to


def volume_for(volume: Object, claim: Object) -> Object | None:
    """The volume, pointing at the claim; None if it does so already."""
    current = volume["spec"].get("claimRef") or {}
    identity = (current.get("namespace", ""), current.get("name"), current.get("uid"))
    wanted = copy(volume)
    changed = False
    if identity != (namespace_of(claim), name_of(claim), uid_of(claim)):
        wanted["spec"]["claimRef"] = _reference(claim)
        changed = True
    if not is_bound_to(volume, claim) and BOUND_BY_CONTROLLER not in annotations_of(volume):
        set_annotation(wanted, BOUND_BY_CONTROLLER, "yes")
        changed = True
    return wanted if changed else None


def _reference(claim: Object) -> Object:
    fields = {
        "kind": "PersistentVolumeClaim",
        "namespace": namespace_of(claim),
        "name": name_of(claim),
        "uid": uid_of(claim),
        "apiVersion": "v1",
        "resourceVersion": claim["metadata"].get("resourceVersion"),
    }
    return {key: value for key, value in fields.items() if value}
