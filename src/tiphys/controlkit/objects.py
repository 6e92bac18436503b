"""Reading and writing the parts that all API objects share: keys, owners, conditions, timestamps.

Source: https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/object-meta/
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tiphys.api.meta.conditions import find_condition
from tiphys.api.meta.copying import copy
from tiphys.api.meta.owners import controller_of, is_controlled_by
from tiphys.api.meta.timestamps import format_micro_time as micro_timestamp
from tiphys.api.meta.timestamps import format_time as timestamp
from tiphys.api.meta.timestamps import parse_seconds

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
    "key_of",
    "labels_of",
    "micro_timestamp",
    "name_of",
    "namespace_of",
    "parse_time",
    "set_annotation",
    "split_key",
    "status_of",
    "timestamp",
    "uid_of",
]

Object = dict[str, Any]


def name_of(obj: Object) -> str:
    return str(obj["metadata"].get("name", ""))


def namespace_of(obj: Object) -> str:
    return str(obj["metadata"].get("namespace", ""))


def uid_of(obj: Object) -> str:
    return str(obj["metadata"].get("uid", ""))


def key_of(obj: Object) -> str:
    """``namespace/name``, or the name alone where the object has no namespace."""
    meta = obj["metadata"]
    namespace = meta.get("namespace")
    return f"{namespace}/{meta['name']}" if namespace else str(meta["name"])


def split_key(key: str) -> tuple[str, str]:
    """The reverse of ``key_of``: namespace (perhaps empty) and name."""
    namespace, slash, name = key.partition("/")
    return (namespace, name) if slash else ("", key)


def labels_of(obj: Object) -> Mapping[str, str]:
    return obj["metadata"].get("labels") or {}


def annotations_of(obj: Object) -> Mapping[str, str]:
    return obj["metadata"].get("annotations") or {}


def set_annotation(obj: Object, name: str, value: str) -> None:
    meta = obj["metadata"]
    if meta.get("annotations") is None:
        meta["annotations"] = {}
    meta["annotations"][name] = value


def finalizers_of(obj: Object) -> list[str]:
    return obj["metadata"].get("finalizers") or []


def is_deleting(obj: Object) -> bool:
    return bool(obj["metadata"].get("deletionTimestamp"))


def generation_of(obj: Object) -> int:
    return int(obj["metadata"].get("generation") or 0)


def status_of(obj: Object) -> Object:
    return obj.get("status") or {}


_MAPS = frozenset(("labels", "annotations", "nodeSelector", "matchLabels", "data"))


def equal(left: Any, right: Any) -> bool:
    """Whether two values mean the same: an absent field, null, an empty list and an empty map of strings are one."""
    if type(left) is dict and type(right) is dict:
        for key in left.keys() | right.keys():
            a, b = left.get(key), right.get(key)
            if key in _MAPS:
                a, b = a or None, b or None
            if a != b and not equal(a if a != [] else None, b if b != [] else None):
                return False
        return True
    if type(left) is list and type(right) is list:
        return len(left) == len(right) and all(map(equal, left, right))
    return bool(left == right)


# Owners


def controller_reference(owner: Object, api_version: str, kind: str) -> Object:
    """The reference to put into an object that ``owner`` controls."""
    return {
        "apiVersion": api_version,
        "kind": kind,
        "name": name_of(owner),
        "uid": uid_of(owner),
        "controller": True,
        "blockOwnerDeletion": True,
    }


# Conditions


def condition(obj: Object, type_: str) -> Object | None:
    """The condition of that type in the object's status."""
    return find_condition(status_of(obj).get("conditions"), type_)


# Time


def parse_time(text: str | None) -> float | None:
    """Seconds since the epoch of a timestamp; None for an absent one. Raises ``ValueError``."""
    return parse_seconds(text) if text else None


def created_at(obj: Object) -> str:
    """For sorting: RFC 3339 timestamps in UTC sort as text."""
    return str(obj["metadata"].get("creationTimestamp") or "")
