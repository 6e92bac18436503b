"""Which of two versions of an object is newer. Source: https://kubernetes.io/docs/reference/using-api/api-concepts/"""

from __future__ import annotations

from tiphys.api.object import Object


def version_of(obj: Object) -> int:
    """Versions of one object grow: which of two is newer."""
    return int(obj["metadata"].get("resourceVersion") or 0)
