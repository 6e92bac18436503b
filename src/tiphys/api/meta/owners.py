"""Owner references: who made an object, and who goes with whom when the owner is deleted.

Source: https://kubernetes.io/docs/concepts/overview/working-with-objects/owners-dependents/
"""

from __future__ import annotations

from typing import Any

Object = dict[str, Any]


def owner_reference(
    owner: Object, *, controller: bool = True, block_deletion: bool = True, api_version: str = "", kind: str = ""
) -> Object:
    """A reference to ``owner``. ``api_version`` and ``kind`` are needed where the object does not carry them."""
    found = {
        "apiVersion": api_version or owner["apiVersion"],
        "kind": kind or owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
    }
    if controller:
        found["controller"] = True
    if block_deletion:
        found["blockOwnerDeletion"] = True
    return found


def controller_of(obj: Object) -> Object | None:
    """The owner reference of the managing controller."""
    references = obj.get("metadata", {}).get("ownerReferences") or ()
    return next((reference for reference in references if reference.get("controller")), None)


def is_controlled_by(obj: Object, owner: Object) -> bool:
    reference = controller_of(obj)
    return reference is not None and reference.get("uid") == owner["metadata"].get("uid")


def is_owned_by(obj: Object, uid: str) -> bool:
    references = obj.get("metadata", {}).get("ownerReferences") or ()
    return any(reference.get("uid") == uid for reference in references)
