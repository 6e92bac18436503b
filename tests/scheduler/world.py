"""A cluster for tests of the scheduler: nodes and pods as objects, a framework over them, without an API server."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any, cast

from tiphys.api.object import Object
from tiphys.client.informer import Store
from tiphys.scheduler import cycle
from tiphys.scheduler.config import ProfileConfig
from tiphys.scheduler.cycle import Failure, Placement
from tiphys.scheduler.framework.cyclestate import CycleState
from tiphys.scheduler.framework.podinfo import PodInfo
from tiphys.scheduler.framework.runtime import Framework
from tiphys.scheduler.framework.status import Status
from tiphys.scheduler.handle import Handle
from tiphys.scheduler.plugins.registry import make_framework


def node(name: str, *, cpu: str = "4", memory: str = "8Gi", pods: int = 110, zone: str = "", **more: Any) -> Object:
    labels = {"kubernetes.io/hostname": name, **more.pop("labels", {})}
    if zone:
        labels["topology.kubernetes.io/zone"] = zone
    images = [{"names": [image], "sizeBytes": size} for image, size in more.pop("images", {}).items()]
    allocatable = {"cpu": cpu, "memory": memory, "pods": str(pods), "ephemeral-storage": "100Gi"}
    allocatable |= more.pop("resources", {})
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels},
        "spec": more,
        "status": {"allocatable": allocatable, "images": images},
    }


def pod(name: str, *, cpu: str = "", memory: str = "", namespace: str = "default", **more: Any) -> Object:
    requests = {key: value for key, value in (("cpu", cpu), ("memory", memory)) if value} | more.pop("requests", {})
    container: Object = {"name": "main", "image": more.pop("image", "app:1"), "resources": {"requests": requests}}
    if ports := more.pop("ports", ()):
        container["ports"] = [{"containerPort": port, "hostPort": port, "protocol": "TCP"} for port in ports]
    meta: Object = {"name": name, "namespace": namespace, "uid": f"uid-{name}", "labels": more.pop("labels", {})}
    if owners := more.pop("owners", ()):
        meta["ownerReferences"] = owners
    status = more.pop("status", {})
    if node_name := more.pop("on", ""):
        more["nodeName"] = node_name
    spec = {"containers": [container], **more}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec, "status": status}


def anti_affinity(app: str, key: str = "kubernetes.io/hostname") -> Object:
    return {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term(app, key)]}}


def affinity(app: str, key: str = "kubernetes.io/hostname") -> Object:
    return {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term(app, key)]}}


def preferred(kind: str, app: str, weight: int = 10, key: str = "kubernetes.io/hostname") -> Object:
    entry = {"weight": weight, "podAffinityTerm": term(app, key)}
    return {kind: {"preferredDuringSchedulingIgnoredDuringExecution": [entry]}}


def term(app: str, key: str) -> Object:
    return {"labelSelector": {"matchLabels": {"app": app}}, "topologyKey": key}


def spread(
    app: str, key: str = "topology.kubernetes.io/zone", skew: int = 1, when: str = "DoNotSchedule", **more: Any
) -> Object:
    selector = {"matchLabels": {"app": app}}
    return {"maxSkew": skew, "topologyKey": key, "whenUnsatisfiable": when, "labelSelector": selector, **more}


class Recorder:
    """In place of the runner and the event recorder: keeps what it is given."""

    def __init__(self) -> None:
        self.spawned: list[str] = []

    def spawn(self, work: Any, name: str) -> None:
        work.close()
        self.spawned.append(name)


class World:
    def __init__(
        self,
        nodes: Iterable[Object] = (),
        pods: Iterable[Object] = (),
        profile: ProfileConfig | None = None,
        seed: int = 7,
    ) -> None:
        self.rng = random.Random(seed)
        self.recorder = Recorder()
        anything = cast(Any, self.recorder)
        self.handle = Handle(anything, anything, self.rng, anything, anything)
        self.cache = self.handle.cache
        self.framework: Framework = make_framework(profile or ProfileConfig(), self.handle)
        for described in nodes:
            self.cache.add_node(described)
        for described in pods:
            self.cache.set_pod(PodInfo(described))

    def store(self, plural: str, *objects: Object) -> None:
        store = self.handle.stores.setdefault(plural, Store())
        for obj in objects:
            store.put(obj)

    def schedule(self, described: Object) -> Placement | Failure:
        return cycle.schedule(self.framework, PodInfo(described), self.rng)

    def place(self, described: Object) -> str:
        """Schedule and assume; the node's name. Fails where there is none."""
        outcome = self.schedule(described)
        assert isinstance(outcome, Placement), outcome
        self.cache.assume(PodInfo(described).assumed_on(outcome.node))
        return outcome.node

    def refusal(self, described: Object) -> str:
        outcome = self.schedule(described)
        assert isinstance(outcome, Failure), outcome
        return outcome.message

    def objections(self, described: Object) -> dict[str, Status | None]:
        """What the filters say of each node."""
        state, info = CycleState(), PodInfo(described)
        _, _, status = self.framework.pre_filter(state, info)
        assert status is None, status
        return {node.name: self.framework.filter(state, info, node) for node in self.cache.table}

    def scores(self, described: Object) -> dict[str, int]:
        """The weighted scores of all nodes, one by one."""
        state, info = CycleState(), PodInfo(described)
        self.framework.pre_filter(state, info)
        nodes = list(self.cache.table)
        self.framework.pre_score(state, info, nodes)
        return dict(zip((n.name for n in nodes), self.framework.score(state, info, nodes), strict=True))
