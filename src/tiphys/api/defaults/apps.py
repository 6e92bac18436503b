"""Defaults of the apps group, v1.

Source: https://kubernetes.io/docs/reference/generated/kubernetes-api/v1.36/#deployment-v1-apps
"""

from __future__ import annotations

from tiphys.api.defaults.aliases import template_generation
from tiphys.api.defaults.common import child, if_empty, if_missing, items
from tiphys.api.defaults.core import persistent_volume_claim
from tiphys.api.defaults.pod import pod_template
from tiphys.api.object import Object


def deployment(obj: Object) -> None:
    spec = child(obj, "spec")
    if_missing(spec, replicas=1, revisionHistoryLimit=10, progressDeadlineSeconds=600)
    strategy = child(spec, "strategy")
    if_empty(strategy, type="RollingUpdate")
    if strategy["type"] == "RollingUpdate":
        if_missing(child(strategy, "rollingUpdate"), maxUnavailable="25%", maxSurge="25%")
    pod_template(child(spec, "template"))


def daemon_set(obj: Object) -> None:
    template_generation(obj)
    spec = child(obj, "spec")
    strategy = child(spec, "updateStrategy")
    if_empty(strategy, type="RollingUpdate")
    if strategy["type"] == "RollingUpdate":
        if_missing(child(strategy, "rollingUpdate"), maxUnavailable=1, maxSurge=0)
    if_missing(spec, revisionHistoryLimit=10)
    pod_template(child(spec, "template"))


def stateful_set(obj: Object) -> None:
    """``rollingUpdate.maxUnavailable`` has a default only behind a feature gate that is off in v1.36."""
    spec = child(obj, "spec")
    if_empty(spec, podManagementPolicy="OrderedReady")
    strategy = child(spec, "updateStrategy")
    if not strategy.get("type"):
        strategy["type"] = "RollingUpdate"
        child(strategy, "rollingUpdate")
    if strategy["type"] == "RollingUpdate" and strategy.get("rollingUpdate") is not None:
        if_missing(strategy["rollingUpdate"], partition=0)
    if_empty(child(spec, "persistentVolumeClaimRetentionPolicy"), whenDeleted="Retain", whenScaled="Retain")
    if_missing(spec, replicas=1, revisionHistoryLimit=10)
    pod_template(child(spec, "template"))
    for claim in items(spec, "volumeClaimTemplates"):
        persistent_volume_claim(claim)
        # Claims are whole objects, and get their own kind and version, whatever the author wrote.
        claim.update(apiVersion="v1", kind="PersistentVolumeClaim")


def replica_set(obj: Object) -> None:
    spec = child(obj, "spec")
    if_missing(spec, replicas=1)
    pod_template(child(spec, "template"))
