"""`tiphys kubelet`: the node's agent with upstream's flags, and upstream's configuration file by ``--config``.

What is given as a flag wins over the file. A field or flag that is not supported is refused by name. Source:
https://kubernetes.io/docs/reference/command-line-tools-reference/kubelet/
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import random
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

from tiphys.api.cloudnodes import EXTERNAL
from tiphys.client import options
from tiphys.client.kubeconfig import connected
from tiphys.client.throttle import RequestRate
from tiphys.kubelet.config import KubeletConfig
from tiphys.kubelet.configz import FIXED
from tiphys.kubelet.node.eviction import SIGNALS
from tiphys.kubelet.node.machine import default_node_name
from tiphys.kubelet.quantities import value
from tiphys.kubelet.shutdown.groups import problems, read_periods
from tiphys.kubelet.topology.cpu_manager import CpuStateUnfit
from tiphys.kubelet.topology.cpusets import parse
from tiphys.kubelet.topology.hints import TopologyPolicy, TopologyScope
from tiphys.kubelet.topology.memory_manager import MemoryStateUnfit
from tiphys.kubelet.topology.setup import CannotAssign, topology_options
from tiphys.runtime import durations, featuregates
from tiphys.runtime.clock import SystemClock
from tiphys.runtime.component import (
    CannotStart,
    ConfigError,
    Ready,
    launch,
    log_as_file_says,
    parse_document,
    read_file,
    whenever,
)
from tiphys.runtime.flags import FlagParser, parse_duration, parse_map
from tiphys.runtime.logs import read_settings
from tiphys.runtime.system.heap import share_one_heap
from tiphys.runtime.tasks import Runner

VERSION = "kubelet.config.k8s.io/v1beta1"

Setter = Callable[[KubeletConfig, Any], None]
_PLAIN = {bool: "true or false", int: "a whole number", str: "a text"}


def _set(name: str, convert: Callable[[Any], Any] = lambda value: value) -> Setter:
    def setter(config: KubeletConfig, value: Any) -> None:
        new, old = convert(value), getattr(config, name)
        if type(old) in _PLAIN and type(new) is not type(old):
            raise ConfigError(f"{value!r} is not {_PLAIN[type(old)]}")
        setattr(config, name, new)

    return setter


def _path(text: Any) -> Path | None:
    return Path(text) if text else None


LIMITS = RequestRate(50, 100)
"""Upstream's defaults of requests a second, and at once."""
HEALTHZ_PORT = 10248
EVICTION_HARD = {"memory.available": "100Mi", "nodefs.available": "10%"}


def _eviction(config: KubeletConfig, given: dict[str, str]) -> None:
    if unknown := [name for name in given if name not in SIGNALS]:
        raise ConfigError(f"evictionHard: signal {unknown[0]} is not supported by Tiphys; remove it")
    config.eviction_hard = {name: text for name, text in given.items() if text not in ("0", "0%")}


def parse_thresholds(text: str) -> dict[str, str]:
    """``memory.available<100Mi,nodefs.available<10%``."""
    pairs = [part.partition("<") for part in text.split(",") if part]
    if bad := [name for name, less, _ in pairs if not less]:
        raise argparse.ArgumentTypeError(f"{bad[0]!r} is not a threshold; write memory.available<100Mi")
    return {name.strip(): least.strip() for name, _, least in pairs}


def parse_reserved(text: str) -> list[dict[str, Any]]:
    """``0:memory=1Gi,hugepages-2Mi=64Mi;1:memory=2Gi`` as the field ``reservedMemory`` has it."""
    nodes = []
    for part in filter(None, text.split(";")):
        node, colon, limits = part.partition(":")
        if not colon or not node.strip().isdigit():
            raise argparse.ArgumentTypeError(f"{part!r} names no NUMA node; write 0:memory=1Gi")
        nodes.append({"numaNode": int(node), "limits": parse_map(limits)})
    return nodes


def _one_of(*choices: str) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if value not in choices:
            raise ValueError(f"{value!r} is not supported; choose one of {', '.join(choices)}")
        return str(value)

    return check


def _words(given: dict[str, Any]) -> dict[str, str]:
    """Values as YAML and flags write them: ``true`` and ``"true"`` are the same."""
    return {name: str(text).lower() for name, text in given.items()}


def _gates(config: KubeletConfig, given: dict[str, Any]) -> None:
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


FIELDS: dict[str, Setter] = {
    "evictionHard": _eviction,
    "featureGates": _gates,
    "staticPodPath": _set("static_pod_path", _path),
    "healthzBindAddress": _set("healthz_address"),
    "healthzPort": _set("healthz_port"),
    "rotateCertificates": _set("rotate_certificates"),
    "serverTLSBootstrap": _set("server_tls_bootstrap"),
    "address": _set("address"),
    "port": _set("port"),
    "tlsCertFile": _set("tls_cert", _path),
    "tlsPrivateKeyFile": _set("tls_key", _path),
    "clusterDNS": _set("cluster_dns", tuple),
    "clusterDomain": _set("cluster_domain"),
    "resolvConf": _set("resolver_file"),
    "maxPods": _set("max_pods"),
    "podCIDR": _set("pod_cidr"),
    "podPidsLimit": _set("pod_pids_limit"),
    "podLogsDir": _set("log_root"),
    "cgroupDriver": _set("cgroup_driver"),
    "cgroupRoot": _set("cgroup_root"),
    "cgroupsPerQOS": _set("cgroups_per_qos"),
    "cpuCFSQuota": _set("cpu_cfs_quota"),
    "cpuManagerPolicy": _set("cpu_policy", _one_of("none", "static")),
    "cpuManagerPolicyOptions": _set("cpu_policy_options", _words),
    "reservedSystemCPUs": _set("reserved_cpus", _cpus),
    "memoryManagerPolicy": _set("memory_policy", _one_of("None", "Static")),
    "reservedMemory": _set("reserved_memory", reserved_memory),
    "topologyManagerPolicyOptions": _set("topology_policy_options", topology_options),
    "topologyManagerScope": _set("topology_scope", _one_of(*(scope.value for scope in TopologyScope))),
    "topologyManagerPolicy": _set("topology_policy", _one_of(*(policy.value for policy in TopologyPolicy))),
    "registerNode": _set("register_node"),
    "providerID": _set("provider_id"),
    "registerWithTaints": _set("taints"),
    "seccompDefault": _set("seccomp_default"),
    "allowedUnsafeSysctls": _set("allowed_unsafe_sysctls", tuple),
    "serializeImagePulls": _set("serialize_image_pulls"),
    "maxParallelImagePulls": _set("parallel_image_pulls"),
    "imageGCHighThresholdPercent": _set("image_gc_high_percent"),
    "imageGCLowThresholdPercent": _set("image_gc_low_percent"),
    "imageMinimumGCAge": _set("image_minimum_age", durations.seconds),
    "containerLogMaxSize": _set("container_log_max_size", value),
    "containerLogMaxFiles": _set("container_log_max_files"),
    "shutdownGracePeriod": _set("shutdown_period", durations.seconds),
    "shutdownGracePeriodCriticalPods": _set("shutdown_period_critical", durations.seconds),
    "shutdownGracePeriodByPodPriority": _set("shutdown_periods", read_periods),
    "systemReserved": _set("system_reserved", _amounts),
    "kubeReserved": _set("kube_reserved", _amounts),
    "logging": _set("logging", read_settings),
    "kubeAPIQPS": _set("api_qps", float),
    "kubeAPIBurst": _set("api_burst", int),
}
"""Fields of KubeletConfiguration that are supported, and what each sets."""


def apply_file(config: KubeletConfig, text: str | bytes, source: str) -> str:
    """Set what a KubeletConfiguration says; gives its containerRuntimeEndpoint. Raises ``ConfigError``."""
    document = parse_document(text, source, "KubeletConfiguration", VERSION)
    endpoint = ""
    for name, given in document.items():
        if given is None or _says_nothing(name, given):
            continue
        if name in FIELDS:
            try:
                FIELDS[name](config, given)
            except (ValueError, TypeError, AttributeError) as error:
                raise ConfigError(f"{source}: field {name}: {error}") from error
        elif name == "containerRuntimeEndpoint":
            endpoint = str(given)
        elif name == "authentication":
            _authentication(config, given, source)
        elif name == "authorization":
            config.authorization = given.get("mode", "Webhook")
        else:
            raise ConfigError(f"{source}: upstream's field {name} is not supported by Tiphys; remove it")
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


def _authentication(config: KubeletConfig, given: dict[str, Any], source: str) -> None:
    for name, part in given.items():
        match name:
            case "anonymous":
                config.anonymous = bool(part.get("enabled"))
            case "webhook":
                config.token_webhook = bool(part.get("enabled", True))
            case "x509":
                config.client_ca = _path(part.get("clientCAFile"))
            case _:
                raise ConfigError(f"{source}: field authentication.{name} is not supported by Tiphys; remove it")


def _cloud(text: str) -> bool:
    """Whether the node is a cloud's."""
    if text not in ("", EXTERNAL):
        raise argparse.ArgumentTypeError(f'cloud provider "{text}" was removed; use {EXTERNAL}, or none')
    return text == EXTERNAL


def parser() -> FlagParser:
    """The parser of the kubelet's flags; None means that a flag was not given."""
    flags = FlagParser("kubelet", "The node's agent: runs the pods that are bound to its node.")
    flags.add_feature_gates()
    add = flags.add_argument
    add("--config", help="file with a KubeletConfiguration")
    add("--kubeconfig", help="how to reach the API server", required=True)
    add("--bootstrap-kubeconfig", help="how to ask for a first certificate, if --kubeconfig has none that is valid")
    add("--cert-dir", help="folder of the certificates that the kubelet makes or asks for (/var/lib/kubelet/pki)")
    flags.add_bool("--rotate-certificates", default=None, help="renew the client certificate")  # type: ignore[arg-type]
    flags.add_bool("--rotate-server-certificates", default=None, help="ask the cluster for the serving certificate")  # type: ignore[arg-type]
    add("--healthz-bind-address", help="address of the health page")
    add("--healthz-port", type=int, help="its port; 0 for none")
    add("--container-runtime-endpoint", help="socket of the container runtime (unix:///run/containerd/containerd.sock)")
    add("--root-dir", help="folder for the files of pods", default="/var/lib/kubelet")
    add("--hostname-override", help="name of the node; the machine's hostname by default")
    add("--node-ip", help="addresses of the node, separated by commas")
    add("--cloud-provider", type=_cloud, help="external: a cloud controller manager says what the node is")
    add("--provider-id", help="by which the cloud knows the node")
    add("--node-labels", type=parse_map, help="labels of the node: key=value,…")
    add("--register-with-taints", help="taints of the node: key=value:effect,…")
    flags.add_bool("--register-node", default=None, help="register the node at the API server")  # type: ignore[arg-type]
    add("--pod-manifest-path", help="folder of static pods")
    add("--address", help="address to listen on")
    add("--port", type=int, help="port to listen on")
    add("--tls-cert-file", help="certificate of the kubelet's server")
    add("--tls-private-key-file", help="its key")
    add("--client-ca-file", help="authority of those who may call the kubelet")
    flags.add_bool("--anonymous-auth", default=None, help="let anonymous callers in")  # type: ignore[arg-type]
    flags.add_bool("--authentication-token-webhook", default=None, help="ask the API server about tokens")  # type: ignore[arg-type]
    add("--authorization-mode", choices=("AlwaysAllow", "Webhook"))
    add("--cluster-dns", help="addresses of the cluster's DNS servers, separated by commas")
    add("--cluster-domain", help="domain of the cluster")
    add("--resolv-conf", help="resolver file for pods that use the node's DNS")
    add("--max-pods", type=int)
    add("--pod-max-pids", type=int, help="processes that one pod may have; -1 for any number")
    add("--pod-cidr", help="addresses of the node's pods, where the API server does not give them")
    add("--cgroup-driver", choices=("cgroupfs", "systemd"))
    add("--cgroup-root")
    flags.add_bool("--cgroups-per-qos", default=None, help="give every pod its own cgroup")  # type: ignore[arg-type]
    flags.add_bool("--cpu-cfs-quota", default=None, help="enforce processor limits")  # type: ignore[arg-type]
    flags.add_bool("--seccomp-default", default=None, help="confine containers by default")  # type: ignore[arg-type]
    flags.add_bool("--serialize-image-pulls", default=None, help="pull one image at a time")  # type: ignore[arg-type]
    add("--allowed-unsafe-sysctls", help="kernel parameters that pods may set beside the safe ones, comma-separated")
    add("--eviction-hard", type=parse_thresholds, help="thresholds that end pods: memory.available<100Mi,…")
    add("--image-gc-high-threshold", type=int)
    add("--image-gc-low-threshold", type=int)
    add("--container-log-max-files", type=int)
    add("--container-log-max-size")
    add("--system-reserved", type=parse_map)
    add("--kube-reserved", type=parse_map)
    add("--cpu-manager-policy", help="none or static")
    add("--cpu-manager-policy-options", type=parse_map)
    add("--reserved-cpus", help="processors of the system, such as 0-1,4")
    add("--memory-manager-policy", help="None or Static")
    add("--reserved-memory", type=parse_reserved, action="extend", help="NODE:memory=1Gi,hugepages-2Mi=…;NODE:…")
    add("--topology-manager-policy", help="none, best-effort, restricted or single-numa-node")
    add("--topology-manager-policy-options", type=parse_map)
    add("--topology-manager-scope", help="container or pod")
    add("--minimum-image-ttl-duration", type=parse_duration, help="how long an image that nobody uses is kept at least")
    options.add_flags(flags, LIMITS, master=False)
    flags.add_verbosity()
    return flags


_FLAGS: dict[str, Setter] = {
    "feature_gates": _gates,
    "node_ip": _set("node_ips", lambda text: tuple(part.strip() for part in text.split(","))),
    "cloud_provider": _set("external_cloud"),
    "provider_id": _set("provider_id"),
    "node_labels": _set("labels"),
    "register_with_taints": lambda config, text: setattr(config, "taints", parse_taints(text)),
    "register_node": _set("register_node"),
    "pod_manifest_path": _set("static_pod_path", _path),
    "address": _set("address"),
    "port": _set("port"),
    "rotate_certificates": _set("rotate_certificates"),
    "rotate_server_certificates": _set("server_tls_bootstrap"),
    "healthz_bind_address": _set("healthz_address"),
    "healthz_port": _set("healthz_port"),
    "tls_cert_file": _set("tls_cert", _path),
    "tls_private_key_file": _set("tls_key", _path),
    "client_ca_file": _set("client_ca", _path),
    "anonymous_auth": _set("anonymous"),
    "authentication_token_webhook": _set("token_webhook"),
    "authorization_mode": _set("authorization"),
    "cluster_dns": _set("cluster_dns", lambda text: tuple(part.strip() for part in text.split(","))),
    "cluster_domain": _set("cluster_domain"),
    "resolv_conf": _set("resolver_file"),
    "max_pods": _set("max_pods"),
    "pod_cidr": _set("pod_cidr"),
    "pod_max_pids": _set("pod_pids_limit"),
    "cgroup_driver": _set("cgroup_driver"),
    "cgroup_root": _set("cgroup_root"),
    "cgroups_per_qos": _set("cgroups_per_qos"),
    "cpu_cfs_quota": _set("cpu_cfs_quota"),
    "seccomp_default": _set("seccomp_default"),
    "allowed_unsafe_sysctls": _set("allowed_unsafe_sysctls", lambda text: tuple(text.split(","))),
    "serialize_image_pulls": _set("serialize_image_pulls"),
    "eviction_hard": _eviction,
    "image_gc_high_threshold": _set("image_gc_high_percent"),
    "image_gc_low_threshold": _set("image_gc_low_percent"),
    "container_log_max_files": _set("container_log_max_files"),
    "container_log_max_size": _set("container_log_max_size", value),
    "system_reserved": _set("system_reserved"),
    "kube_reserved": _set("kube_reserved"),
    "cpu_manager_policy": FIELDS["cpuManagerPolicy"],
    "cpu_manager_policy_options": FIELDS["cpuManagerPolicyOptions"],
    "reserved_cpus": FIELDS["reservedSystemCPUs"],
    "memory_manager_policy": FIELDS["memoryManagerPolicy"],
    "reserved_memory": FIELDS["reservedMemory"],
    "topology_manager_policy": FIELDS["topologyManagerPolicy"],
    "topology_manager_policy_options": FIELDS["topologyManagerPolicyOptions"],
    "topology_manager_scope": FIELDS["topologyManagerScope"],
    "minimum_image_ttl_duration": _set("image_minimum_age"),
    "kube_api_qps": _set("api_qps"),
    "kube_api_burst": _set("api_burst"),
}


def parse_taints(text: str) -> list[dict[str, Any]]:
    """``key=value:effect,key:effect`` as taints."""
    taints = []
    for part in filter(None, text.split(",")):
        head, colon, effect = part.rpartition(":")
        if not colon or effect not in ("NoSchedule", "PreferNoSchedule", "NoExecute"):
            raise CannotStart(f"{part!r} is not a taint; write key=value:NoSchedule")
        key, _, given = head.partition("=")
        taints.append({"key": key, "effect": effect} | ({"value": given} if given else {}))
    return taints


def configuration(given: argparse.Namespace) -> tuple[KubeletConfig, str]:
    """The configuration, and the runtime's socket. Raises ``CannotStart``."""
    config = KubeletConfig(given.hostname_override or default_node_name(), Path(given.root_dir))
    config.eviction_hard = dict(EVICTION_HARD)
    config.healthz_port = HEALTHZ_PORT
    config.cert_dir = Path(given.cert_dir or config.root / "pki")
    endpoint = ""
    if given.config:
        endpoint = apply_file(config, read_file(Path(given.config)), given.config)
    for name, setter in _FLAGS.items():
        if (value := getattr(given, name)) is not None:
            try:
                setter(config, value)
            except ValueError as error:
                raise CannotStart(f"--{name.replace('_', '-')}: {error}") from error
    endpoint = given.container_runtime_endpoint or endpoint or "unix:///run/containerd/containerd.sock"
    if not endpoint.startswith(("unix://", "/")):
        raise CannotStart(f"--container-runtime-endpoint {endpoint} is not a Unix socket")
    config.runtime_socket = endpoint.removeprefix("unix://")
    return config, config.runtime_socket


def main(argv: Sequence[str]) -> int:
    return launch(parser(), argv, _run)


def _run(flags: argparse.Namespace) -> Coroutine[Any, Any, None]:
    config, socket = configuration(flags)
    log_as_file_says(config.logging, flags)
    config.flags = parser().values(flags)
    if os.geteuid() != 0:
        raise CannotStart("the kubelet must be run as root, as it mounts volumes and manages cgroups")
    bootstrap = Path(flags.bootstrap_kubeconfig) if flags.bootstrap_kubeconfig else None
    return run(config, socket, Path(flags.kubeconfig), bootstrap=bootstrap)


def _client_options(config: KubeletConfig) -> options.ClientOptions:
    return options.ClientOptions(limits=options.limits_of(config.api_qps, config.api_burst, LIMITS))


async def run(
    config: KubeletConfig, socket: str, kubeconfig: Path, ready: Ready = whenever, *, bootstrap: Path | None = None
) -> None:
    """Make a kubelet over the runtime at ``socket`` and run it until it is cancelled; ``ready`` is called once it
    follows its pods. ``bootstrap``: the kubeconfig by which it asks for its first certificate."""
    from tiphys.kubelet.kubelet import Kubelet
    from tiphys.kubelet.runtime.cri import CRIClient

    share_one_heap()
    clock, name = SystemClock(), config.node_name
    folder = config.cert_dir or config.root / "pki"
    if bootstrap is not None:
        from tiphys.kubelet.certificates.client import ensure_client

        await ensure_client(bootstrap=bootstrap, kubeconfig=kubeconfig, folder=folder, node_name=name)
    async with contextlib.AsyncExitStack() as stack:
        client = await stack.enter_async_context(connected(kubeconfig, "kubelet", _client_options(config)))
        runtime = CRIClient(socket)
        stack.push_async_callback(runtime.close)
        if config.rotate_certificates:
            from tiphys.kubelet.certificates.client import keep_renewed

            runner = await stack.enter_async_context(Runner(clock, "kubelet "))
            rng = random.Random()
            renewal = functools.partial(keep_renewed, client, kubeconfig, folder, name, clock, rng)
            runner.supervise(renewal, "certificate renewal")
        try:
            kubelet = Kubelet(
                config=config,
                client=client,
                runtime=runtime,
                images=runtime,
                clock=clock,
                collectors=(runtime.operations,),
            )
        except (CpuStateUnfit, MemoryStateUnfit, CannotAssign) as error:
            raise CannotStart(str(error)) from error
        await kubelet.run(ready)
