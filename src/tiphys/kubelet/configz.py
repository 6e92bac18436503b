"""GET /configz: the configuration in use as a whole KubeletConfiguration.

Consumers in Go follow its pointers without looking, so every field with a default is there: what can be set here as it
is set, and what cannot as this kubelet behaves. Source:
https://kubernetes.io/docs/reference/config-api/kubelet-config.v1beta1/
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tiphys.kubelet.config import KubeletConfig
from tiphys.runtime.durations import seconds_text
from tiphys.runtime.logs import LogSettings

FIXED: dict[str, Any] = {
    "configMapAndSecretChangeDetectionStrategy": "Watch",
    "containerLogMaxWorkers": 1,
    "containerLogMonitorInterval": "10s",
    "contentType": "application/json",
    "cpuManagerReconcilePeriod": "10s",
    "crashLoopBackOff": {"maxContainerRestartPeriod": "5m0s"},
    "enableControllerAttachDetach": True,
    "enableDebugFlagsHandler": False,
    "enableSystemLogHandler": True,
    "enableSystemLogQuery": False,
    "eventBurst": 100,
    "eventRecordQPS": 50,
    "hairpinMode": "promiscuous-bridge",
    "iptablesDropBit": 15,
    "iptablesMasqueradeBit": 14,
    "localStorageCapacityIsolation": True,
    "logging": {
        "flushFrequency": "5s",
        "format": "text",
        "options": {"json": {"infoBufferSize": "0"}, "text": {"infoBufferSize": "0"}},
        "verbosity": 0,
    },
    "makeIPTablesUtilChains": False,
    "memoryReservationPolicy": "None",
    "memoryThrottlingFactor": 0.9,
    "streamingConnectionIdleTimeout": "4h0m0s",
    "volumePluginDir": "/usr/libexec/kubernetes/kubelet-plugins/volume/exec/",
    "volumeStatsAggPeriod": "1m0s",
}


def describe(config: KubeletConfig) -> dict[str, Any]:
    """The configuration in use, in the shape of KubeletConfiguration."""
    return {
        "kind": "KubeletConfiguration",
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        **FIXED,
        "healthzBindAddress": config.healthz_address,
        "healthzPort": config.healthz_port,
        "rotateCertificates": config.rotate_certificates,
        "serverTLSBootstrap": config.server_tls_bootstrap,
        "address": config.address,
        "allowedUnsafeSysctls": list(config.allowed_unsafe_sysctls),
        "authentication": {
            "anonymous": {"enabled": config.anonymous},
            "webhook": {"cacheTTL": seconds_text(config.tokens_for), "enabled": config.token_webhook},
            "x509": {"clientCAFile": str(config.client_ca or "")},
        },
        "authorization": {
            "mode": config.authorization,
            "webhook": {
                "cacheAuthorizedTTL": seconds_text(config.allowed_for),
                "cacheUnauthorizedTTL": seconds_text(config.denied_for),
            },
        },
        "cgroupDriver": config.cgroup_driver,
        "cgroupRoot": config.cgroup_root,
        "cgroupsPerQOS": config.cgroups_per_qos,
        "clusterDNS": list(config.cluster_dns),
        "clusterDomain": config.cluster_domain,
        "containerLogMaxFiles": config.container_log_max_files,
        "containerLogMaxSize": str(config.container_log_max_size),
        "containerRuntimeEndpoint": f"unix://{config.runtime_socket}",
        "cpuCFSQuota": config.cpu_cfs_quota,
        "cpuCFSQuotaPeriod": seconds_text(config.cpu_period / 1_000_000),
        "cpuManagerPolicy": config.cpu_policy,
        "cpuManagerPolicyOptions": dict(config.cpu_policy_options),
        **({"featureGates": dict(config.gates)} if config.gates else {}),
        "enableDebuggingHandlers": config.debugging,
        "enableProfilingHandler": config.profiling,
        "enableServer": config.serve,
        "failCgroupV1": config.fail_cgroup_v1,
        "failSwapOn": config.fail_swap_on,
        "fileCheckFrequency": seconds_text(config.file_check_frequency),
        "maxOpenFiles": config.max_open_files,
        "nodeLeaseDurationSeconds": config.lease_seconds,
        "nodeStatusMaxImages": config.status_images,
        "nodeStatusReportFrequency": seconds_text(config.status_report_frequency),
        "nodeStatusUpdateFrequency": seconds_text(config.status_update_frequency),
        "oomScoreAdj": config.oom_score_adjust or 0,
        "podsPerCore": config.pods_per_core,
        "runtimeRequestTimeout": seconds_text(config.runtime_timeout),
        "syncFrequency": seconds_text(config.sync_frequency),
        **({"tlsCipherSuites": list(config.tls_ciphers)} if config.tls_ciphers else {}),
        "tlsMinVersion": config.tls_versions,
        "enforceNodeAllocatable": list(config.enforcements),
        **({"systemReservedCgroup": config.system_cgroup} if config.system_cgroup else {}),
        **({"kubeReservedCgroup": config.kube_cgroup} if config.kube_cgroup else {}),
        "evictionHard": dict(config.eviction_hard),
        **({"evictionSoft": dict(config.eviction_soft)} if config.eviction_soft else {}),
        **({"evictionSoftGracePeriod": _texts(config.eviction_soft_grace)} if config.eviction_soft_grace else {}),
        **({"evictionMinimumReclaim": dict(config.eviction_reclaim)} if config.eviction_reclaim else {}),
        **({"evictionMaxPodGracePeriod": config.eviction_longest_grace} if config.eviction_longest_grace else {}),
        "evictionPressureTransitionPeriod": seconds_text(config.eviction_transition),
        "imageGCHighThresholdPercent": config.image_gc_high_percent,
        "imageGCLowThresholdPercent": config.image_gc_low_percent,
        "imageMaximumGCAge": seconds_text(config.image_maximum_age),
        "imageMinimumGCAge": seconds_text(config.image_minimum_age),
        "memorySwap": {"swapBehavior": config.swap_behavior} if config.swap_behavior else {},
        "mergeDefaultEvictionSettings": config.merges_eviction,
        **({} if config.parallel_image_pulls is None else {"maxParallelImagePulls": config.parallel_image_pulls}),
        "imagePullCredentialsVerificationPolicy": str(config.image_verification),
        **({"preloadedImagesVerificationAllowlist": allowed} if (allowed := list(config.image_allowlist)) else {}),
        "registryBurst": config.registry_burst,
        "registryPullQPS": int(config.registry_qps),
        "logging": {**FIXED["logging"], **_logging(config.logging)},
        "maxPods": config.max_pods,
        "podCIDR": config.pod_cidr,
        "podPidsLimit": config.pod_pids_limit,
        "podLogsDir": config.log_root,
        "port": config.port,
        "providerID": config.provider_id,
        "registerNode": config.register_node,
        "registerWithTaints": list(config.taints),
        "reservedSystemCPUs": config.reserved_cpus,
        "resolvConf": config.resolver_file,
        "seccompDefault": config.seccomp_default,
        "serializeImagePulls": config.serialize_image_pulls,
        "shutdownGracePeriod": seconds_text(config.shutdown_period),
        "shutdownGracePeriodCriticalPods": seconds_text(config.shutdown_period_critical),
        "httpCheckFrequency": seconds_text(config.http_check_frequency),
        "staticPodPath": str(config.static_pod_path or ""),
        **({"staticPodURL": config.static_url} if config.static_url else {}),
        **({"staticPodURLHeader": _masked(config.static_headers)} if config.static_headers else {}),
        "kubeAPIBurst": config.api_burst or 100,
        "kubeAPIQPS": config.api_qps or 50,
        "kubeReserved": dict(config.kube_reserved),
        "memoryManagerPolicy": config.memory_policy,
        "reservedMemory": [{"numaNode": node, "limits": dict(limits)} for node, limits in config.reserved_memory],
        "systemReserved": dict(config.system_reserved),
        "topologyManagerPolicy": config.topology_policy,
        "topologyManagerPolicyOptions": dict(config.topology_policy_options),
        "topologyManagerScope": config.topology_scope,
        "tlsCertFile": str(config.tls_cert or ""),
        "tlsPrivateKeyFile": str(config.tls_key or ""),
        **({"shutdownGracePeriodByPodPriority": periods} if (periods := _shutdown_periods(config)) else {}),
    }


def _logging(settings: LogSettings) -> dict[str, Any]:
    rows = [{"filePattern": pattern, "verbosity": number} for pattern, number in settings.modules.items()]
    given = {"format": settings.form, "verbosity": settings.verbosity}
    return given | ({"vmodule": rows} if rows else {})


def _masked(headers: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Their names: what they say may be a password."""
    return {name: ["<masked>"] for name, _ in headers}


def _texts(periods: Mapping[str, float]) -> dict[str, str]:
    return {name: seconds_text(seconds) for name, seconds in periods.items()}


def _shutdown_periods(config: KubeletConfig) -> list[dict[str, int]]:
    return [
        {"priority": period.priority, "shutdownGracePeriodSeconds": period.seconds}
        for period in config.shutdown_periods
    ]
