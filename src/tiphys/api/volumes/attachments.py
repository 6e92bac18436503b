"""How the attachment of a volume to a node is called. The kubelet and the controllers must agree on it. Pure.

Source: https://kubernetes.io/docs/reference/kubernetes-api/config-and-storage-resources/volume-attachment-v1/
"""

from __future__ import annotations

import hashlib


def attachment_name(driver: str, handle: str, node: str) -> str:
    """The name of the VolumeAttachment."""
    return f"csi-{hashlib.sha256(f'{handle}{driver}{node}'.encode()).hexdigest()}"
