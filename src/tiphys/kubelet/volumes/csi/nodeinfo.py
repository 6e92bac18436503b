"""What a node's registered storage drivers say of it, as its CSINode and its Node show it. Pure.

Source: https://kubernetes.io/docs/reference/kubernetes-api/config-and-storage-resources/csi-node-v1/
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from tiphys.api.meta.copying import copy
from tiphys.api.meta.objects import annotations_of
from tiphys.api.object import Object

NODE_ID_ANNOTATION = "csi.volume.kubernetes.io/nodeid"
_MIGRATED = "storage.alpha.kubernetes.io/migrated-plugins"
_MIGRATED_PLUGINS = "aws-ebs azure-disk azure-file cinder gce-pd portworx-volume vsphere-volume"
_MOST_VOLUMES = 2**31 - 1


@dataclass(frozen=True, slots=True)
class DriverOnNode:
    """``most_volumes`` is how many the node can have; 0 for no limit."""

    name: str
    node_id: str
    most_volumes: int = 0
    topology: Mapping[str, str] = field(default_factory=dict)


def new_csi_node(node: Object) -> Object:
    """The CSINode of a node without drivers. Volume types that upstream has moved to drivers are named as such."""
    meta = node["metadata"]
    owner = {"apiVersion": "v1", "kind": "Node", "name": meta["name"], "uid": meta.get("uid", "")}
    migrated = ",".join(f"kubernetes.io/{name}" for name in _MIGRATED_PLUGINS.split())
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "CSINode",
        "metadata": {"name": meta["name"], "ownerReferences": [owner], "annotations": {_MIGRATED: migrated}},
        "spec": {"drivers": []},
    }


def with_driver(csi_node: Object, driver: DriverOnNode) -> Object | None:
    """The CSINode with the driver in it; None if it says so already."""
    entry: Object = {"name": driver.name, "nodeID": driver.node_id, "topologyKeys": sorted(driver.topology) or None}
    if 0 < driver.most_volumes <= _MOST_VOLUMES:
        entry["allocatable"] = {"count": driver.most_volumes}
    others = [each for each in csi_node["spec"].get("drivers") or [] if each["name"] != driver.name]
    if any(_same(each, entry) for each in csi_node["spec"].get("drivers") or []):
        return None
    wanted = copy(csi_node)
    wanted["spec"]["drivers"] = [*others, entry]
    return wanted


def _same(entry: Object, wanted: Object) -> bool:
    return all(
        entry.get(key) == wanted.get(key) or not (entry.get(key) or wanted.get(key))
        for key in ("name", "nodeID", "topologyKeys", "allocatable")
    )


def without_driver(csi_node: Object, name: str) -> Object | None:
    drivers = csi_node["spec"].get("drivers") or []
    left = [each for each in drivers if each["name"] != name]
    if len(left) == len(drivers):
        return None
    wanted = copy(csi_node)
    wanted["spec"]["drivers"] = left
    return wanted


def node_patch(node: Object, driver: DriverOnNode) -> Object | None:
    """What changes in the Node: its id for the driver, and labels for its place in the driver's topology.

    Raises ``ValueError`` if a label of that name says something else: a node is in one place.
    """
    labels = node["metadata"].get("labels") or {}
    for key, value in driver.topology.items():
        if key in labels and labels[key] != value:
            reported, existing = f'"{key}":"{value}"', f'"{key}":"{labels[key]}"'
            problem = f"driver reported {reported} but existing label is {existing}"
            raise ValueError(f"detected topology value collision: {problem}")
    ids = _ids(node)
    if ids.get(driver.name) == driver.node_id and all(labels.get(key) == text for key, text in driver.topology.items()):
        return None
    annotation = json.dumps({**ids, driver.name: driver.node_id}, separators=(",", ":"))
    return {"metadata": {"annotations": {NODE_ID_ANNOTATION: annotation}, "labels": dict(driver.topology)}}


def node_patch_without(node: Object, name: str) -> Object | None:
    ids = _ids(node)
    if name not in ids:
        return None
    del ids[name]
    return {"metadata": {"annotations": {NODE_ID_ANNOTATION: json.dumps(ids, separators=(",", ":")) if ids else None}}}


def _ids(node: Object) -> dict[str, str]:
    try:
        ids = json.loads(annotations_of(node).get(NODE_ID_ANNOTATION) or "{}")
    except ValueError:
        return {}
    return ids if isinstance(ids, dict) else {}
