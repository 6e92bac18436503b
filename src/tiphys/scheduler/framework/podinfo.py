"""``PodInfo``: a pod as the scheduler sees it, with what plugins ask for parsed once, on first use.

Source: https://kubernetes.io/docs/concepts/scheduling-eviction/scheduling-framework/
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from tiphys.api.object import Object
from tiphys.api.pods.hostports import HostPort, host_ports
from tiphys.api.scheduling import nodeselector
from tiphys.api.scheduling.taints import Toleration, tolerations_of
from tiphys.api.volumes.claims import claim_name
from tiphys.scheduler.framework import terms
from tiphys.scheduler.framework.resources import Amounts, counted_requests

T = TypeVar("T")


class lazy(Generic[T]):
    """``functools.cached_property`` without its lock, which costs more than most of what is computed here."""

    def __init__(self, compute: Callable[[Any], T]) -> None:
        self._compute = compute
        self._name = compute.__name__

    def __get__(self, instance: Any, owner: type) -> T:
        value = instance.__dict__[self._name] = self._compute(instance)
        return value


NO_LABELS: Mapping[str, str] = {}


class PodInfo:
    """``obj`` is shared with the informer and only read. ``node_name`` is where it is, or is assumed to be."""

    def __init__(self, obj: Object, node_name: str | None = None) -> None:
        meta, spec = obj["metadata"], obj["spec"]
        self.obj = obj
        self.uid: str = meta.get("uid", "")
        self.namespace: str = meta.get("namespace", "")
        self.name: str = meta["name"]
        self.labels: Mapping[str, str] = meta.get("labels") or NO_LABELS
        self.deleting = "deletionTimestamp" in meta
        self.priority: int = spec.get("priority") or 0
        self.node_name: str = spec.get("nodeName", "") if node_name is None else node_name

    def __repr__(self) -> str:
        return f"PodInfo({self.namespace}/{self.name})"

    @property
    def spec(self) -> Object:
        spec: Object = self.obj["spec"]
        return spec

    @property
    def status(self) -> Object:
        return self.obj.get("status") or {}

    @property
    def key(self) -> tuple[str, str]:
        return self.namespace, self.name

    @property
    def scheduler_name(self) -> str:
        return str(self.spec.get("schedulerName") or "default-scheduler")

    @property
    def nominated_node(self) -> str:
        return str(self.status.get("nominatedNodeName") or "")

    @property
    def is_terminal(self) -> bool:
        return self.status.get("phase") in ("Succeeded", "Failed")

    def assumed_on(self, node: str) -> PodInfo:
        """The same pod on a node; what was parsed already is kept."""
        other = PodInfo.__new__(PodInfo)
        other.__dict__.update(self.__dict__)
        other.node_name = node
        return other

    def updated(self, obj: Object) -> PodInfo:
        """The pod in a new version; if its spec is the same, what was parsed is kept."""
        new = PodInfo(obj)
        old_spec, new_spec = self.obj["spec"], obj["spec"]
        same = old_spec is new_spec or all(old_spec.get(key) == new_spec.get(key) for key in _PARSED_FROM)
        if same and "containerStatuses" not in self.status and "containerStatuses" not in new.status:
            for name in _PARSED & self.__dict__.keys():
                new.__dict__[name] = self.__dict__[name]
        return new

    @lazy
    def _requests(self) -> tuple[Amounts, int, int]:
        return counted_requests(self.obj)

    @property
    def requests(self) -> Amounts:
        return self._requests[0]

    @property
    def scored_cpu(self) -> int:
        return self._requests[1]

    @property
    def scored_memory(self) -> int:
        return self._requests[2]

    @lazy
    def tolerations(self) -> tuple[Toleration, ...]:
        return tolerations_of(self.spec)

    @lazy
    def host_ports(self) -> tuple[HostPort, ...]:
        return host_ports(self.spec)

    @lazy
    def images(self) -> tuple[str, ...]:
        """Images of all containers and image volumes, with a tag."""
        containers = (*(self.spec.get("initContainers") or ()), *(self.spec.get("containers") or ()))
        names = [container.get("image", "") for container in containers]
        names += [
            volume["image"].get("reference", "") for volume in self.spec.get("volumes") or () if "image" in volume
        ]
        return tuple(with_tag(name) for name in names)

    @lazy
    def claims(self) -> tuple[tuple[str, bool], ...]:
        """The names of the volume claims that it mounts, each with whether it is one made for the pod."""
        volumes = self.spec.get("volumes") or ()
        return tuple(
            (name, bool(volume.get("ephemeral"))) for volume in volumes if (name := claim_name(self.obj, volume))
        )

    @lazy
    def _affinity(self) -> Object:
        return self.spec.get("affinity") or {}

    @lazy
    def required_nodes(self) -> nodeselector.RequiredNodes | None:
        return nodeselector.required_nodes(self.spec)

    @lazy
    def preferred_nodes(self) -> tuple[tuple[nodeselector.NodeTerm, int], ...]:
        preferred = (self._affinity.get("nodeAffinity") or {}).get("preferredDuringSchedulingIgnoredDuringExecution")
        return tuple((nodeselector.node_term(entry["preference"]), entry["weight"]) for entry in preferred or ())

    @lazy
    def required_affinity(self) -> tuple[terms.AffinityTerm, ...]:
        return terms.affinity_terms(self._pod_affinity("podAffinity", "required"), self.obj)

    @lazy
    def required_anti_affinity(self) -> tuple[terms.AffinityTerm, ...]:
        return terms.affinity_terms(self._pod_affinity("podAntiAffinity", "required"), self.obj)

    @lazy
    def preferred_affinity(self) -> tuple[terms.AffinityTerm, ...]:
        return terms.weighted_terms(self._pod_affinity("podAffinity", "preferred"), self.obj)

    @lazy
    def preferred_anti_affinity(self) -> tuple[terms.AffinityTerm, ...]:
        return terms.weighted_terms(self._pod_affinity("podAntiAffinity", "preferred"), self.obj)

    def _pod_affinity(self, kind: str, strength: str) -> list[Object] | None:
        terms: list[Object] | None = (self._affinity.get(kind) or {}).get(
            f"{strength}DuringSchedulingIgnoredDuringExecution"
        )
        return terms

    @property
    def has_pod_affinity(self) -> bool:
        return "podAffinity" in self._affinity or "podAntiAffinity" in self._affinity


_PARSED_FROM = (
    "containers",
    "initContainers",
    "overhead",
    "resources",
    "tolerations",
    "affinity",
    "nodeSelector",
    "volumes",
)
_PARSED = frozenset(name for name, value in vars(PodInfo).items() if isinstance(value, lazy))


def with_tag(image: str) -> str:
    return image if image.rfind(":") > image.rfind("/") else f"{image}:latest"


@dataclass(slots=True)
class QueuedPod:
    """A pod in the queue, and what happened to it there. Times are of the monotonic clock."""

    pod: PodInfo
    timestamp: float
    """When it was last put into the queue."""
    first_attempt: float | None = None
    attempts: int = 0
    unschedulable_count: int = 0
    """How often it was found unschedulable in a row; sets the back-off."""
    error_count: int = 0
    unschedulable_plugins: set[str] = field(default_factory=set)
    """The plugins that rejected it the last time."""
    pending_plugins: set[str] = field(default_factory=set)
    gated_by: str = ""
    """The plugin that keeps it out of the queue."""

    @property
    def uid(self) -> str:
        return self.pod.uid
