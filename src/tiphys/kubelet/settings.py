"""Facts of the node and choices of its operator that pods' configuration depends on.

Source: https://kubernetes.io/docs/reference/config-api/kubelet-config.v1beta1/
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from tiphys.api.pods.qos import BEST_EFFORT, BURSTABLE, qos_of
from tiphys.kubelet.container.security import HostSecurity
from tiphys.kubelet.node.resolver import ClusterDNS
from tiphys.kubelet.pod import pods
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
    enforce_cpu_limits: bool = True

    def pod_dir(self, pod_uid: str) -> Path:
        return self.root / "pods" / pod_uid

    @property
    def pods_cgroup(self) -> str:
        """The cgroup of all pods, from the top of the hierarchy."""
        top = "kubepods.slice" if self.cgroup_driver == "systemd" else "kubepods"
        return "/".join(part for part in (self.cgroup_root.strip("/"), top) if part)

    def cgroup_parent(self, pod: Pod) -> str:
        """The cgroup of a pod, in the way of the cgroup driver; empty if pods have no cgroups of their own."""
        if not self.cgroups_per_qos:
            return ""
        quality, uid = qos_of(pod), pods.uid_of(pod)
        middle = {BURSTABLE: "burstable", BEST_EFFORT: "besteffort"}.get(quality, "")
        if self.cgroup_driver == "systemd":
            return "-".join(part for part in ("kubepods", middle, f"pod{uid.replace('-', '_')}") if part) + ".slice"
        parts = [self.cgroup_root.strip("/"), "kubepods", middle, f"pod{uid}"]
        return "/" + "/".join(part for part in parts if part)
