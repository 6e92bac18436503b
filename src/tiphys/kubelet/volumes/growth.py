"""The growth of a claim's volume, as far as the node has a part in it. Pure.

The resizer has made the volume larger and leaves the file system to the node. Source:
https://kubernetes.io/docs/concepts/storage/persistent-volumes/#resizing-an-in-use-persistentvolumeclaim (KEP-1790)
"""

from __future__ import annotations

from tiphys.api.meta.quantity import Quantity
from tiphys.api.object import Object
from tiphys.api.volumes.matching import capacity

_PENDING = "FileSystemResizePending"
_OF_GROWTH = ("Resizing", _PENDING, "ControllerResizeError", "NodeResizeError")


def is_due(claim: Object, volume: Object) -> bool:
    """Whether the volume is larger than the claim says that it has."""
    present = ((claim.get("status") or {}).get("capacity") or {}).get("storage")
    return present is not None and Quantity(present) < capacity(volume)


def waits_for_node(claim: Object) -> bool:
    status = claim.get("status") or {}
    resizing = (status.get("allocatedResourceStatuses") or {}).get("storage")
    conditions = status.get("conditions") or []
    pending = any(each["type"] == _PENDING and each["status"] == "True" for each in conditions)
    return pending or resizing in ("NodeResizePending", "NodeResizeInProgress")


def status_after(claim: Object, volume: Object) -> Object:
    """A merge patch of the claim's status once the node has done its part."""
    status = claim.get("status") or {}
    left = [each for each in status.get("conditions") or [] if each["type"] not in _OF_GROWTH]
    return {
        "capacity": {"storage": volume["spec"]["capacity"]["storage"]},
        "conditions": left or None,
        "allocatedResourceStatuses": {"storage": None} if status.get("allocatedResourceStatuses") else None,
    }
