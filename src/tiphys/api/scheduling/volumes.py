"""Which nodes a volume can be used on. Pure.

Source: https://kubernetes.io/docs/concepts/storage/persistent-volumes/#node-affinity
"""

from __future__ import annotations

from tiphys.api.object import Object
from tiphys.api.scheduling.nodeselector import Labels, node_term


def reaches(volume: Object, labels: Labels) -> bool:
    """Whether a node with these labels can mount the volume, by the volume's node affinity."""
    required = (volume["spec"].get("nodeAffinity") or {}).get("required")
    if required is None:
        return True
    return any(node_term(term).matches("", labels) for term in required.get("nodeSelectorTerms") or ())
