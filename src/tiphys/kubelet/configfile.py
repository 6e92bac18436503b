"""KubeletConfiguration (kubelet.config.k8s.io/v1beta1) as ``KubeletConfig``: what each field sets; others are refused.

Source: https://kubernetes.io/docs/reference/config-api/kubelet-config.v1beta1/
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tiphys.kubelet.config import LEASE_SECONDS, KubeletConfig
from tiphys.kubelet.configz import FIXED
from tiphys.kubelet.container.swap import BEHAVIORS, LIMITED_SWAP, NO_SWAP
from tiphys.kubelet.images.verification import VerificationPolicy
from tiphys.kubelet.node.signals import RESOURCES
from tiphys.kubelet.quantities import value
from tiphys.kubelet.shutdown.groups import problems, read_periods
from tiphys.kubelet.topology.cpusets import parse
from tiphys.kubelet.topology.hints import TopologyPolicy, TopologyScope
from tiphys.kubelet.topology.setup import topology_options
from tiphys.runtime import durations, featuregates
from tiphys.runtime.component import ConfigError, parse_document
from tiphys.runtime.logs import read_settings
from tiphys.wire.tls.ciphers import VERSIONS, openssl_list

VERSION = "kubelet.config.k8s.io/v1beta1"

REGISTRY_BURST = 10
PRELOADED = str(VerificationPolicy.NEVER_PRELOADED)

Setter = Callable[[KubeletConfig, Any], None]
_PLAIN = {bool: "true or false", int: "a whole number", str: "a text"}


def setting(name: str, convert: Callable[[Any], Any] = lambda value: value) -> Setter:
    def setter(config: KubeletConfig, value: Any) -> None:
        new, old = convert(value), getattr(config, name)
        if type(old) in _PLAIN and type(new) is not type(old):
            raise ConfigError(f"{value!r} is not {_PLAIN[type(old)]}")
        setattr(config, name, new)

    return setter


def path_of(text: Any) -> Path | None:
    return Path(text) if text else None


def swap_behavior(given: dict[str, Any]) -> str:
    """Raises ``ValueError`` for one that is unknown."""
    if unknown := set(given) - {"swapBehavior"}:
        raise ValueError(f"unknown field {min(unknown)}")
    behavior = given.get("swapBehavior") or ""
    if behavior not in BEHAVIORS:
        one_of_them = f'must be one of: "", "{LIMITED_SWAP}" or "{NO_SWAP}"'
        raise ValueError(f'invalid configuration: memorySwap.swapBehavior "{behavior}" {one_of_them}')
    return str(behavior)


def set_eviction(config: KubeletConfig, given: dict[str, str]) -> None:
    config.eviction_hard = by_signal(given)


def by_signal(given: dict[str, Any]) -> dict[str, Any]:
    """Raises ``ValueError`` for what is no signal."""
    if unknown := [name for name in given if name not in RESOURCES]:
        raise ValueError(f"unsupported eviction signal {unknown[0]}")
    return {name: str(text) for name, text in given.items()}


def graces(given: dict[str, str]) -> dict[str, float]:
    """Seconds by signal. Raises ``ValueError``."""
    return {name: durations.seconds(text) for name, text in by_signal(given).items()}


def one_of(*choices: str) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if value not in choices:
            raise ValueError(f"{value!r} is not supported; choose one of {', '.join(choices)}")
        return str(value)

    return check


def oom_score(score: int) -> int:
    if not -1000 <= score <= 1000:
        raise ValueError(f"oomScoreAdj (--oom-score-adj) {score} must be between -1000 and 1000")
    return score


def ciphers(names: Sequence[str]) -> tuple[str, ...]:
    """Suites by name. Raises ``ValueError`` for one that is unknown."""
    openssl_list(names)
    return tuple(names)


def _words(given: dict[str, Any]) -> dict[str, str]:
    """Values as YAML and flags write them: ``true`` and ``"true"`` are the same."""
    return {name: str(text).lower() for name, text in given.items()}


def set_gates(config: KubeletConfig, given: dict[str, Any]) -> None:
    """Raises ``GateError``."""
    asked = {name: bool(on) for name, on in given.items()}
    featuregates.check(asked)
    config.gates = {**config.gates, **asked}


def _amounts(given: dict[str, Any]) -> dict[str, str]:
    return {name: str(amount) for name, amount in given.items()}


def reserved_memory(given: list[dict[str, Any]]) -> tuple[tuple[int, dict[str, str]], ...]:
    """What NUMA nodes keep for the system. Raises ``ValueError``."""
    known: set[tuple[int, str]] = set()
    nodes = []
    for entry in given:
        node, limits = int(entry.get("numaNode", 0)), entry.get("limits") or {}
        for name, text in limits.items():
            if name != "memory" and not name.startswith("hugepages-"):
                raise ValueError(
                    f'invalid configuration: the limit type "{name}" for NUMA node {node} is not supported, only'
                    " [memory hugepages-<HugePageSize>] is accepted"
                )
            if value(text) == 0:
                about = f'for NUMA node {node} and resource "{name}"'
                raise ValueError(f"invalid configuration: reserved memory may not be zero {about}")
            if (node, name) in known:
                about = f'for NUMA node {node} and resource "{name}"'
                raise ValueError(f"invalid configuration: the reserved memory has a duplicate value {about}")
            known.add((node, name))
        nodes.append((node, {name: str(text) for name, text in limits.items()}))
    return tuple(nodes)


def _cpus(text: Any) -> str:
    parse(str(text))
    return str(text)


def _headers(given: dict[str, list[str]]) -> tuple[tuple[str, str], ...]:
    return tuple((name, text) for name, texts in given.items() for text in texts)


FIELDS: dict[str, Setter] = {
    "evictionHard": set_eviction,
    "evictionSoft": setting("eviction_soft", by_signal),
    "evictionSoftGracePeriod": setting("eviction_soft_grace", graces),
    "evictionMaxPodGracePeriod": setting("eviction_longest_grace", int),
    "evictionMinimumReclaim": setting("eviction_reclaim", by_signal),
    "featureGates": set_gates,
    "staticPodPath": setting("static_pod_path", path_of),
    "staticPodURL": setting("static_url"),
    "staticPodURLHeader": setting("static_headers", _headers),
    "httpCheckFrequency": setting("http_check_frequency", durations.seconds),
    "healthzBindAddress": setting("healthz_address"),
    "healthzPort": setting("healthz_port"),
    "rotateCertificates": setting("rotate_certificates"),
    "serverTLSBootstrap": setting("server_tls_bootstrap"),
    "address": setting("address"),
    "port": setting("port"),
    "tlsCertFile": setting("tls_cert", path_of),
    "tlsPrivateKeyFile": setting("tls_key", path_of),
    "clusterDNS": setting("cluster_dns", tuple),
    "clusterDomain": setting("cluster_domain"),
    "resolvConf": setting("resolver_file"),
    "maxPods": setting("max_pods"),
    "podCIDR": setting("pod_cidr"),
    "podPidsLimit": setting("pod_pids_limit"),
    "podLogsDir": setting("log_root"),
    "cgroupDriver": setting("cgroup_driver"),
    "cgroupRoot": setting("cgroup_root"),
    "cgroupsPerQOS": setting("cgroups_per_qos"),
    "enforceNodeAllocatable": setting("enforced", tuple),
    "systemReservedCgroup": setting("system_cgroup"),
    "kubeReservedCgroup": setting("kube_cgroup"),
    "cpuCFSQuota": setting("cpu_cfs_quota"),
    "cpuCFSQuotaPeriod": setting("cpu_period", lambda text: durations.parse(text) // 1000),
    "cpuManagerPolicy": setting("cpu_policy", one_of("none", "static")),
    "cpuManagerPolicyOptions": setting("cpu_policy_options", _words),
    "reservedSystemCPUs": setting("reserved_cpus", _cpus),
    "memoryManagerPolicy": setting("memory_policy", one_of("None", "Static")),
    "reservedMemory": setting("reserved_memory", reserved_memory),
    "topologyManagerPolicyOptions": setting("topology_policy_options", topology_options),
    "topologyManagerScope": setting("topology_scope", one_of(*(scope.value for scope in TopologyScope))),
    "topologyManagerPolicy": setting("topology_policy", one_of(*(policy.value for policy in TopologyPolicy))),
    "registerNode": setting("register_node"),
    "providerID": setting("provider_id"),
    "registerWithTaints": setting("taints"),
    "seccompDefault": setting("seccomp_default"),
    "allowedUnsafeSysctls": setting("allowed_unsafe_sysctls", tuple),
    "serializeImagePulls": setting("serialize_image_pulls"),
    "maxParallelImagePulls": setting("parallel_image_pulls", int),
    "registryPullQPS": setting("registry_qps", int),
    "registryBurst": setting("registry_burst", lambda burst: burst or REGISTRY_BURST),
    "imagePullCredentialsVerificationPolicy": setting("image_verification", lambda policy: policy or PRELOADED),
    "preloadedImagesVerificationAllowlist": setting("image_allowlist", tuple),
    "imageGCHighThresholdPercent": setting("image_gc_high_percent"),
    "imageGCLowThresholdPercent": setting("image_gc_low_percent"),
    "imageMinimumGCAge": setting("image_minimum_age", durations.seconds),
    "imageMaximumGCAge": setting("image_maximum_age", durations.seconds),
    "memorySwap": setting("swap_behavior", swap_behavior),
    "mergeDefaultEvictionSettings": setting("merges_eviction"),
    "containerLogMaxSize": setting("container_log_max_size", value),
    "containerLogMaxFiles": setting("container_log_max_files"),
    "shutdownGracePeriod": setting("shutdown_period", durations.seconds),
    "shutdownGracePeriodCriticalPods": setting("shutdown_period_critical", durations.seconds),
    "shutdownGracePeriodByPodPriority": setting("shutdown_periods", read_periods),
    "systemReserved": setting("system_reserved", _amounts),
    "kubeReserved": setting("kube_reserved", _amounts),
    "logging": setting("logging", read_settings),
    "enableDebuggingHandlers": setting("debugging"),
    "enableProfilingHandler": setting("profiling"),
    "enableServer": setting("serve"),
    "evictionPressureTransitionPeriod": setting("eviction_transition", durations.seconds),
    "failCgroupV1": setting("fail_cgroup_v1"),
    "failSwapOn": setting("fail_swap_on"),
    "fileCheckFrequency": setting("file_check_frequency", durations.seconds),
    "maxOpenFiles": setting("max_open_files"),
    "nodeLeaseDurationSeconds": setting("lease_seconds", lambda seconds: seconds or LEASE_SECONDS),
    "nodeStatusMaxImages": setting("status_images"),
    "nodeStatusReportFrequency": setting("status_report_frequency", durations.seconds),
    "nodeStatusUpdateFrequency": setting("status_update_frequency", durations.seconds),
    "oomScoreAdj": setting("oom_score_adjust", oom_score),
    "podsPerCore": setting("pods_per_core"),
    "runtimeRequestTimeout": setting("runtime_timeout", durations.seconds),
    "syncFrequency": setting("sync_frequency", durations.seconds),
    "tlsCipherSuites": setting("tls_ciphers", ciphers),
    "tlsMinVersion": setting("tls_versions", one_of(*VERSIONS)),
    "kubeAPIQPS": setting("api_qps", float),
    "kubeAPIBurst": setting("api_burst", int),
}
"""Fields of KubeletConfiguration that are supported, and what each sets."""


def apply_file(config: KubeletConfig, text: str | bytes, source: str) -> str:
    """Set what a KubeletConfiguration says; gives its containerRuntimeEndpoint. Raises ``ConfigError``."""
    return apply_document(config, parse_document(text, source, "KubeletConfiguration", VERSION), source)


def apply_document(config: KubeletConfig, document: Mapping[str, Any], source: str) -> str:
    """The same of what a file holds, without its kind. Raises ``ConfigError``."""
    endpoint = ""
    for name, given in document.items():
        if given is None or _says_nothing(name, given):
            continue
        if name in FIELDS:
            try:
                FIELDS[name](config, given)
            except (ValueError, TypeError, AttributeError) as error:
                raise ConfigError(f"{source}: field {name}: {error}") from error
        elif name == "imageServiceEndpoint":
            config.image_socket = str(given).removeprefix("unix://")
        elif name == "containerRuntimeEndpoint":
            endpoint = str(given)
        elif name == "authentication":
            _authentication(config, given, source)
        elif name == "authorization":
            config.authorization = given.get("mode", "Webhook")
            webhook = given.get("webhook") or {}
            config.allowed_for = _seconds(webhook, "cacheAuthorizedTTL", config.allowed_for, source)
            config.denied_for = _seconds(webhook, "cacheUnauthorizedTTL", config.denied_for, source)
        else:
            raise ConfigError(f"{source}: upstream's field {name} is not supported by Tiphys; remove it")
    if "nodeStatusReportFrequency" not in document and "nodeStatusUpdateFrequency" in document:
        config.status_report_frequency = config.status_update_frequency
    if "serializeImagePulls" not in document and "maxParallelImagePulls" in document:
        config.serialize_image_pulls = config.parallel_image_pulls == 1
    if wrong := problems(config.shutdown_periods, config.shutdown_period, config.shutdown_period_critical):
        raise ConfigError(f"{source}: {'; '.join(wrong)}")
    return endpoint


def _says_nothing(name: str, given: Any) -> bool:
    """Whether a field stands for its default: a duration of zero, as Go writes all that are not set, what is empty, and
    what Tiphys does anyway."""
    if given == "0s" or (name not in FIELDS and given in ("", 0, {}, [], False)):
        return True
    if name in FIXED:
        return bool(given == FIXED[name]) or (isinstance(given, dict) and _zeros(given))
    return False


def _zeros(given: dict[str, Any]) -> bool:
    """Whether an object holds nothing but zeros."""
    return all(_zeros(value) if isinstance(value, dict) else value in (0, "0", "0s", "") for value in given.values())


def _seconds(given: dict[str, Any], name: str, default: float, source: str) -> float:
    """A duration, of which zero stands for the default. Raises ``ConfigError``."""
    try:
        return durations.seconds(str(given.get(name) or "0s")) or default
    except durations.DurationError as error:
        raise ConfigError(f"{source}: {name}: {error}") from error


def _authentication(config: KubeletConfig, given: dict[str, Any], source: str) -> None:
    for name, part in given.items():
        match name:
            case "anonymous":
                config.anonymous = bool(part.get("enabled"))
            case "webhook":
                config.token_webhook = bool(part.get("enabled", True))
                config.tokens_for = _seconds(part, "cacheTTL", config.tokens_for, source)
            case "x509":
                config.client_ca = path_of(part.get("clientCAFile"))
            case _:
                raise ConfigError(f"{source}: field authentication.{name} is not supported by Tiphys; remove it")
