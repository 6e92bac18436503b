"""Kubelet settings: the supported fields of KubeletConfiguration and flags, with upstream's defaults.

Source: https://kubernetes.io/docs/reference/config-api/kubelet-config.v1beta1/
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tiphys.kubelet.cgroups import enforcement
from tiphys.kubelet.container.resources import QUOTA_PERIOD
from tiphys.kubelet.images import verification
from tiphys.kubelet.images.verification import VerificationPolicy
from tiphys.kubelet.node.imagegc import ImagePolicy
from tiphys.kubelet.node.resolver import read_resolver
from tiphys.kubelet.node.thresholds import Threshold, read_thresholds
from tiphys.kubelet.quantities import exact
from tiphys.kubelet.shutdown.groups import Period
from tiphys.runtime import featuregates
from tiphys.runtime.durations import seconds_text
from tiphys.runtime.logs import LogSettings

LEASE_SECONDS = 40
SYSTEMD_RESOLVER = Path("/run/systemd/resolve/resolv.conf")


def default_resolver_file(path: str = "/etc/resolv.conf", systemd: Path = SYSTEMD_RESOLVER) -> str:
    """The node's resolver file; if it leads to a resolver on the node's loopback, systemd's list of real ones."""
    servers = read_resolver(path).servers
    only_local = bool(servers) and all(server.startswith("127.") or server == "::1" for server in servers)
    return str(systemd) if only_local and systemd.exists() else path


@dataclass(slots=True)
class KubeletConfig:
    node_name: str
    root: Path = Path("/var/lib/kubelet")
    node_ips: tuple[str, ...] = ()
    """The node's addresses; empty: found out."""
    external_cloud: bool = False
    """A cloud's controllers say what the node is and which addresses it has."""
    provider_id: str = ""
    """By which the cloud knows the node; empty: the cloud says it."""
    labels: dict[str, str] = field(default_factory=dict)
    taints: list[dict[str, Any]] = field(default_factory=list)
    register_node: bool = True
    standalone: bool = False
    """Whether there is no API server: only static pods are run."""
    status_update_frequency: float = 10.0
    """Seconds between two looks at what the Node says."""
    status_report_frequency: float = 300.0
    """A status that says nothing new is sent after so long."""
    lease_seconds: int = LEASE_SECONDS
    """How long the node's Lease counts; it is renewed four times as often."""
    status_images: int = 50
    """So many images are listed in the Node's status, the largest; -1 for all."""
    sync_frequency: float = 60.0
    """A pod of which nothing is heard is looked at again after so long, or half as long again."""
    file_check_frequency: float = 20.0
    """The folder of static pods is read again after so long though nothing is heard of it."""
    runtime_timeout: float = 120.0
    """Seconds that the runtime may take to answer, beside what it waits for."""
    static_pod_path: Path | None = None
    static_url: str = ""
    static_headers: tuple[tuple[str, str], ...] = ()
    http_check_frequency: float = 20.0
    """Where static pods are asked for, too, with which headers, and after how many seconds again."""
    cluster_dns: tuple[str, ...] = ()
    cluster_domain: str = "cluster.local"
    resolver_file: str = field(default_factory=default_resolver_file)
    log_root: str = "/var/log/pods"
    container_log_links: str = "/var/log/containers"
    max_pods: int = 110
    pods_per_core: int = 0
    """How many of them there may be for each processor; 0 for any number."""
    pod_pids_limit: int = -1
    """Processes and threads that one pod may have; -1: as many as the node has room for."""
    pod_cidr: str = ""
    cgroup_driver: str = "cgroupfs"
    cgroup_root: str = ""
    cgroups_per_qos: bool = True
    enforced: tuple[str, ...] | None = None
    """Whose limits are enforced: ``pods``, ``system-reserved``, ``kube-reserved``, …; None: those of pods, if they have
    cgroups."""
    system_cgroup: str = ""
    kube_cgroup: str = ""
    """Cgroups of what runs beside the pods; somebody else makes them."""
    cpu_cfs_quota: bool = True
    cpu_period: int = QUOTA_PERIOD
    """Microseconds over which limits of processors are counted, if they are enforced."""
    system_reserved: dict[str, str] = field(default_factory=dict)
    kube_reserved: dict[str, str] = field(default_factory=dict)
    reserved_cpus: str = ""
    """Processors that are kept for the system, as ``0-1,4``; empty: as many as ``reserved`` says."""
    gates: dict[str, bool] = field(default_factory=dict)
    """The feature gates that were asked for."""
    cpu_policy: str = "none"
    cpu_policy_options: dict[str, str] = field(default_factory=dict)
    topology_policy: str = "none"
    topology_scope: str = "container"
    topology_policy_options: dict[str, str] = field(default_factory=dict)
    memory_policy: str = "None"
    reserved_memory: tuple[tuple[int, dict[str, str]], ...] = ()
    """NUMA nodes, and what each keeps for the system, by resource."""
    seccomp_default: bool = False
    allowed_unsafe_sysctls: tuple[str, ...] = ()
    serialize_image_pulls: bool = True
    parallel_image_pulls: int | None = None
    """How many at one time, if not one after another; None: any number."""
    registry_qps: float = 5
    registry_burst: int = 10
    """Pulls that begin in a second, and at once; a rate of 0: any number."""
    image_verification: str = VerificationPolicy.NEVER_PRELOADED
    image_allowlist: tuple[str, ...] = ()
    """Which images that are on the node a pod may use without having shown a credential for them."""
    provider_config: str = ""
    provider_folder: str = ""
    """The file or folder that says which programs give credentials for images, and the folder of the programs."""
    merges_eviction: bool = False
    """Whether the command's default thresholds hold for the signals that are not named."""
    eviction_hard: dict[str, str] = field(default_factory=lambda: {"memory.available": "100Mi"})
    """Thresholds that end pods. The command's default watches the disk too, as upstream's; a cluster on a developer's
    machine does not, as a disk that is nearly full is nothing unusual there."""
    eviction_soft: dict[str, str] = field(default_factory=dict)
    eviction_soft_grace: dict[str, float] = field(default_factory=dict)
    """Seconds that a soft threshold has to be crossed before a pod is ended, by signal."""
    eviction_longest_grace: int = 0
    """Seconds that a pod has at the most to end for the sake of a soft threshold."""
    eviction_reclaim: dict[str, str] = field(default_factory=dict)
    """How much more than the threshold is to be free again, by signal, before no more pods are ended."""
    eviction_transition: float = 300.0
    """Seconds that a node stays under pressure after a threshold was last crossed: no eviction in cycles."""
    dead_containers: int = 1
    """Dead runs of each container that are kept, for `kubectl logs --previous`."""
    image_gc_high_percent: int = 85
    image_gc_low_percent: int = 80
    image_minimum_age: float = 120.0
    image_maximum_age: float = 0.0
    """Seconds after which an image that nobody uses is removed in any case; 0 for never."""
    shutdown_period: float = 0.0
    """Seconds that pods have to end when the machine is shut down; 0 for both and no priorities: it is not waited."""
    shutdown_period_critical: float = 0.0
    """How many of these are for critical pods alone."""
    shutdown_periods: tuple[Period, ...] = ()
    container_log_max_size: int = 10 << 20
    container_log_max_files: int = 5
    address: str = "0.0.0.0"
    port: int = 10250
    """Port of the kubelet's server; 0 for any free one."""
    serve: bool = True
    debugging: bool = True
    """Whether containers can be entered, and logs read, by the kubelet's server."""
    profiling: bool = True
    """Whether it serves ``/debug/pprof/``."""
    tokens_for: float = 120.0
    """How long the API server's word counts on a token, on what is allowed, and on what is not; in seconds."""
    allowed_for: float = 300.0
    denied_for: float = 30.0
    tls_versions: str = "VersionTLS12"
    tls_ciphers: tuple[str, ...] = ()
    """Suites of TLS 1.2; empty for those that are common."""
    healthz_address: str = "127.0.0.1"
    healthz_port: int = 0
    """Port of the health page for the node's own; 0 for none. The command's default is upstream's."""
    cert_dir: Path | None = None
    """Folder of the certificates that the kubelet makes or asks for itself: upstream's is ``pki`` below its own."""
    rotate_certificates: bool = False
    """Whether the client certificate is renewed before it ends."""
    server_tls_bootstrap: bool = False
    """Whether the serving certificate is asked of the cluster, and renewed before it ends."""
    tls_cert: Path | None = None
    """Without one the kubelet signs its own, if it has a ``cert_dir``, and otherwise serves without TLS."""
    tls_key: Path | None = None
    client_ca: Path | None = None
    anonymous: bool = False
    token_webhook: bool = True
    authorization: str = "Webhook"
    """``Webhook`` asks the API server, ``AlwaysAllow`` lets every known caller do everything."""
    fail_swap_on: bool = False
    """Whether a machine that swaps is refused. The command's default is upstream's."""
    swap_behavior: str = ""
    """``NoSwap``, which is what none stands for, or ``LimitedSwap``: containers that may use more memory than they
    request have their share of the node's swap."""
    fail_cgroup_v1: bool = False
    """Whether a machine with version 1 of control groups is refused."""
    max_open_files: int = 0
    """How many files the kubelet may have open; 0: as many as it was started with. The command's default is
    upstream's."""
    oom_score_adjust: int | None = None
    """How gladly the kernel ends this process when memory runs out; None leaves it. The command's default is
    upstream's."""
    memory_volumes: bool = True
    logging: LogSettings = field(default_factory=LogSettings)
    api_qps: float | None = None
    api_burst: int | None = None
    """Requests a second to the API server, and how many at once; without the first nothing makes them wait."""
    flags: Mapping[str, object] = field(default_factory=dict)
    """What ``/flagz`` shows."""
    image_socket: str = ""
    """The path of the image service's socket; empty: the runtime has it."""
    runtime_socket: str = ""
    """The path of the runtime's socket, for figures of its process; empty: none is known."""

    def pods_on(self, processors: int) -> int:
        """How many pods the node takes."""
        return min(self.max_pods, self.pods_per_core * processors) if self.pods_per_core else self.max_pods

    @property
    def enforcements(self) -> tuple[str, ...]:
        return self.enforced or ((enforcement.PODS if self.cgroups_per_qos else enforcement.NONE),)

    @property
    def reserved_cgroups(self) -> list[enforcement.Reserved]:
        """The cgroups beside the pods' that are limited."""
        amounts = {enforcement.SYSTEM: self.system_reserved, enforcement.KUBE: self.kube_reserved}
        return enforcement.reserved_cgroups(self.enforcements, self._cgroups(), amounts)

    def problems(self) -> list[str]:
        """What does not go together."""
        per_qos, cpus = self.cgroups_per_qos, self.reserved_cpus
        wrong = enforcement.problems(self.enforcements, self._cgroups(), per_qos=per_qos, reserved_cpus=cpus)
        wrong += self.image_policy.problems
        try:
            self.thresholds()
        except ValueError as error:
            wrong.append(str(error))
        if wrong_period := self._period_problem():
            wrong.append(wrong_period)
        wrong += verification.problems(self.image_verification, self.image_allowlist)
        if self.registry_burst < 0:
            text = f"registryBurst (--registry-burst) {self.registry_burst} must not be a negative number"
            wrong.append(f"invalid configuration: {text}")
        if self.registry_qps < 0:
            text = f"registryPullQPS (--registry-qps) {self.registry_qps} must not be a negative number"
            wrong.append(f"invalid configuration: {text}")
        if self.parallel_image_pulls is not None and self.parallel_image_pulls < 1:
            text = f"maxParallelImagePulls {self.parallel_image_pulls} must be a positive number"
            wrong.append(f"invalid configuration: {text}")
        if self.serialize_image_pulls and (self.parallel_image_pulls or 1) > 1:
            wrong.append(
                "invalid configuration: maxParallelImagePulls cannot be larger than 1 unless SerializeImagePulls"
                " (--serialize-image-pulls) is set to false"
            )
        return wrong

    def _period_problem(self) -> str:
        text = f"cpuCFSQuotaPeriod (--cpu-cfs-quota-period) {seconds_text(self.cpu_period / 1_000_000)}"
        if featuregates.is_enabled("CustomCPUCFSQuotaPeriod", self.gates):
            wrong = not 1_000 <= self.cpu_period <= 1_000_000
            return f"invalid configuration: {text} must be between 1ms and 1sec, inclusive" if wrong else ""
        needs = f"invalid configuration: {text} requires feature gate CustomCPUCFSQuotaPeriod"
        return needs if self.cpu_period != QUOTA_PERIOD else ""

    def _cgroups(self) -> dict[str, str]:
        return {enforcement.SYSTEM: self.system_cgroup, enforcement.KUBE: self.kube_cgroup}

    def thresholds(self) -> tuple[Threshold, ...]:
        """Those that end pods. Raises ``ValueError`` if they do not go together."""
        soft = (self.eviction_soft, self.eviction_soft_grace, self.eviction_reclaim)
        return read_thresholds(self.eviction_hard, *soft, pods_enforced=enforcement.PODS in self.enforcements)

    @property
    def image_policy(self) -> ImagePolicy:
        """When images are removed."""
        ages = (self.image_minimum_age, self.image_maximum_age)
        return ImagePolicy(self.image_gc_high_percent, self.image_gc_low_percent, *ages)

    @property
    def reserved(self) -> dict[str, str]:
        """What is kept for the system and for the cluster's own programs together."""
        amounts = dict(self.system_reserved)
        for name, text in self.kube_reserved.items():
            if name in amounts:
                both = exact(amounts[name]) + exact(text)
                text = f"{-(-both // 10**6)}m" if name == "cpu" else str(-(-both // 10**9))
            amounts[name] = text
        return amounts
