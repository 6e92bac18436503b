"""Controller manager settings, with the defaults of kube-controller-manager v1.36.

Source: https://kubernetes.io/docs/reference/command-line-tools-reference/kube-controller-manager/
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tiphys.client.options import ClientOptions
from tiphys.controlkit.leaderelection import LeaderElectionConfig
from tiphys.controlkit.serving.settings import PortSettings

SIGNERS = {
    "kubelet-serving": "kubernetes.io/kubelet-serving",
    "kubelet-client": "kubernetes.io/kube-apiserver-client-kubelet",
    "kube-apiserver-client": "kubernetes.io/kube-apiserver-client",
    "legacy-unknown": "kubernetes.io/legacy-unknown",
}
"""The signers that every cluster has, by what flags call them."""


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A certificate and its private key, in PEM."""

    certificate: bytes
    key: bytes


MASK_SIZES = {4: 24, 6: 64}
"""The prefixes of nodes' ranges, by IP version, if nothing is said."""


@dataclass(frozen=True, slots=True)
class ControllerManagerConfig:
    """Durations are in seconds, files are given as their content."""

    controllers: tuple[str, ...] = ("*",)
    """As --controllers: names, ``-name`` to leave one out, ``*`` for all that are on by default."""
    leader_election: LeaderElectionConfig | None = None
    """None: work at once, without a Lease."""
    serving: PortSettings | None = None
    """Where health, metrics and pages are served; None: nowhere."""
    client: ClientOptions = field(default_factory=ClientOptions)
    """What is said about the client beside the kubeconfig."""

    concurrent_deployment_syncs: int = 5
    concurrent_replicaset_syncs: int = 5
    concurrent_rc_syncs: int = 5
    concurrent_endpoint_syncs: int = 5
    concurrent_service_endpoint_syncs: int = 5
    concurrent_gc_syncs: int = 20
    concurrent_namespace_syncs: int = 10
    concurrent_daemonset_syncs: int = 2
    concurrent_job_syncs: int = 5
    concurrent_cron_job_syncs: int = 5
    concurrent_statefulset_syncs: int = 5
    concurrent_resource_quota_syncs: int = 5
    concurrent_serviceaccount_token_syncs: int = 5
    concurrent_ttl_after_finished_syncs: int = 5

    concurrent_validating_admission_policy_status_syncs: int = 5
    mirroring_concurrent_service_endpoint_syncs: int = 5
    controller_start_interval: float = 0.0
    """Between the starts of two controllers; up to twice as long, at random."""

    max_endpoints_per_slice: int = 100
    mirroring_max_endpoints_per_subset: int = 1000
    endpoint_updates_batch_period: float = 0.0
    endpoint_slice_updates_batch_period: float = 0.0
    mirroring_endpoint_slice_updates_batch_period: float = 0.0
    namespace_sync_period: float = 300.0
    resource_quota_sync_period: float = 300.0

    root_ca: bytes = b""
    """PEM of the CA that signed the API server's certificate, for kube-root-ca.crt and service account secrets."""
    service_account_signing_key: bytes = b""
    """PEM of the private key; without it the tokens of service account secrets are not made."""
    signers: Mapping[str, KeyPair] = field(default_factory=dict)
    """The authority of each signer that signs here, by the signer's name."""
    cluster_signing_duration: float = 365 * 24 * 3600.0

    allocate_node_cidrs: bool = False
    cluster_cidrs: tuple[str, ...] = ()
    service_cluster_ip_ranges: tuple[str, ...] = ()
    node_cidr_mask_sizes: Mapping[int, int] = field(default_factory=lambda: dict(MASK_SIZES))
    """By IP version."""

    node_monitor_period: float = 5.0
    node_monitor_grace_period: float = 50.0
    node_startup_grace_period: float = 60.0
    node_eviction_rate: float = 0.1
    secondary_node_eviction_rate: float = 0.01
    large_cluster_size_threshold: int = 50
    unhealthy_zone_threshold: float = 0.55

    legacy_service_account_token_clean_up_period: float = 365 * 24 * 3600.0
    terminated_pod_gc_threshold: int = 12500
    pv_claim_binder_sync_period: float = 15.0
    disable_force_detach_on_timeout: bool = False
    enable_dynamic_provisioning: bool = True
    """Whether provisioners are asked for volumes."""
    enable_garbage_collector: bool = True
    concurrent_ephemeral_volume_syncs: int = 5
    concurrent_resource_claim_syncs: int = 50
    concurrent_device_taint_eviction_syncs: int = 8

    horizontal_pod_autoscaler_sync_period: float = 15.0
    horizontal_pod_autoscaler_tolerance: float = 0.1
    horizontal_pod_autoscaler_downscale_stabilization: float = 300.0
    horizontal_pod_autoscaler_cpu_initialization_period: float = 300.0
    horizontal_pod_autoscaler_initial_readiness_delay: float = 30.0
    concurrent_horizontal_pod_autoscaler_syncs: int = 5
