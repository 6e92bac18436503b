"""Bringing counts onto the scale of scores.

Source: https://kubernetes.io/docs/reference/scheduling/config/#scheduling-plugins
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tiphys.scheduler.framework.interface import MAX_SCORE

if TYPE_CHECKING:
    import numpy as np


def normalize(scores: list[int], *, reverse: bool) -> None:
    """Scale from 0 … the largest to 0 … ``MAX_SCORE``, in place; ``reverse`` makes the smallest count the best."""
    largest = max(scores, default=0)
    if largest == 0:
        if reverse:
            scores[:] = [MAX_SCORE] * len(scores)
        return
    for i, score in enumerate(scores):
        scaled = MAX_SCORE * score // largest
        scores[i] = MAX_SCORE - scaled if reverse else scaled


def normalize_all(scores: np.ndarray[Any, Any], *, reverse: bool) -> np.ndarray[Any, Any] | None:
    """The same for an array; None if all come out equal."""
    largest = int(scores.max(initial=0))
    if largest == 0:
        return None
    scaled: np.ndarray[Any, Any] = MAX_SCORE * scores // largest
    return MAX_SCORE - scaled if reverse else scaled
