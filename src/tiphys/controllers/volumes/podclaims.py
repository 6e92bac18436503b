"""Which persistent volume claims a pod mounts.

Source: https://kubernetes.io/docs/concepts/storage/ephemeral-volumes/#generic-ephemeral-volumes
"""

from __future__ import annotations

from tiphys.api.object import Object
from tiphys.client.informer import Informer
from tiphys.controlkit.objects import (
    name_of,
    namespace_of,
)

BY_CLAIM = "claims"
"""Index of pods by the keys of their claims."""


def claims_of(pod: Object) -> list[str]:
    """Keys of the claims that a pod mounts, those of its ephemeral volumes included."""
    namespace = namespace_of(pod)
    claims = []
    for volume in pod["spec"].get("volumes") or ():
        if volume.get("persistentVolumeClaim"):
            claims.append(f"{namespace}/{volume['persistentVolumeClaim']['claimName']}")
        elif volume.get("ephemeral"):
            claims.append(f"{namespace}/{ephemeral_claim(pod, volume)}")
    return claims


def ephemeral_claim(pod: Object, volume: Object) -> str:
    """Name of the claim that is made for an ephemeral volume."""
    return f"{name_of(pod)}-{volume['name']}"


def index_by_claim(pods: Informer) -> None:
    if not pods.store.has_index(BY_CLAIM):
        pods.add_index(BY_CLAIM, claims_of)
