"""How many nodes are to be added, and which may go: decided on a picture of the cluster (pure).

Whether a pod would fit is asked of the scheduler's own framework, so that no node is made for a pod that would not go
there, and none is missing for one that would. Source:
https://github.com/kubernetes/autoscaler/blob/master/cluster-autoscaler/FAQ.md
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tiphys.api.meta.conditions import find_condition
from tiphys.api.object import Object
from tiphys.client.informer import Store
from tiphys.scheduler.simulate import Simulation

SCALE_DOWN_DISABLED = "cluster-autoscaler.kubernetes.io/scale-down-disabled"
MIRROR = "kubernetes.io/config.mirror"
_START_SECONDS = 600.0
"""A machine that has not become Ready by then is not waited for: another may be made for its pods."""


@dataclass(frozen=True, slots=True)
class Group:
    """Nodes that may be made and ended: those whose names begin so, and how many there are to be."""

    prefix: str
    least: int
    most: int

    def has(self, name: str) -> bool:
        return name.startswith(f"{self.prefix}-") and name.removeprefix(f"{self.prefix}-").isdecimal()

    def names(self, taken: Iterable[str], count: int) -> list[str]:
        """Names for new nodes, the lowest free numbers first."""
        used = set(taken)
        names: list[str] = []
        number = 1
        while len(names) < count:
            if (name := f"{self.prefix}-{number}") not in used:
                names.append(name)
            number += 1
        return names


@dataclass(frozen=True, slots=True)
class Picture:
    """The cluster at one moment. ``made`` are nodes that were asked for and are not Ready yet, by the time."""

    nodes: Sequence[Object]
    pods: Sequence[Object]
    daemon_sets: Sequence[Object]
    template: Object
    now: float
    made: Mapping[str, float] = field(default_factory=dict)
    stores: Mapping[str, Store] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Growth:
    """``names`` of nodes to make; ``helped`` are the pods these are for, ``left`` those that no such node helps."""

    names: tuple[str, ...] = ()
    helped: tuple[Object, ...] = ()
    left: tuple[Object, ...] = ()


def is_pending(pod: Object) -> bool:
    """Whether the scheduler has said that it found no node for a pod."""
    if pod["spec"].get("nodeName") or pod["metadata"].get("deletionTimestamp"):
        return False
    scheduled = find_condition((pod.get("status") or {}).get("conditions") or (), "PodScheduled")
    return scheduled is not None and scheduled["status"] == "False" and scheduled.get("reason") == "Unschedulable"


def is_ready(node: Object) -> bool:
    ready = find_condition((node.get("status") or {}).get("conditions") or (), "Ready")
    return ready is not None and ready["status"] == "True"


def grow(picture: Picture, group: Group) -> Growth:
    """The nodes to make: for pods that are pending and would go there, and up to the group's least number."""
    members = {node["metadata"]["name"]: node for node in picture.nodes if group.has(node["metadata"]["name"])}
    coming = [name for name, since in picture.made.items() if name not in members and _is_awaited(picture, since)]
    simulation = _simulation(picture, group)
    for name in coming:
        _add(simulation, picture, name)
    count = len(members) + len(coming)
    taken = [*(node["metadata"]["name"] for node in picture.nodes), *picture.made]
    free = group.names(taken, max(0, group.most - count))
    names: list[str] = []
    helped, left = [], []
    for pod in sorted(filter(is_pending, picture.pods), key=_order):
        if simulation.place(pod):
            continue  # there is room by now, or will be on a node that comes
        if len(names) < len(free):
            name = free[len(names)]
            _add(simulation, picture, name)
            if simulation.place(pod):
                names.append(name)
                helped.append(pod)
                continue
            simulation.remove_node(name)
        left.append(pod)
    names += free[len(names) : max(len(names), group.least - count)]
    return Growth(tuple(names), tuple(helped), tuple(left))


def _order(pod: Object) -> tuple[int, str, str]:
    meta = pod["metadata"]
    return -(pod["spec"].get("priority") or 0), meta.get("creationTimestamp") or "", meta.get("name") or ""


def _is_awaited(picture: Picture, since: float) -> bool:
    return picture.now - since < _START_SECONDS


def _simulation(picture: Picture, group: Group) -> Simulation:
    """The cluster as it will be when nodes of the group that start are Ready."""
    nodes = []
    for node in picture.nodes:
        name = node["metadata"]["name"]
        starts = (
            group.has(name) and not is_ready(node) and _is_awaited(picture, picture.made.get(name, -_START_SECONDS))
        )
        nodes.append(_as(picture.template, name) if starts else node)
    return Simulation(nodes, picture.pods, stores=picture.stores)


def _as(template: Object, name: str) -> Object:
    meta = template["metadata"]
    labels = {**(meta.get("labels") or {}), "kubernetes.io/hostname": name}
    return {**template, "metadata": {**meta, "name": name, "uid": f"template-{name}", "labels": labels}}


def _add(simulation: Simulation, picture: Picture, name: str) -> None:
    """A node as it will be: with a pod of each DaemonSet that goes there."""
    simulation.add_node(_as(picture.template, name))
    for daemon_set in picture.daemon_sets:
        template = daemon_set["spec"]["template"]
        owner = daemon_set["metadata"]
        meta = {**(template.get("metadata") or {}), "name": f"{owner['name']}-{name}", "namespace": owner["namespace"]}
        meta["uid"] = f"{owner['uid']}-{name}"
        simulation.place_on({"metadata": meta, "spec": template["spec"], "status": {}}, name)


def is_empty(node: Object, pods: Iterable[Object]) -> bool:
    """Whether nothing runs on a node but what runs on each: pods of DaemonSets, and its own static pods."""
    name = node["metadata"]["name"]
    return not any(pod["spec"].get("nodeName") == name and _counts(pod) for pod in pods)


def _counts(pod: Object) -> bool:
    meta = pod["metadata"]
    if (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed") or MIRROR in (meta.get("annotations") or {}):
        return False
    return not any(
        owner["kind"] == "DaemonSet" for owner in meta.get("ownerReferences") or () if owner.get("controller")
    )


def unneeded(picture: Picture, group: Group) -> list[str]:
    """The nodes of the group that are empty, Ready or not, and may go. None while any pod waits for room."""
    if any(is_pending(pod) for pod in picture.pods):
        return []
    return [
        node["metadata"]["name"]
        for node in picture.nodes
        if group.has(node["metadata"]["name"])
        and (node["metadata"].get("annotations") or {}).get(SCALE_DOWN_DISABLED) != "true"
        and (is_ready(node) or not _is_awaited(picture, picture.made.get(node["metadata"]["name"], -_START_SECONDS)))
        and is_empty(node, picture.pods)
    ]


def shrink(
    candidates: Sequence[str], since: Mapping[str, float], now: float, delay: float, group: Group, members: int
) -> str:
    """The node to end now: the one that has been unneeded longest, if that is ``delay`` seconds and one can be spared.

    Empty if none is to go.
    """
    if members <= group.least or not candidates:
        return ""
    first = min(candidates, key=lambda name: (since.get(name, now), name))
    return first if now - since.get(first, now) >= delay else ""
