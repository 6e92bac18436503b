"""What all containers of a pod need of something together, as init containers run one after another. Pure.

Source: KEP-753 (resources of sidecar containers)
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from tiphys.kubelet.pod import pods
from tiphys.kubelet.pod.pods import ContainerSpec, Pod


def pod_needs(pod: Pod, of: Callable[[ContainerSpec], Mapping[str, int]]) -> dict[str, int]:
    """By resource: the most that is needed at any time, while containers start or when all of them run."""
    starting: dict[str, int] = {}
    running: dict[str, int] = {}
    sidecars: dict[str, int] = {}
    for container in pods.init_containers(pod):
        for name, amount in of(container).items():
            if pods.is_sidecar(container):
                sidecars[name] = sidecars.get(name, 0) + amount
            else:
                starting[name] = max(starting.get(name, 0), sidecars.get(name, 0) + amount)
    for container in pods.containers(pod):
        for name, amount in of(container).items():
            running[name] = running.get(name, 0) + amount
    names = sorted({*starting, *running, *sidecars})
    return {name: max(running.get(name, 0) + sidecars.get(name, 0), starting.get(name, 0)) for name in names}


def over_before(pod: Pod, container: ContainerSpec) -> list[str]:
    """Names of the init containers that have ended when ``container`` starts."""
    over = []
    for one in pods.init_containers(pod):
        if one["name"] == container["name"]:
            break
        if not pods.is_sidecar(one):
            over.append(one["name"])
    return over


def is_over(pod: Pod, container: ContainerSpec, holders: Collection[str]) -> bool:
    """Whether an init container has given back what it had: one that came after it has something, and it has not."""
    names = [one["name"] for one in (*pods.init_containers(pod), *pods.containers(pod))]
    if container["name"] in holders or not holders:
        return False
    later = names[names.index(container["name"]) + 1 :]
    initial = any(container["name"] == one["name"] and not pods.is_sidecar(one) for one in pods.init_containers(pod))
    return initial and any(name in holders for name in later)
