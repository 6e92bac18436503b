"""The pods of a StatefulSet: names, ordinals, labels, volumes, and in which state each is. Pure.

Source: https://kubernetes.io/docs/concepts/workloads/controllers/statefulset/#pod-identity
"""

from __future__ import annotations

import re

from tiphys.api.object import Object
from tiphys.controlkit import pods as podkit
from tiphys.controlkit.objects import (
    controller_reference,
    copy,
    is_deleting,
    labels_of,
    name_of,
    namespace_of,
    status_of,
)
from tiphys.controlkit.podcontrol import pod_from_template
from tiphys.controllers.history import HASH_LABEL

POD_NAME_LABEL = "statefulset.kubernetes.io/pod-name"
INDEX_LABEL = "apps.kubernetes.io/pod-index"

_NAME = re.compile(r"(.*)-([0-9]+)$", re.DOTALL)


def replicas_of(stateful_set: Object) -> int:
    replicas = stateful_set["spec"].get("replicas")
    return 1 if replicas is None else int(replicas)


def parent_and_ordinal(pod: Object) -> tuple[str, int]:
    """The set's name and the ordinal in a pod's name; ``("", -1)`` if it has none."""
    match = _NAME.fullmatch(name_of(pod))
    if match is None:
        return "", -1
    ordinal = int(match[2])
    return match[1], ordinal if ordinal < 2**31 else -1


def ordinal_of(pod: Object) -> int:
    return parent_and_ordinal(pod)[1]


def start_ordinal(stateful_set: Object) -> int:
    return int((stateful_set["spec"].get("ordinals") or {}).get("start") or 0)


def in_range(pod: Object, stateful_set: Object) -> bool:
    start = start_ordinal(stateful_set)
    return start <= ordinal_of(pod) < start + replicas_of(stateful_set)


def revision_of(pod: Object) -> str:
    return labels_of(pod).get(HASH_LABEL, "")


# State


def is_created(pod: Object) -> bool:
    """Whether it exists; a pod that is only planned has no phase."""
    return bool(podkit.phase_of(pod))


def is_running_and_ready(pod: Object) -> bool:
    return podkit.phase_of(pod) == "Running" and podkit.is_ready(pod)


def is_unavailable(pod: Object, min_ready: int, now: float) -> bool:
    return is_deleting(pod) or not podkit.is_available(pod, min_ready, now)


# Claims


def claim_templates(stateful_set: Object) -> list[Object]:
    return stateful_set["spec"].get("volumeClaimTemplates") or []


def claim_name(stateful_set: Object, template: Object, ordinal: int) -> str:
    return f"{name_of(template)}-{name_of(stateful_set)}-{ordinal}"


def claims_of(stateful_set: Object, pod: Object) -> dict[str, Object]:
    """The claims of one pod, by the name of their volume."""
    claims = {}
    for template in claim_templates(stateful_set):
        claim = copy(template)
        claim |= {"kind": "PersistentVolumeClaim", "apiVersion": "v1"}
        claim.pop("status", None)
        meta = claim["metadata"]
        labels = (stateful_set["spec"]["selector"] or {}).get("matchLabels") or {}
        meta["labels"] = {**(meta.get("labels") or {}), **labels}
        meta["name"] = claim_name(stateful_set, template, ordinal_of(pod))
        meta["namespace"] = namespace_of(stateful_set)
        claims[name_of(template)] = claim
    return claims


# Identity and storage


def identity_matches(stateful_set: Object, pod: Object) -> bool:
    parent, ordinal = parent_and_ordinal(pod)
    return (
        ordinal >= 0
        and parent == name_of(stateful_set)
        and name_of(pod) == f"{parent}-{ordinal}"
        and namespace_of(pod) == namespace_of(stateful_set)
        and labels_of(pod).get(POD_NAME_LABEL) == name_of(pod)
    )


def storage_matches(stateful_set: Object, pod: Object) -> bool:
    ordinal = ordinal_of(pod)
    volumes = {volume["name"]: volume for volume in pod["spec"].get("volumes") or ()}
    return ordinal >= 0 and all(
        ((volumes.get(name_of(template)) or {}).get("persistentVolumeClaim") or {}).get("claimName")
        == claim_name(stateful_set, template, ordinal)
        for template in claim_templates(stateful_set)
    )


def set_identity(stateful_set: Object, pod: Object) -> None:
    ordinal = ordinal_of(pod)
    meta = pod["metadata"]
    meta["name"], meta["namespace"] = f"{name_of(stateful_set)}-{ordinal}", namespace_of(stateful_set)
    meta["labels"] = {**labels_of(pod), POD_NAME_LABEL: meta["name"], INDEX_LABEL: str(ordinal)}


def set_storage(stateful_set: Object, pod: Object) -> None:
    claims = claims_of(stateful_set, pod)
    mounted = [{"name": name, "persistentVolumeClaim": {"claimName": name_of(claim)}} for name, claim in claims.items()]
    others = [volume for volume in pod["spec"].get("volumes") or () if volume["name"] not in claims]
    if mounted or others:
        pod["spec"]["volumes"] = mounted + others


def _new_pod(stateful_set: Object, ordinal: int, revision: str) -> Object:
    reference = controller_reference(stateful_set, "apps/v1", "StatefulSet")
    pod = pod_from_template(stateful_set["spec"]["template"], stateful_set, reference)
    pod["metadata"].pop("generateName", None)
    pod["metadata"]["name"] = f"{name_of(stateful_set)}-{ordinal}"
    set_identity(stateful_set, pod)
    pod["metadata"]["labels"][HASH_LABEL] = revision
    pod["spec"]["hostname"] = name_of(pod)
    if stateful_set["spec"].get("serviceName"):
        pod["spec"]["subdomain"] = stateful_set["spec"]["serviceName"]
    set_storage(stateful_set, pod)
    return pod


def planned_pod(current: Object, update: Object, current_revision: str, update_revision: str, ordinal: int) -> Object:
    """The pod to create for an ordinal: of the revision that the rollout has come to there."""
    strategy = current["spec"].get("updateStrategy") or {}
    if strategy.get("type", "RollingUpdate") == "RollingUpdate":
        rolling = strategy.get("rollingUpdate")
        kept = status_of(current).get("currentReplicas") if rolling is None else rolling.get("partition")
        if ordinal < start_ordinal(current) + int(kept or 0):
            return _new_pod(current, ordinal, current_revision)
    return _new_pod(update, ordinal, update_revision)
