"""What a cloud gives a cluster: machines, load balancers, routes, volumes. One interface for every cloud.

A provider offers what its cloud has; None stands for what it has not, and the controller of it is not run. Nodes and
Services are given as objects of the API, to be read only. Every method may raise an error of the cloud's own: the
controller reports it, and tries again. The terms are upstream's.

Source: https://github.com/kubernetes/cloud-provider, and
https://kubernetes.io/docs/concepts/architecture/cloud-controller/
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from tiphys.api.object import Object


class CloudError(Exception):
    """The cloud did not do what was asked; the message, one line, says why."""


class RetryAfter(CloudError):
    """Not done yet: to be asked for again in ``seconds``."""

    def __init__(self, message: str, seconds: float) -> None:
        super().__init__(message)
        self.seconds = seconds


class ImplementedElsewhere(CloudError):
    """Somebody else takes care of this Service: nothing is to be done here."""


@dataclass(frozen=True, slots=True)
class InstanceMetadata:
    """What a cloud knows of one machine.

    ``addresses`` are as in a node's status: ``type`` and ``address`` each. ``labels`` are set if the node has none of
    the name; those of Kubernetes' own domains are left out.
    """

    provider_id: str
    """``NAME://ID``; never changes."""
    instance_type: str = ""
    addresses: Sequence[Object] = ()
    zone: str = ""
    region: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)


class Instances(Protocol):
    """The machines that are nodes. A node is known by ``spec.providerID`` if it has one, otherwise by its name."""

    async def exists(self, node: Object) -> bool:
        """Whether the machine exists, be it stopped. If False, its node is deleted."""
        ...

    async def is_shut_down(self, node: Object) -> bool: ...

    async def metadata(self, node: Object) -> InstanceMetadata | None:
        """None: nothing is known yet, and the node waits. Raises ``CloudError`` if there is no such machine."""
        ...


class LoadBalancers(Protocol):
    """Load balancers of Services, each found again by the Service's uid (``load_balancer_name``)."""

    async def get(self, cluster: str, service: Object) -> Object | None:
        """The ``status.loadBalancer`` of a Service's load balancer; None if it has none."""
        ...

    async def ensure(self, cluster: str, service: Object, nodes: Sequence[Object]) -> Object:
        """Make it, or change it into what the Service wants; gives its ``status.loadBalancer``."""
        ...

    async def update(self, cluster: str, service: Object, nodes: Sequence[Object]) -> Object | None:
        """Send its traffic to these nodes from now on; gives the ``status.loadBalancer`` if that follows the nodes."""
        ...

    async def delete(self, cluster: str, service: Object) -> None:
        """Remove it and all that belongs to it; it is no error if some of that, or all, is gone."""
        ...


@dataclass(frozen=True, slots=True)
class Route:
    """How the cloud's network finds a node's pods."""

    name: str
    """The cloud's own; empty for one that is to be made."""
    node: str
    cidr: str
    addresses: Sequence[Object] | None = None
    """The node's addresses as the route has them; None if the cloud does not keep any."""
    blackhole: bool = False
    """It leads nowhere, and is removed."""


class Routes(Protocol):
    async def list(self, cluster: str) -> Sequence[Route]: ...

    async def create(self, cluster: str, hint: str, route: Route) -> None:
        """``hint`` may become part of its name."""
        ...

    async def delete(self, cluster: str, route: Route) -> None: ...


class NoSuchDisk(CloudError):
    """The cloud has no volume or snapshot of this id."""


class AttachedElsewhere(CloudError):
    """The volume is attached to another machine, and to one at a time only."""


class NoRoom(CloudError):
    """The cloud has no more of what was asked for, here or at all."""


class OtherDisk(CloudError):
    """The name belongs to a volume or snapshot that is not what was asked for."""


@dataclass(frozen=True, slots=True)
class CloudVolume:
    """``size`` in bytes."""

    id: str
    size: int
    zone: str = ""
    """Where it can be attached; empty for everywhere."""
    source: str = ""
    """The snapshot that it began as."""


@dataclass(frozen=True, slots=True)
class CloudSnapshot:
    """``size`` in bytes, ``created`` in seconds since the epoch. ``is_ready``: volumes can be made of it."""

    id: str
    volume: str
    size: int
    created: float
    is_ready: bool = True


class Volumes(Protocol):
    """Disks for pods, each attached to one machine at a time. Each call can be repeated, and then changes nothing."""

    @property
    def has_zones(self) -> bool:
        """Whether a volume can be attached in its own zone only."""
        ...

    async def create(self, name: str, size: int, *, zone: str = "", kind: str = "", source: str = "") -> CloudVolume:
        """Make a volume, or give the one that this ``name`` made before. ``kind`` is the cloud's word for a sort of
        disks, ``source`` a snapshot. Raises ``NoRoom``, ``NoSuchDisk`` for the source, and ``OtherDisk``."""
        ...

    async def get(self, identity: str) -> CloudVolume | None: ...

    async def delete(self, identity: str) -> None:
        """It is no error if it is gone. Raises ``AttachedElsewhere`` while it is attached."""
        ...

    async def attach(self, identity: str, node: Object) -> Sequence[str]:
        """Give it to a node's machine. Gives the paths on which its device may appear there, best first.

        Raises ``NoSuchDisk`` and ``AttachedElsewhere``."""
        ...

    async def detach(self, identity: str, node: Object) -> None:
        """It is no error if it is attached to none, or gone."""
        ...

    async def expand(self, identity: str, size: int) -> CloudVolume:
        """Raises ``NoSuchDisk``, ``NoRoom``."""
        ...

    async def snapshot(self, name: str, identity: str) -> CloudSnapshot:
        """Take one, or give the one of this name. Raises ``NoSuchDisk`` and ``OtherDisk``."""
        ...

    async def get_snapshot(self, identity: str) -> CloudSnapshot | None: ...

    async def delete_snapshot(self, identity: str) -> None: ...


class Machines(Protocol):
    """Making and ending machines that become nodes: what an autoscaler asks for."""

    async def template(self) -> Object:
        """A Node such as a new machine would be: its labels, taints, capacity and allocatable."""
        ...

    async def create(self, name: str) -> None:
        """Make a machine whose node will be ``name``, and start it. It is no error if it is there."""
        ...

    async def start(self, node: Object) -> None: ...

    async def stop(self, node: Object) -> None:
        """Shut it down; it can be started again."""
        ...

    async def delete(self, node: Object) -> None:
        """End it for good. Its Node is left to whoever looks after nodes."""
        ...


class CloudProvider(Protocol):
    """Made once for each program that needs it, by ``module:factory`` or by the name of one of ours."""

    name: str

    @property
    def instances(self) -> Instances | None: ...

    @property
    def load_balancers(self) -> LoadBalancers | None: ...

    @property
    def routes(self) -> Routes | None: ...

    @property
    def volumes(self) -> Volumes | None: ...

    @property
    def machines(self) -> Machines | None: ...

    async def close(self) -> None: ...


def load_balancer_name(service: Object) -> str:
    """A name that clouds accept: it begins with a letter and has 32 characters at most."""
    return ("a" + str(service["metadata"]["uid"]).replace("-", ""))[:32]
