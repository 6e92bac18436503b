"""An index of pods by the claims that they mount.

Source: https://kubernetes.io/docs/concepts/storage/ephemeral-volumes/#generic-ephemeral-volumes
"""

from __future__ import annotations

from tiphys.api.volumes.claims import claims_of
from tiphys.client.informer import Informer

BY_CLAIM = "claims"
"""Index of pods by the keys of their claims."""


def index_by_claim(pods: Informer) -> None:
    if not pods.store.has_index(BY_CLAIM):
        pods.add_index(BY_CLAIM, claims_of)
