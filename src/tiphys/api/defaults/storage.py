"""Defaults of the storage.k8s.io group, v1.

Source: https://kubernetes.io/docs/reference/generated/kubernetes-api/v1.36/#storageclass-v1-storage-k8s-io
"""

from __future__ import annotations

from tiphys.api.defaults.common import child, if_empty, if_missing
from tiphys.api.defaults.resourcelist import round_up
from tiphys.api.defaults.volumes import persistent_volume_source
from tiphys.api.object import Object


def storage_class(obj: Object) -> None:
    if_missing(obj, reclaimPolicy="Delete", volumeBindingMode="Immediate")


def csi_driver(obj: Object) -> None:
    spec = child(obj, "spec")
    if_missing(
        spec,
        attachRequired=True,
        podInfoOnMount=False,
        storageCapacity=False,
        fsGroupPolicy="ReadWriteOnceWithFSType",
        requiresRepublish=False,
        seLinuxMount=False,
    )
    if_empty(spec, volumeLifecycleModes=["Persistent"])


def volume_attachment(obj: Object) -> None:
    inline = ((obj.get("spec") or {}).get("source") or {}).get("inlineVolumeSpec")
    if inline is not None:
        round_up(inline, "capacity")
        persistent_volume_source(inline)
