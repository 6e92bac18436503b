"""The rules of pods that may be waived, and the walk over a pod's containers. A leaf of this folder.

Source: https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tiphys.api.object import Object


@dataclass(frozen=True, slots=True)
class PodOptions:
    """``is_pod`` is true for a pod, false for a template; every other field waives one rule."""

    is_pod: bool = False
    deletion_cost: bool = False
    selector_values: bool = False
    indivisible_huge_pages: bool = False
    spread_selector: bool = False
    spread_match_label_keys: bool = False
    token_path: bool = False
    host_sysctls: bool = False
    node_affinity_values: bool = False
    restart_on_resize: bool = False
    devices_in_user_namespace: bool = False
    host_network_in_user_namespace: bool = False
    compare_tolerations: bool = False
    selinux_mount_option: bool = False


POD = PodOptions(is_pod=True)
TEMPLATE = PodOptions()


def all_containers(spec: Object) -> Iterator[tuple[Object, str]]:
    """Every container of a pod with the path that follows the specification's, in the order in which they start."""
    for key in ("initContainers", "containers", "ephemeralContainers"):
        for i, container in enumerate(spec.get(key) or ()):
            yield container, f"{key}[{i}]"
