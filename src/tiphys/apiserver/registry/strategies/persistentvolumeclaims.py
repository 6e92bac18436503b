"""Claims: a data source is recorded twice, in an older field for two kinds only and in a newer one for any.

Source: KEP-1495 (volume populators), KEP-3294 (data sources of other namespaces, which is not on by default).
"""

from __future__ import annotations

from tiphys.api.object import Object
from tiphys.apiserver.registry.strategy import (
    Strategy,
    Write,
)

_SOURCE, _REFERENCE = "dataSource", "dataSourceRef"
_OLD_KINDS = (("", "PersistentVolumeClaim"), ("snapshot.storage.k8s.io", "VolumeSnapshot"))


class PersistentVolumeClaimStrategy(Strategy):
    has_status = True
    initial_status: Object | None = {"phase": "Pending"}
    returns_deleted = True

    def prepare_create(self, obj: Object, write: Write) -> None:
        super().prepare_create(obj, write)
        settle_sources(obj["spec"], {})

    def prepare_update(self, new: Object, old: Object, write: Write) -> None:
        super().prepare_update(new, old, write)
        settle_sources(new["spec"], old["spec"])


def settle_sources(spec: Object, before: Object) -> None:
    """Drop what cannot be a source, unless it was one before, and fill in the field that is missing."""
    if (spec.get(_REFERENCE) or {}).get("namespace") and before.get(_REFERENCE) is None:
        del spec[_REFERENCE]
    source, reference = spec.get(_SOURCE), spec.get(_REFERENCE)
    was_there = before.get(_SOURCE) is not None or before.get(_REFERENCE) is not None
    if source is not None and reference is None:
        if not was_there and (source.get("apiGroup") or "", source.get("kind")) not in _OLD_KINDS:
            del spec[_SOURCE]
        else:
            spec[_REFERENCE] = dict(source)
    elif source is None and reference is not None and not reference.get("namespace"):
        spec[_SOURCE] = {key: value for key, value in reference.items() if key != "namespace"}
