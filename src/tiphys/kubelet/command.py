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
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any

from tiphys.api.cloudnodes import EXTERNAL
from tiphys.client import options
from tiphys.client.kubeconfig import connected
from tiphys.client.rest import Client
from tiphys.client.throttle import RequestRate
from tiphys.kubelet import standalone
from tiphys.kubelet.config import KubeletConfig
from tiphys.kubelet.configfile import (
    FIELDS,
    VERSION,
    Setter,
    apply_document,
    apply_file,
    ciphers,
    oom_score,
    path_of,
    set_eviction,
    set_gates,
    setting,
)
from tiphys.kubelet.dropins import merged
from tiphys.kubelet.idleflags import SAME, WHY
from tiphys.kubelet.images.providerconfig import ProviderConfigError
from tiphys.kubelet.node.machine import default_node_name
from tiphys.kubelet.node.preparing import prepare
from tiphys.kubelet.quantities import value
from tiphys.kubelet.sources.url import parse_headers
from tiphys.kubelet.topology.cpu_manager import CpuStateUnfit
from tiphys.kubelet.topology.memory_manager import MemoryStateUnfit
from tiphys.kubelet.topology.setup import CannotAssign
from tiphys.runtime.clock import SystemClock
from tiphys.runtime.component import (
    CannotStart,
    Ready,
    launch,
    log_as_file_says,
    parse_document,
    read_file,
    whenever,
)
from tiphys.runtime.flags import FlagParser, parse_duration, parse_map, parse_words
from tiphys.runtime.system.heap import share_one_heap
from tiphys.runtime.tasks import Runner
from tiphys.wire.tls.ciphers import VERSIONS

LIMITS = RequestRate(50, 100)
"""Upstream's defaults of requests a second, and at once."""
HEALTHZ_PORT = 10248
MAX_OPEN_FILES = 1_000_000
OOM_SCORE = -999
_MASKED = "<masked>"
"""Stands for headers, which may be passwords."""
EVICTION_HARD = {
    "memory.available": "100Mi",
    "nodefs.available": "10%",
    "nodefs.inodesFree": "5%",
    "imagefs.available": "15%",
    "imagefs.inodesFree": "5%",
}


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


def _headers(text: str) -> list[tuple[str, str]]:
    try:
        return parse_headers(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _cloud(text: str) -> bool:
    """Whether the node is a cloud's."""
    if text not in ("", EXTERNAL):
        raise argparse.ArgumentTypeError(f'cloud provider "{text}" was removed; use {EXTERNAL}, or none')
    return text == EXTERNAL


def parser() -> FlagParser:
    """The parser of the kubelet's flags; None means that a flag was not given."""
    flags = FlagParser("kubelet", "The node's agent: runs the pods that are bound to its node.", same=SAME, why=WHY)
    flags.add_feature_gates()
    add = flags.add_argument
    add("--config", help="file with a KubeletConfiguration")
    add("--config-dir", help="folder of files *.conf, each of which is merged over that one in turn")
    add("--kubeconfig", help="how to reach the API server; without it the kubelet runs static pods alone")
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
    add("--manifest-url", help="URL of static pods")
    add("--manifest-url-header", type=_headers, action="extend", help="what is said there: a:hello,b:again,…")
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
    add("--registry-qps", type=int, help="image pulls that begin in a second; 0 for any number")
    add("--registry-burst", type=int, help="how many of them at once")
    add(
        "--image-credential-provider-config", help="file or folder that says which programs give credentials for images"
    )
    add("--image-credential-provider-bin-dir", help="folder of these programs")
    add("--allowed-unsafe-sysctls", help="kernel parameters that pods may set beside the safe ones, comma-separated")
    add("--enforce-node-allocatable", help="whose limits are enforced: pods,system-reserved,kube-reserved; or none")
    add("--system-reserved-cgroup", help="the cgroup of the system's programs, for system-reserved")
    add("--kube-reserved-cgroup", help="that of the cluster's own programs, for kube-reserved")
    add("--eviction-hard", type=parse_thresholds, help="thresholds that end pods: memory.available<100Mi,…")
    add("--eviction-soft", type=parse_thresholds, help="those that end pods when they were crossed for a while")
    add("--eviction-soft-grace-period", type=parse_map, help="for how long: memory.available=1m30s,…")
    add("--eviction-max-pod-grace-period", type=int, help="seconds that such a pod has to end at the most")
    add("--eviction-minimum-reclaim", type=parse_map, help="what is to be free again beyond: memory.available=100Mi,…")
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
    _add_periods(flags)
    _add_serving(flags)
    add("--pods-per-core", type=int, help="pods for each processor at the most; 0 for any number")
    add("--node-status-max-images", type=int, help="how many images the Node's status lists; -1 for all")
    add("--maximum-dead-containers-per-container", type=int, help="dead runs of a container that are kept; -1 for all")
    add("--max-open-files", type=int, help="files that the kubelet may have open")
    add("--oom-score-adj", type=int, help="of this process, -1000 to 1000")
    flags.add_bool("--fail-swap-on", default=None, help="do not start on a machine that swaps")  # type: ignore[arg-type]
    flags.add_bool("--fail-cgroupv1", default=None, help="nor on one with control groups of version 1 (false)")  # type: ignore[arg-type]
    add("--image-service-endpoint", help="socket of the image service, if it is not the container runtime's")
    options.add_flags(flags, LIMITS, master=False)
    flags.add_verbosity()
    return flags


def _add_periods(flags: FlagParser) -> None:
    for name, help in (
        ("authentication-token-webhook-cache-ttl", "how long the API server's word on a token counts"),
        ("authorization-webhook-cache-authorized-ttl", "the same of what is allowed"),
        ("authorization-webhook-cache-unauthorized-ttl", "the same of what is not"),
        ("eviction-pressure-transition-period", "how long a node stays under pressure"),
        ("file-check-frequency", "how often the folder of static pods is read at least"),
        ("cpu-cfs-quota-period", "over how long limits of processors are counted"),
        ("http-check-frequency", "how often static pods of a URL are asked for"),
        ("node-status-update-frequency", "how often the node's status is looked at"),
        ("runtime-request-timeout", "how long the container runtime may take to answer"),
        ("sync-frequency", "how often a pod is looked at at least"),
    ):
        flags.add_argument(f"--{name}", type=parse_duration, metavar="DURATION", help=help)


def _add_serving(flags: FlagParser) -> None:
    flags.add_bool("--enable-server", default=None, help="serve the kubelet's API")  # type: ignore[arg-type]
    flags.add_bool("--enable-debugging-handlers", default=None, help="let containers be entered, and logs read")  # type: ignore[arg-type]
    flags.add_argument("--tls-cipher-suites", help="suites for TLS 1.2, separated by commas")
    flags.add_argument("--tls-min-version", choices=tuple(VERSIONS), help="the oldest TLS that is agreed to")


_FLAGS: dict[str, Setter] = {
    "authentication_token_webhook_cache_ttl": setting("tokens_for"),
    "authorization_webhook_cache_authorized_ttl": setting("allowed_for"),
    "authorization_webhook_cache_unauthorized_ttl": setting("denied_for"),
    "eviction_pressure_transition_period": setting("eviction_transition"),
    "file_check_frequency": setting("file_check_frequency"),
    "node_status_update_frequency": setting("status_update_frequency"),
    "runtime_request_timeout": setting("runtime_timeout"),
    "sync_frequency": setting("sync_frequency"),
    "enable_server": setting("serve"),
    "enable_debugging_handlers": setting("debugging"),
    "tls_cipher_suites": setting("tls_ciphers", lambda text: ciphers(parse_words(text))),
    "tls_min_version": setting("tls_versions"),
    "pods_per_core": setting("pods_per_core"),
    "node_status_max_images": setting("status_images"),
    "maximum_dead_containers_per_container": setting("dead_containers"),
    "max_open_files": setting("max_open_files"),
    "oom_score_adj": setting("oom_score_adjust", oom_score),
    "fail_swap_on": setting("fail_swap_on"),
    "fail_cgroupv1": setting("fail_cgroup_v1"),
    "feature_gates": set_gates,
    "node_ip": setting("node_ips", lambda text: tuple(part.strip() for part in text.split(","))),
    "cloud_provider": setting("external_cloud"),
    "provider_id": setting("provider_id"),
    "node_labels": setting("labels"),
    "register_with_taints": lambda config, text: setattr(config, "taints", parse_taints(text)),
    "register_node": setting("register_node"),
    "pod_manifest_path": setting("static_pod_path", path_of),
    "manifest_url": setting("static_url"),
    "manifest_url_header": setting("static_headers", tuple),
    "http_check_frequency": setting("http_check_frequency"),
    "address": setting("address"),
    "port": setting("port"),
    "rotate_certificates": setting("rotate_certificates"),
    "rotate_server_certificates": setting("server_tls_bootstrap"),
    "healthz_bind_address": setting("healthz_address"),
    "healthz_port": setting("healthz_port"),
    "tls_cert_file": setting("tls_cert", path_of),
    "tls_private_key_file": setting("tls_key", path_of),
    "client_ca_file": setting("client_ca", path_of),
    "anonymous_auth": setting("anonymous"),
    "authentication_token_webhook": setting("token_webhook"),
    "authorization_mode": setting("authorization"),
    "cluster_dns": setting("cluster_dns", lambda text: tuple(part.strip() for part in text.split(","))),
    "cluster_domain": setting("cluster_domain"),
    "resolv_conf": setting("resolver_file"),
    "max_pods": setting("max_pods"),
    "pod_cidr": setting("pod_cidr"),
    "pod_max_pids": setting("pod_pids_limit"),
    "cgroup_driver": setting("cgroup_driver"),
    "cgroup_root": setting("cgroup_root"),
    "cgroups_per_qos": setting("cgroups_per_qos"),
    "cpu_cfs_quota": setting("cpu_cfs_quota"),
    "cpu_cfs_quota_period": setting("cpu_period", lambda seconds: round(seconds * 1_000_000)),
    "seccomp_default": setting("seccomp_default"),
    "allowed_unsafe_sysctls": setting("allowed_unsafe_sysctls", lambda text: tuple(text.split(","))),
    "serialize_image_pulls": setting("serialize_image_pulls"),
    "registry_qps": FIELDS["registryPullQPS"],
    "registry_burst": setting("registry_burst"),
    "image_credential_provider_config": setting("provider_config"),
    "image_credential_provider_bin_dir": setting("provider_folder"),
    "enforce_node_allocatable": setting("enforced", lambda text: tuple(filter(None, text.split(",")))),
    "system_reserved_cgroup": FIELDS["systemReservedCgroup"],
    "kube_reserved_cgroup": FIELDS["kubeReservedCgroup"],
    "eviction_hard": set_eviction,
    "eviction_soft": FIELDS["evictionSoft"],
    "eviction_soft_grace_period": FIELDS["evictionSoftGracePeriod"],
    "eviction_max_pod_grace_period": FIELDS["evictionMaxPodGracePeriod"],
    "eviction_minimum_reclaim": FIELDS["evictionMinimumReclaim"],
    "image_gc_high_threshold": setting("image_gc_high_percent"),
    "image_gc_low_threshold": setting("image_gc_low_percent"),
    "container_log_max_files": setting("container_log_max_files"),
    "container_log_max_size": setting("container_log_max_size", value),
    "system_reserved": setting("system_reserved"),
    "kube_reserved": setting("kube_reserved"),
    "cpu_manager_policy": FIELDS["cpuManagerPolicy"],
    "cpu_manager_policy_options": FIELDS["cpuManagerPolicyOptions"],
    "reserved_cpus": FIELDS["reservedSystemCPUs"],
    "memory_manager_policy": FIELDS["memoryManagerPolicy"],
    "reserved_memory": FIELDS["reservedMemory"],
    "topology_manager_policy": FIELDS["topologyManagerPolicy"],
    "topology_manager_policy_options": FIELDS["topologyManagerPolicyOptions"],
    "topology_manager_scope": FIELDS["topologyManagerScope"],
    "minimum_image_ttl_duration": setting("image_minimum_age"),
    "kube_api_qps": setting("api_qps"),
    "kube_api_burst": setting("api_burst"),
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
    config.fail_swap_on, config.max_open_files, config.oom_score_adjust = True, MAX_OPEN_FILES, OOM_SCORE
    config.cert_dir = Path(given.cert_dir or config.root / "pki")
    endpoint = ""
    if given.config_dir:
        endpoint = apply_document(config, _merged(given.config, given.config_dir), given.config_dir)
    elif given.config:
        endpoint = apply_file(config, read_file(Path(given.config)), given.config)
    if config.merges_eviction:
        config.eviction_hard = EVICTION_HARD | config.eviction_hard
    for name, setter in _FLAGS.items():
        if (value := getattr(given, name)) is not None:
            try:
                setter(config, value)
            except ValueError as error:
                raise CannotStart(f"--{name.replace('_', '-')}: {error}") from error
    config.standalone = not given.kubeconfig
    if problems := [*config.problems(), *(standalone.problems(config) if config.standalone else ())]:
        raise CannotStart("; ".join(problems))
    if given.image_service_endpoint:
        config.image_socket = _socket("--image-service-endpoint", given.image_service_endpoint)
    endpoint = given.container_runtime_endpoint or endpoint or "unix:///run/containerd/containerd.sock"
    config.runtime_socket = _socket("--container-runtime-endpoint", endpoint)
    return config, config.runtime_socket


def _merged(file: str | None, folder: str) -> dict[str, Any]:
    """What the file of configuration and the folder beside it say together. Raises ``ConfigError``."""
    document = parse_document(read_file(Path(file)), file, "KubeletConfiguration", VERSION) if file else {}
    # As upstream's: a folder merges over the file with its defaults, and this is the one default that is a map.
    return merged({"evictionHard": dict(EVICTION_HARD), **document}, Path(folder), VERSION)


def _socket(flag: str, endpoint: str) -> str:
    if not endpoint.startswith(("unix://", "/")):
        raise CannotStart(f"{flag} {endpoint} is not a Unix socket")
    return endpoint.removeprefix("unix://")


def main(argv: Sequence[str]) -> int:
    return launch(parser(), argv, _run)


def _run(flags: argparse.Namespace) -> Coroutine[Any, Any, None]:
    config, socket = configuration(flags)
    log_as_file_says(config.logging, flags)
    config.flags = parser().values(flags) | ({"manifest_url_header": _MASKED} if flags.manifest_url_header else {})
    if os.geteuid() != 0:
        raise CannotStart("the kubelet must be run as root, as it mounts volumes and manages cgroups")
    prepare(config)
    bootstrap = Path(flags.bootstrap_kubeconfig) if flags.bootstrap_kubeconfig else None
    return run(config, socket, Path(flags.kubeconfig) if flags.kubeconfig else None, bootstrap=bootstrap)


def _client_options(config: KubeletConfig) -> options.ClientOptions:
    return options.ClientOptions(limits=options.limits_of(config.api_qps, config.api_burst, LIMITS))


async def run(
    config: KubeletConfig,
    socket: str,
    kubeconfig: Path | None,
    ready: Ready = whenever,
    *,
    bootstrap: Path | None = None,
) -> None:
    """Make a kubelet over the runtime at ``socket`` and run it until it is cancelled; ``ready`` is called once it
    follows its pods. Without a ``kubeconfig`` it has no API server. ``bootstrap``: the kubeconfig by which it asks for
    its first certificate."""
    from tiphys.kubelet.kubelet import Kubelet
    from tiphys.kubelet.runtime.cri import CRIClient

    share_one_heap()
    clock, name = SystemClock(), config.node_name
    folder = config.cert_dir or config.root / "pki"
    if bootstrap is not None and kubeconfig is not None:
        from tiphys.kubelet.certificates.client import ensure_client

        await ensure_client(bootstrap=bootstrap, kubeconfig=kubeconfig, folder=folder, node_name=name)
    async with contextlib.AsyncExitStack() as stack:
        if kubeconfig is None:
            client = Client(standalone.NoApiServer(), user_agent="kubelet")
        else:
            client = await stack.enter_async_context(connected(kubeconfig, "kubelet", _client_options(config)))
        runtime = images = CRIClient(socket, config.runtime_timeout)
        stack.push_async_callback(runtime.close)
        if config.image_socket not in ("", socket):
            images = CRIClient(config.image_socket, config.runtime_timeout)
            stack.push_async_callback(images.close)
        if config.rotate_certificates and kubeconfig is not None:
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
                images=images,
                clock=clock,
                collectors=(runtime.operations,),
            )
        except (CpuStateUnfit, MemoryStateUnfit, CannotAssign, ProviderConfigError) as error:
            raise CannotStart(str(error)) from error
        await kubelet.run(ready)
