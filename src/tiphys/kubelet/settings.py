"""Facts of the node and choices of its operator that pods' configuration depends on.

Source: https://kubernetes.io/docs/reference/config-api/kubelet-config.v1beta1/
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from tiphys.kubelet.cgroups.names import Name, of_all_pods, of_pod, of_uid, path_of, place, slice_of
from tiphys.kubelet.container.resources import QUOTA_PERIOD
from tiphys.kubelet.container.security import HostSecurity
from tiphys.kubelet.container.swap import SwapControl
from tiphys.kubelet.node.resolver import ClusterDNS
from tiphys.kubelet.pod.pods import Pod


@dataclass(slots=True)
class NodeSettings:
    node_name: str
    root: Path
    """The kubelet's folder, upstream's is /var/lib/kubelet."""
    log_root: str = "/var/log/pods"
    container_log_links: str = "/var/log/containers"
    host_ips: tuple[str, ...] = ()
    dns: ClusterDNS = field(default_factory=ClusterDNS)
    security: HostSecurity = field(default_factory=HostSecurity)
    memory_capacity: int = 0
    allocatable: dict[str, str] = field(default_factory=dict)
    cgroup_driver: str = "cgroupfs"
    cgroup_root: str = ""
    """Parent of the cgroup ``kubepods``; empty for the top."""
    cgroups_per_qos: bool = True
    cpu_period: int = QUOTA_PERIOD
    """Microseconds over which limits of processors are counted; 0: they are not enforced."""
    swap: SwapControl | None = None
    """None: the node's cgroups cannot limit swap."""

    def pod_dir(self, pod_uid: str) -> Path:
        return self.root / "pods" / pod_uid

    @property
    def top_cgroup(self) -> Name:
        """The cgroup of all pods."""
        return of_all_pods(self.cgroup_root)

    @property
    def pods_cgroup(self) -> str:
        """The same as a path from the top of the hierarchy."""
        return place(self._in_the_drivers_way(self.top_cgroup))

    def cgroup_parent(self, pod: Pod) -> str:
        """The cgroup of a pod, in the way of the cgroup driver; empty if pods have no cgroups of their own."""
        return self._in_the_drivers_way(of_pod(self.top_cgroup, pod)) if self.cgroups_per_qos else ""

    def cgroups_of(self, pod_uid: str) -> list[str]:
        """Paths of the cgroups that a pod may have, whatever its quality of service is."""
        if not self.cgroups_per_qos:
            return []
        return [place(self._in_the_drivers_way(name)) for name in of_uid(self.top_cgroup, pod_uid)]

    def _in_the_drivers_way(self, name: Name) -> str:
        return slice_of(name) if self.cgroup_driver == "systemd" else path_of(name)
