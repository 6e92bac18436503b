"""Jobs: a selector that nobody else's pods match is made from the job's uid, unless the user brings one.

Source: https://kubernetes.io/docs/concepts/workloads/controllers/job/#specifying-your-own-pod-selector
"""

from __future__ import annotations

from tiphys.api.object import Object
from tiphys.apiserver.registry.strategy import (
    Strategy,
    Write,
)

_NAME_LABELS = ("job-name", "batch.kubernetes.io/job-name")
_UID_LABELS = ("controller-uid", "batch.kubernetes.io/controller-uid")


class JobStrategy(Strategy):
    has_status = True
    initial_status: Object | None = {}
    counts = ("spec",)
    orphans_by_default = True
    warns_of_orphans = (
        "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them or "
        "set propagationPolicy=Orphan to suppress this warning"
    )

    def prepare_create(self, obj: Object, write: Write) -> None:
        if not obj["spec"].get("manualSelector"):
            generate_selector(obj)
        template = (obj["spec"]["template"].get("metadata") or {}).get("labels")
        if template and not obj["metadata"].get("labels"):
            # Anyone who reads the job back finds it with the labels of its pods, the generated ones included.
            obj["metadata"]["labels"] = dict(template)
        super().prepare_create(obj, write)


def generate_selector(job: Object) -> None:
    meta, spec = job["metadata"], job["spec"]
    labels = spec["template"].setdefault("metadata", {}).setdefault("labels", {})
    for label in _NAME_LABELS:
        labels.setdefault(label, meta.get("name", ""))
    for label in _UID_LABELS:
        labels.setdefault(label, meta["uid"])
    selector = spec.setdefault("selector", {})
    selector.setdefault("matchLabels", {}).setdefault(_UID_LABELS[1], meta["uid"])
