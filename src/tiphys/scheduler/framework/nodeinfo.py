"""``NodeInfo``: a node and the pods on it, summed up.

Source: https://kubernetes.io/docs/concepts/scheduling-eviction/scheduling-framework/
"""

from __future__ import annotations

from collections.abc import Mapping

from tiphys.api.object import Object
from tiphys.api.pods.hostports import HostPort
from tiphys.api.scheduling.taints import Taint, taints_of
from tiphys.scheduler.framework.podinfo import PodInfo, with_tag
from tiphys.scheduler.framework.resources import PODS, Amounts, amounts


class NodeInfo:
    """``row`` is the node's place in the ``NodeTable``."""

    __slots__ = (
        "allocatable",
        "images",
        "labels",
        "name",
        "obj",
        "pods",
        "ports",
        "requested",
        "row",
        "scored_cpu",
        "scored_memory",
        "taints",
        "unschedulable",
    )

    def __init__(self, obj: Object, row: int = -1) -> None:
        self.row = row
        self.pods: dict[str, PodInfo] = {}
        self.requested: Amounts = {}
        self.scored_cpu = 0
        self.scored_memory = 0
        self.ports: dict[HostPort, int] = {}
        self.set_node(obj)

    def set_node(self, obj: Object) -> None:
        self.obj = obj
        self.name: str = obj["metadata"]["name"]
        self.labels: Mapping[str, str] = obj["metadata"].get("labels") or {}
        spec, status = obj.get("spec") or {}, obj.get("status") or {}
        self.unschedulable: bool = bool(spec.get("unschedulable"))
        self.taints: tuple[Taint, ...] = taints_of(obj)
        self.allocatable: Amounts = amounts(status.get("allocatable"))
        self.images: dict[str, int] = {
            with_tag(name): image.get("sizeBytes", 0)
            for image in status.get("images") or ()
            for name in image.get("names") or ()
        }

    @property
    def allowed_pods(self) -> int:
        return self.allocatable.get(PODS, 0)

    def add_pod(self, pod: PodInfo) -> None:
        self.pods[pod.uid] = pod
        self._count(pod, 1)

    def remove_pod(self, pod: PodInfo) -> None:
        self._count(self.pods.pop(pod.uid), -1)

    def _count(self, pod: PodInfo, sign: int) -> None:
        for name, value in pod.requests.items():
            self.requested[name] = self.requested.get(name, 0) + sign * value
        self.scored_cpu += sign * pod.scored_cpu
        self.scored_memory += sign * pod.scored_memory
        for port in pod.host_ports:
            left = self.ports.get(port, 0) + sign
            if left:
                self.ports[port] = left
            else:
                self.ports.pop(port, None)

    def clone(self) -> NodeInfo:
        """A copy for simulations: its pods can be removed without touching the real one."""
        other = NodeInfo.__new__(NodeInfo)
        for name in NodeInfo.__slots__:
            setattr(other, name, getattr(self, name))
        other.pods, other.requested, other.ports = dict(self.pods), dict(self.requested), dict(self.ports)
        return other
