"""ImageLocality: rather a node that has the pod's images already, the more of them in bytes the better.

An image counts less the fewer nodes have it, so that pods do not pile up on the one node that does.

Source: https://kubernetes.io/docs/reference/scheduling/config/#scheduling-plugins
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tiphys.scheduler.framework.cyclestate import CycleState
from tiphys.scheduler.framework.interface import MAX_SCORE
from tiphys.scheduler.framework.nodeinfo import NodeInfo
from tiphys.scheduler.framework.podinfo import PodInfo
from tiphys.scheduler.handle import Handle

if TYPE_CHECKING:
    import numpy as np

MIB = 1024 * 1024
SMALLEST = 23 * MIB
LARGEST = 1000 * MIB
"""Sizes that count, per container: below the first all images are alike, above the second too."""

KEPT = 64


class ImageLocality:
    name = "ImageLocality"

    def __init__(self, handle: Handle) -> None:
        self._cache = handle.cache
        self._sizes: OrderedDict[str, tuple[int, Any]] = OrderedDict()

    def score(self, state: CycleState, pod: PodInfo, node: NodeInfo) -> int:
        nodes = len(self._cache.table)
        total = sum(
            int(node.images[image] * (self._cache.image_nodes.get(image, 0) / nodes))
            for image in pod.images
            if image in node.images
        )
        return MAX_SCORE * (max(SMALLEST, min(total, _largest(pod))) - SMALLEST) // (_largest(pod) - SMALLEST)

    def normalize(self, state: CycleState, pod: PodInfo, scores: list[int], nodes: Sequence[NodeInfo]) -> None:
        """They are on the scale already."""

    def score_all(self, state: CycleState, pod: PodInfo, rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any] | None:
        """A score from 0 to 100 for each of ``rows``, by the bytes of the pod's images there; None if none is."""
        known = [image for image in pod.images if image in self._cache.image_nodes]
        if not known:
            return None
        import numpy as np

        total = np.zeros(len(rows), dtype=np.int64)
        for image in known:
            spread = self._cache.image_nodes[image] / len(self._cache.table)
            total += (self._by_row(image)[rows] * spread).astype(np.int64)
        largest = _largest(pod)
        scores: np.ndarray[Any, Any] = (
            MAX_SCORE * (np.clip(total, SMALLEST, largest) - SMALLEST) // (largest - SMALLEST)
        )
        return scores

    def _by_row(self, image: str) -> np.ndarray[Any, Any]:
        """The image's size on each row, kept until some node's images change."""
        table = self._cache.table
        version, sizes = self._sizes.get(image, (-1, None))
        if version != table.images_version:
            import numpy as np

            sizes = np.zeros(len(table.rows), dtype=np.int64)
            for node in table:
                sizes[node.row] = node.images.get(image, 0)
            self._sizes[image] = (table.images_version, sizes)
            if len(self._sizes) > KEPT:
                self._sizes.popitem(last=False)
        by_row: np.ndarray[Any, Any] = sizes
        return by_row


def _largest(pod: PodInfo) -> int:
    containers = len(pod.spec.get("containers") or ()) + len(pod.spec.get("initContainers") or ())
    return LARGEST * max(containers, 1)
