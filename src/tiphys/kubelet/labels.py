"""Labels and annotations that tie sandboxes and containers in the runtime to their pods.

They are upstream's, so that either kubelet adopts what the other left running, and `crictl` shows pods' names.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tiphys.kubelet.pod import pods
from tiphys.kubelet.pod.pods import ContainerSpec, Pod

POD_NAME = "io.kubernetes.pod.name"
POD_NAMESPACE = "io.kubernetes.pod.namespace"
POD_UID = "io.kubernetes.pod.uid"
CONTAINER_NAME = "io.kubernetes.container.name"

CONTAINER_HASH = "io.kubernetes.container.hash"
RESTART_COUNT = "io.kubernetes.container.restartCount"
TERMINATION_MESSAGE_PATH = "io.kubernetes.container.terminationMessagePath"
TERMINATION_MESSAGE_POLICY = "io.kubernetes.container.terminationMessagePolicy"
PRE_STOP = "io.kubernetes.container.preStopHandler"
PORTS = "io.kubernetes.container.ports"
DELETION_GRACE = "io.kubernetes.pod.deletionGracePeriod"
TERMINATION_GRACE = "io.kubernetes.pod.terminationGracePeriod"


def sandbox_labels(pod: Pod) -> dict[str, str]:
    return {
        **(pod["metadata"].get("labels") or {}),
        POD_NAME: pods.name_of(pod),
        POD_NAMESPACE: pods.namespace_of(pod),
        POD_UID: pods.uid_of(pod),
    }


def container_labels(pod: Pod, container: ContainerSpec) -> dict[str, str]:
    return {
        POD_NAME: pods.name_of(pod),
        POD_NAMESPACE: pods.namespace_of(pod),
        POD_UID: pods.uid_of(pod),
        CONTAINER_NAME: container["name"],
    }


def container_annotations(pod: Pod, container: ContainerSpec, restarts: int) -> dict[str, str]:
    """What a kubelet must know to stop the container well, should the pod be gone by then."""
    annotations = {
        CONTAINER_HASH: pods.container_hash(container),
        RESTART_COUNT: str(restarts),
        TERMINATION_MESSAGE_PATH: container.get("terminationMessagePath", ""),
        TERMINATION_MESSAGE_POLICY: container.get("terminationMessagePolicy", ""),
    }
    if (grace := pods.deletion_grace(pod)) is not None:
        annotations[DELETION_GRACE] = str(grace)
    if (grace := pod["spec"].get("terminationGracePeriodSeconds")) is not None:
        annotations[TERMINATION_GRACE] = str(grace)
    if hook := (container.get("lifecycle") or {}).get("preStop"):
        annotations[PRE_STOP] = json.dumps(hook)
    if ports := container.get("ports"):
        annotations[PORTS] = json.dumps(ports)
    return annotations


def restart_count(annotations: Mapping[str, str]) -> int:
    text = annotations.get(RESTART_COUNT, "0")
    return int(text) if text.isdigit() else 0


def restore_pod(labels: Mapping[str, str], annotations: Mapping[str, str]) -> tuple[Pod, ContainerSpec]:
    """As much of a pod and a container as their labels and annotations keep: enough to stop the container."""
    meta: dict[str, Any] = {"name": labels.get(POD_NAME), "namespace": labels.get(POD_NAMESPACE)}
    meta["uid"] = labels.get(POD_UID)
    if grace := annotations.get(DELETION_GRACE):
        meta["deletionGracePeriodSeconds"] = int(grace)
    container: ContainerSpec = {"name": labels.get(CONTAINER_NAME, "")}
    container["terminationMessagePath"] = annotations.get(TERMINATION_MESSAGE_PATH, "")
    if hook := annotations.get(PRE_STOP):
        container["lifecycle"] = {"preStop": json.loads(hook)}
    if ports := annotations.get(PORTS):
        container["ports"] = json.loads(ports)
    spec: dict[str, Any] = {"containers": [container]}
    if grace := annotations.get(TERMINATION_GRACE):
        spec["terminationGracePeriodSeconds"] = int(grace)
    return {"kind": "Pod", "apiVersion": "v1", "metadata": meta, "spec": spec}, container
