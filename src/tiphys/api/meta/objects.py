"""Reading the parts that all API objects share: names, labels, deletion, status. A leaf: imports nothing of ours.

Source: https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/object-meta/
"""

from __future__ import annotations

from collections.abc import Mapping

from tiphys.api.object import Object


def name_of(obj: Object) -> str:
    return str(obj["metadata"].get("name", ""))


def namespace_of(obj: Object) -> str:
    return str(obj["metadata"].get("namespace", ""))


def uid_of(obj: Object) -> str:
    return str(obj["metadata"].get("uid", ""))


def key_of(obj: Object) -> str:
    """``namespace/name``, or the name alone if the object has no namespace."""
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


def phase_of(obj: Object) -> str:
    """``status.phase`` of a pod, volume, claim or namespace; empty if it has none yet."""
    return str(status_of(obj).get("phase") or "")
