"""Reading a pod: names, kinds of containers, where it came from. Pure; pods are plain dicts and are never changed here.

Source: https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from enum import Enum
from typing import Any

from tiphys.api.meta.objects import annotations_of
from tiphys.api.meta.objects import is_deleting as is_deleting
from tiphys.api.meta.objects import key_of as key_of
from tiphys.api.meta.objects import name_of as name_of
from tiphys.api.meta.objects import namespace_of as namespace_of
from tiphys.api.meta.objects import phase_of as phase_of
from tiphys.api.meta.objects import uid_of as uid_of
from tiphys.api.pods.resources import may_be_of_a_class
from tiphys.runtime.binary.fnv import fnv32a

Pod = dict[str, Any]
ContainerSpec = dict[str, Any]

CONFIG_SOURCE = "kubernetes.io/config.source"
CONFIG_MIRROR = "kubernetes.io/config.mirror"
CONFIG_HASH = "kubernetes.io/config.hash"
CONFIG_SEEN = "kubernetes.io/config.seen"
SYSTEM_CRITICAL_PRIORITY = 2_000_000_000
SYSTEM_NODE_CRITICAL = "system-node-critical"


class ContainerKind(Enum):
    """What a container is to its pod. The value is the field that holds it."""

    INIT = "initContainers"
    REGULAR = "containers"
    EPHEMERAL = "ephemeralContainers"


def describe(pod: Pod) -> str:
    """``name_namespace(uid)``: how messages of the kubelet name a pod."""
    return f"{name_of(pod)}_{namespace_of(pod)}({uid_of(pod)})"


def spec_of(pod: Pod) -> dict[str, Any]:
    spec: dict[str, Any] = pod["spec"]
    return spec


def init_containers(pod: Pod) -> list[ContainerSpec]:
    return pod["spec"].get("initContainers") or []


def containers(pod: Pod) -> list[ContainerSpec]:
    return pod["spec"].get("containers") or []


def ephemeral_containers(pod: Pod) -> list[ContainerSpec]:
    return pod["spec"].get("ephemeralContainers") or []


def all_containers(pod: Pod) -> Iterator[tuple[ContainerKind, ContainerSpec]]:
    """Init containers, containers, ephemeral containers, in this order."""
    for kind in ContainerKind:
        for container in pod["spec"].get(kind.value) or []:
            yield kind, container


def find_container(pod: Pod, name: str) -> tuple[ContainerKind, ContainerSpec] | None:
    for kind, container in all_containers(pod):
        if container["name"] == name:
            return kind, container
    return None


def field_path(pod: Pod, name: str) -> str:
    """Where a container is in its pod, as events name it: ``spec.containers{web}``."""
    located = find_container(pod, name)
    return f"spec.{located[0].value}{{{name}}}" if located else ""


def is_sidecar(container: ContainerSpec) -> bool:
    """Whether an init container runs beside the others for the whole life of the pod (KEP-753)."""
    return container.get("restartPolicy") == "Always"


def mapped_requests(pod: Pod, container: ContainerSpec) -> list[tuple[str, str]]:
    """A container's extended resources that are devices of a class, each with a request of the pod's special claim.

    The scheduler has said so in the pod's status (KEP-5004).
    """
    known = (pod.get("status") or {}).get("extendedResourceClaimStatus") or {}
    return [
        (mapping["resourceName"], mapping["requestName"])
        for mapping in known.get("requestMappings") or ()
        if mapping["containerName"] == container["name"] and may_be_of_a_class(mapping["resourceName"])
    ]


def host_network(pod: Pod) -> bool:
    return bool(pod["spec"].get("hostNetwork"))


def restart_policy(pod: Pod) -> str:
    return str(pod["spec"].get("restartPolicy") or "Always")


def deletion_grace(pod: Pod) -> int | None:
    """Seconds of grace of the deletion that is under way."""
    grace = pod["metadata"].get("deletionGracePeriodSeconds")
    return None if grace is None else int(grace)


def termination_grace(pod: Pod) -> int:
    grace = pod["spec"].get("terminationGracePeriodSeconds")
    return 30 if grace is None else int(grace)


def is_terminal(pod: Pod) -> bool:
    return phase_of(pod) in ("Succeeded", "Failed")


def source_of(pod: Pod) -> str:
    return annotations_of(pod).get(CONFIG_SOURCE, "api")


def is_static(pod: Pod) -> bool:
    return source_of(pod) != "api"


def is_mirror(pod: Pod) -> bool:
    return CONFIG_MIRROR in annotations_of(pod)


def is_critical(pod: Pod) -> bool:
    """Static pods, and pods of a system priority: never evicted, and room is made for them."""
    return is_static(pod) or is_mirror(pod) or int(pod["spec"].get("priority") or 0) >= SYSTEM_CRITICAL_PRIORITY


def is_node_critical(pod: Pod) -> bool:
    return is_critical(pod) and pod["spec"].get("priorityClassName") == SYSTEM_NODE_CRITICAL


def container_hash(container: ContainerSpec) -> str:
    """A hash of what cannot change without a restart: the container's name and image.

    FNV-1a of 32 bits, as hexadecimal text. Two kubelets that follow each other on one node compare these.
    """
    text = json.dumps({"image": container.get("image", ""), "name": container["name"]}, separators=(",", ":"))
    return f"{fnv32a(text.encode()):x}"
