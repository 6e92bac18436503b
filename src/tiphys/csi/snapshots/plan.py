"""What a VolumeSnapshot and its content say to each other. Pure.

Source: https://kubernetes-csi.github.io/docs/external-snapshotter.html (KEP-177)
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tiphys.api.meta.objects import annotations_of, name_of, namespace_of, status_of, uid_of
from tiphys.api.meta.quantity import Format, Quantity
from tiphys.api.meta.timestamps import format_time
from tiphys.api.object import Object
from tiphys.csi.snapshots.resources import SNAPSHOT_GROUP

PREFIX = "snapshot.storage.kubernetes.io/"
BOUND = f"{PREFIX}volumesnapshot-bound-protection"
SOURCE = f"{PREFIX}volumesnapshot-as-source-protection"
CONTENT_BOUND = f"{PREFIX}volumesnapshotcontent-bound-protection"
BEING_DELETED = f"{PREFIX}volumesnapshot-being-deleted"
MANAGED_BY = f"{PREFIX}managed-by"
DEFAULT_CLASS = f"{PREFIX}is-default-class"
_SECRET = "csi.storage.k8s.io/snapshotter-secret-"
DELETION_SECRET = f"{PREFIX}deletion-secret-"


def content_name(snapshot: Object) -> str:
    return f"snapcontent-{uid_of(snapshot)}"


def default_class(classes: Iterable[Object], driver: str) -> Object | None:
    """The one class that is the driver's default; None without one, or with several."""
    marked = [
        each for each in classes if each["driver"] == driver and annotations_of(each).get(DEFAULT_CLASS) == "true"
    ]
    return marked[0] if len(marked) == 1 else None


def new_content(snapshot: Object, snapshot_class: Object, volume: Object, node: str) -> Object:
    """The content of a snapshot that is to be taken. ``node`` is whose controller takes it; empty for any."""
    secret = class_secret(snapshot_class, snapshot)
    meta: Object = {"name": content_name(snapshot), "finalizers": [CONTENT_BOUND], "annotations": {}, "labels": {}}
    if secret is not None:
        meta["annotations"] = {f"{DELETION_SECRET}namespace": secret[0], f"{DELETION_SECRET}name": secret[1]}
    if node:
        meta["labels"] = {MANAGED_BY: node}
    return {
        "apiVersion": f"{SNAPSHOT_GROUP}/v1",
        "kind": "VolumeSnapshotContent",
        "metadata": {key: value for key, value in meta.items() if value},
        "spec": {
            "driver": snapshot_class["driver"],
            "deletionPolicy": snapshot_class["deletionPolicy"],
            "volumeSnapshotClassName": name_of(snapshot_class),
            "sourceVolumeMode": volume["spec"].get("volumeMode") or "Filesystem",
            "source": {"volumeHandle": volume["spec"]["csi"]["volumeHandle"]},
            "volumeSnapshotRef": {
                "apiVersion": f"{SNAPSHOT_GROUP}/v1",
                "kind": "VolumeSnapshot",
                "namespace": namespace_of(snapshot),
                "name": name_of(snapshot),
                "uid": uid_of(snapshot),
            },
        },
    }


def class_secret(snapshot_class: Object, snapshot: Object) -> tuple[str, str] | None:
    """(namespace, name) of the secret that a class names; variables stand for the snapshot's."""
    given = snapshot_class.get("parameters") or {}
    namespace, name = given.get(f"{_SECRET}namespace"), given.get(f"{_SECRET}name")
    if not (namespace and name):
        return None
    known = {
        "${volumesnapshot.namespace}": namespace_of(snapshot),
        "${volumesnapshot.name}": name_of(snapshot),
        "${volumesnapshotcontent.name}": content_name(snapshot),
    }
    for variable, text in known.items():
        namespace, name = namespace.replace(variable, text), name.replace(variable, text)
    return namespace, name


def parameters_for_driver(snapshot_class: Object | None) -> dict[str, str]:
    given = (snapshot_class or {}).get("parameters") or {}
    return {key: value for key, value in given.items() if not key.startswith("csi.storage.k8s.io/")}


def is_bound_to(content: Object, snapshot: Object) -> bool:
    reference = content["spec"]["volumeSnapshotRef"]
    same = (reference.get("namespace"), reference.get("name")) == (namespace_of(snapshot), name_of(snapshot))
    return same and reference.get("uid", "") in ("", uid_of(snapshot))


def snapshot_status(content: Object) -> Object:
    """What a snapshot shows of its content."""
    status = status_of(content)
    shown: Object = {
        "boundVolumeSnapshotContentName": name_of(content),
        "readyToUse": bool(status.get("readyToUse")),
        "error": status.get("error"),
    }
    if (created := status.get("creationTime")) is not None:
        shown["creationTime"] = format_time(int(created) / 1e9)
    if (size := status.get("restoreSize")) is not None:
        shown["restoreSize"] = str(Quantity.of(int(size), Format.BINARY_SI))
    return shown


def content_status(snapshot: Any) -> Object:
    """From the driver's ``Snapshot`` message; times are nanoseconds since the Unix epoch."""
    created = snapshot.creation_time
    return {
        "snapshotHandle": snapshot.snapshot_id,
        "creationTime": created.seconds * 10**9 + created.nanos,
        "restoreSize": snapshot.size_bytes,
        "readyToUse": snapshot.ready_to_use,
        "error": None,
    }


def differs(obj: Object, status: Object) -> bool:
    """Whether a status has something to add to what an object shows."""
    present = status_of(obj)
    return any(present.get(key) != value for key, value in status.items())
