"""Reading and writing the parts that all API objects share, for controllers: the definitions of ``tiphys.api.meta``.

Source: https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/object-meta/
"""

from __future__ import annotations

from tiphys.api.meta.conditions import condition_of as condition
from tiphys.api.meta.conditions import find_condition, is_condition
from tiphys.api.meta.copying import copy
from tiphys.api.meta.equality import equal
from tiphys.api.meta.objects import (
    annotations_of,
    finalizers_of,
    generation_of,
    is_deleting,
    key_of,
    labels_of,
    name_of,
    namespace_of,
    phase_of,
    set_annotation,
    split_key,
    status_of,
    uid_of,
)
from tiphys.api.meta.owners import controller_of, controller_reference, is_controlled_by
from tiphys.api.meta.timestamps import format_micro_time as micro_timestamp
from tiphys.api.meta.timestamps import format_time as timestamp
from tiphys.api.meta.timestamps import parse_seconds
from tiphys.api.object import Object

__all__ = [
    "Object",
    "annotations_of",
    "condition",
    "controller_of",
    "controller_reference",
    "copy",
    "created_at",
    "equal",
    "finalizers_of",
    "find_condition",
    "generation_of",
    "is_controlled_by",
    "is_deleting",
    "is_ready_node",
    "key_of",
    "labels_of",
    "micro_timestamp",
    "name_of",
    "namespace_of",
    "parse_time",
    "phase_of",
    "set_annotation",
    "split_key",
    "status_of",
    "timestamp",
    "uid_of",
]

# Time


def parse_time(text: str | None) -> float | None:
    """Seconds since the epoch of a timestamp; None for an absent one. Raises ``ValueError``."""
    return parse_seconds(text) if text else None


def created_at(obj: Object) -> str:
    """For sorting: RFC 3339 timestamps in UTC sort as text."""
    return str(obj["metadata"].get("creationTimestamp") or "")


def is_ready_node(node: Object) -> bool:
    return is_condition(status_of(node).get("conditions"), "Ready")
