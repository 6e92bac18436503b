"""How the attachment of a volume to a node is called. The kubelet and the controllers must agree on it. Pure.

Source: https://kubernetes.io/docs/reference/kubernetes-api/config-and-storage-resources/volume-attachment-v1/
"""

from __future__ import annotations

import hashlib

from tiphys.api.object import Object


def attachment_name(driver: str, handle: str, node: str) -> str:
    """The name of the VolumeAttachment."""
    return f"csi-{hashlib.sha256(f'{handle}{driver}{node}'.encode()).hexdigest()}"


def unique_volume_name(driver: str, handle: str) -> str:
    """The volume in ``node.status.volumesInUse`` and ``volumesAttached``."""
    return f"kubernetes.io/csi/{driver}^{handle}"


def unique_name_of(volume: Object) -> str:
    """That of a persistent volume; empty for one of another kind than CSI."""
    source = volume["spec"].get("csi")
    return unique_volume_name(source["driver"], source["volumeHandle"]) if source else ""


def may_be_on_several_nodes(volume: Object) -> bool:
    """Whether a persistent volume's access modes let several nodes have it at once; without any nobody knows."""
    modes = volume["spec"].get("accessModes") or ()
    return not modes or "ReadWriteMany" in modes or "ReadOnlyMany" in modes
