"""`tiphys kube-controller-manager`: the controllers with upstream's flags.

Source: https://kubernetes.io/docs/reference/command-line-tools-reference/kube-controller-manager/
"""

from __future__ import annotations

import argparse
import contextlib
import ipaddress
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

from tiphys.client import options
from tiphys.client.kubeconfig import authority_from_file, client_from_file, connected
from tiphys.client.rest import Client
from tiphys.client.throttle import RequestRate
from tiphys.controlkit import leaderflags
from tiphys.controlkit.elected import launch_elected
from tiphys.controlkit.serving import settings
from tiphys.controllers.config import MASK_SIZES, SIGNERS, ControllerManagerConfig, KeyPair
from tiphys.controllers.manager import ControllerManager, select
from tiphys.controllers.registry import CONTROLLERS
from tiphys.runtime.clock import SystemClock
from tiphys.runtime.component import CannotStart, Ready, read_file, whenever
from tiphys.runtime.flags import FlagParser, parse_duration
from tiphys.runtime.metrics import Registry

AGENT = "kube-controller-manager"

_LIMITS = RequestRate(20, 30)
"""Upstream's defaults of requests a second, and at once."""
_SAME = {"cloud-provider": ("external",), "kube-api-content-type": ("application/json", "")}
"""What flags that steer nothing may say beside upstream's default."""
_ELSEWHERE = "the controllers of clouds run in cloud-controller-manager"
_FOLLOWED = "what is attached is read from VolumeAttachments, whose changes are followed"
_LEADERS = "controllers do not move between managers that run side by side"
_WHY = {
    "attach-detach-reconcile-sync-period": _FOLLOWED,
    "cidr-allocator-type": "ranges are taken out of --cluster-cidr",
    "cloud-config": _ELSEWHERE,
    "cloud-provider": _ELSEWHERE,
    "concurrent-service-syncs": _ELSEWHERE,
    "configure-cloud-routes": _ELSEWHERE,
    "controller-shutdown-timeout": "controllers that are ended write nothing more",
    "disable-attach-detach-reconcile-sync": _FOLLOWED,
    "enable-hostpath-provisioner": "volumes are made by CSI drivers; tiphys csi-local makes them on a node's disk",
    "enable-leader-migration": _LEADERS,
    "external-cloud-volume-plugin": "disks of clouds are those of CSI drivers",
    "flex-volume-plugin-dir": "FlexVolume drivers are not run",
    "leader-migration-config": _LEADERS,
    "route-reconciliation-period": _ELSEWHERE,
} | dict.fromkeys(
    (
        "pv-recycler-increment-timeout-nfs",
        "pv-recycler-minimum-timeout-hostpath",
        "pv-recycler-minimum-timeout-nfs",
        "pv-recycler-pod-template-filepath-hostpath",
        "pv-recycler-pod-template-filepath-nfs",
        "pv-recycler-timeout-increment-hostpath",
    ),
    "volumes are not recycled",
)
"""Why flags steer nothing."""

_FIELDS: tuple[tuple[str, str, Callable[[str], Any]], ...] = (
    ("concurrent-deployment-syncs", "concurrent_deployment_syncs", int),
    ("concurrent-replicaset-syncs", "concurrent_replicaset_syncs", int),
    ("concurrent-rc-syncs", "concurrent_rc_syncs", int),
    ("concurrent-endpoint-syncs", "concurrent_endpoint_syncs", int),
    ("concurrent-service-endpoint-syncs", "concurrent_service_endpoint_syncs", int),
    ("concurrent-gc-syncs", "concurrent_gc_syncs", int),
    ("concurrent-namespace-syncs", "concurrent_namespace_syncs", int),
    ("concurrent-daemonset-syncs", "concurrent_daemonset_syncs", int),
    ("concurrent-job-syncs", "concurrent_job_syncs", int),
    ("concurrent-cron-job-syncs", "concurrent_cron_job_syncs", int),
    ("concurrent-statefulset-syncs", "concurrent_statefulset_syncs", int),
    ("concurrent-resource-quota-syncs", "concurrent_resource_quota_syncs", int),
    ("concurrent-serviceaccount-token-syncs", "concurrent_serviceaccount_token_syncs", int),
    ("concurrent-ttl-after-finished-syncs", "concurrent_ttl_after_finished_syncs", int),
    ("concurrent-ephemeralvolume-syncs", "concurrent_ephemeral_volume_syncs", int),
    ("concurrent-device-taint-eviction-syncs", "concurrent_device_taint_eviction_syncs", int),
    ("concurrent-resourceclaim-syncs", "concurrent_resource_claim_syncs", int),
    (
        "concurrent-validating-admission-policy-status-syncs",
        "concurrent_validating_admission_policy_status_syncs",
        int,
    ),
    ("mirroring-concurrent-service-endpoint-syncs", "mirroring_concurrent_service_endpoint_syncs", int),
    ("mirroring-max-endpoints-per-subset", "mirroring_max_endpoints_per_subset", int),
    (
        "mirroring-endpointslice-updates-batch-period",
        "mirroring_endpoint_slice_updates_batch_period",
        parse_duration,
    ),
    ("endpoint-updates-batch-period", "endpoint_updates_batch_period", parse_duration),
    ("endpointslice-updates-batch-period", "endpoint_slice_updates_batch_period", parse_duration),
    ("controller-start-interval", "controller_start_interval", parse_duration),
    ("pvclaimbinder-sync-period", "pv_claim_binder_sync_period", parse_duration),
    ("max-endpoints-per-slice", "max_endpoints_per_slice", int),
    ("namespace-sync-period", "namespace_sync_period", parse_duration),
    ("resource-quota-sync-period", "resource_quota_sync_period", parse_duration),
    ("node-monitor-period", "node_monitor_period", parse_duration),
    ("node-monitor-grace-period", "node_monitor_grace_period", parse_duration),
    ("node-startup-grace-period", "node_startup_grace_period", parse_duration),
    ("node-eviction-rate", "node_eviction_rate", float),
    ("secondary-node-eviction-rate", "secondary_node_eviction_rate", float),
    ("large-cluster-size-threshold", "large_cluster_size_threshold", int),
    ("unhealthy-zone-threshold", "unhealthy_zone_threshold", float),
    ("concurrent-horizontal-pod-autoscaler-syncs", "concurrent_horizontal_pod_autoscaler_syncs", int),
    ("horizontal-pod-autoscaler-sync-period", "horizontal_pod_autoscaler_sync_period", parse_duration),
    ("horizontal-pod-autoscaler-tolerance", "horizontal_pod_autoscaler_tolerance", float),
    (
        "horizontal-pod-autoscaler-downscale-stabilization",
        "horizontal_pod_autoscaler_downscale_stabilization",
        parse_duration,
    ),
    (
        "horizontal-pod-autoscaler-cpu-initialization-period",
        "horizontal_pod_autoscaler_cpu_initialization_period",
        parse_duration,
    ),
    (
        "horizontal-pod-autoscaler-initial-readiness-delay",
        "horizontal_pod_autoscaler_initial_readiness_delay",
        parse_duration,
    ),
    (
        "legacy-service-account-token-clean-up-period",
        "legacy_service_account_token_clean_up_period",
        parse_duration,
    ),
    ("terminated-pod-gc-threshold", "terminated_pod_gc_threshold", int),
    ("cluster-signing-duration", "cluster_signing_duration", parse_duration),
)
"""Flags that are one field of the configuration each."""


def main(argv: Sequence[str]) -> int:
    flags_parser = parser()
    return launch_elected(flags_parser, argv, lambda flags: _run(flags, flags_parser))


def _run(flags: argparse.Namespace, flags_parser: FlagParser) -> Coroutine[Any, Any, None]:
    return run(
        configuration(flags, flags_parser), Path(flags.kubeconfig), own_accounts=flags.use_service_account_credentials
    )


def parser() -> FlagParser:
    """The parser of the controller manager's flags; durations in seconds."""
    parser = FlagParser("kube-controller-manager", "Runs the controllers of the control plane.", same=_SAME, why=_WHY)
    add = parser.add_argument
    add("--kubeconfig", default="", help="how to reach the API server")
    parser.add_feature_gates()
    add("--controllers", default="*", help=f"which to run: *, NAME, -NAME; known: {', '.join(CONTROLLERS)}")
    options.add_flags(parser, _LIMITS)
    parser.add_bool(
        "--use-service-account-credentials", default=False, help="give each controller its own service account"
    )
    settings.add_flags(parser, 10257, tolerate_lookup_failure=False)
    leaderflags.add_flags(parser, AGENT)
    add(
        "--root-ca-file",
        type=Path,
        help="CA of the API server, for kube-root-ca.crt and secrets; the kubeconfig's without it",
    )
    add("--service-account-private-key-file", type=Path, help="key that signs tokens of service account secrets")
    add("--cluster-signing-cert-file", type=Path, help="CA that signs certificate signing requests")
    add("--cluster-signing-key-file", type=Path, help="its key")
    for kind, signer in SIGNERS.items():
        add(f"--cluster-signing-{kind}-cert-file", type=Path, help=f"CA of signer {signer} alone")
        add(f"--cluster-signing-{kind}-key-file", type=Path, help="its key")
    parser.add_bool(
        "--disable-force-detach-on-timeout", default=False, help="never take volumes from a node that may use them"
    )
    parser.add_bool("--enable-dynamic-provisioning", default=True, help="ask provisioners for volumes")
    parser.add_bool(
        "--enable-garbage-collector", default=True, help="collect objects whose owners are gone; as the API server does"
    )
    parser.add_bool("--allocate-node-cidrs", default=False, help="give each node a range of pod addresses")
    add("--cluster-name", default="kubernetes", help="name of the cluster: clouds see it, and so does /flagz")
    add("--cluster-cidr", default="", help="ranges of pod addresses, separated by commas")
    add("--node-cidr-mask-size", type=int, default=0, help="of each node's range, in a cluster of one family")
    for family, size in MASK_SIZES.items():
        of_family = f"of each node's IPv{family} range ({size})"
        add(f"--node-cidr-mask-size-ipv{family}", type=int, default=0, help=of_family)
    add("--service-cluster-ip-range", default="", help="ranges of service addresses, separated by commas")
    defaults = ControllerManagerConfig()
    for flag, field, convert in _FIELDS:
        text = field.replace("_", " ")
        add(f"--{flag}", dest=field, type=convert, default=getattr(defaults, field), help=f"{text} (%(default)s)")
    parser.add_verbosity()
    parser.add_metrics()
    return parser


def configuration(flags: argparse.Namespace, flags_parser: FlagParser) -> ControllerManagerConfig:
    """Raises ``CannotStart``."""
    if not flags.kubeconfig:
        raise CannotStart("--kubeconfig is needed")
    chosen = tuple(word.strip() for word in flags.controllers.split(",") if word.strip())
    select(chosen, CONTROLLERS)
    cluster_cidrs = _networks("cluster-cidr", flags.cluster_cidr)
    if flags.allocate_node_cidrs and not cluster_cidrs:
        raise CannotStart("--allocate-node-cidrs needs --cluster-cidr")
    return ControllerManagerConfig(
        controllers=chosen,
        leader_election=leaderflags.leader_election(flags),
        client=options.from_flags(flags, _LIMITS),
        serving=settings.port_settings(flags, flags_parser),
        root_ca=_root_ca(flags),
        service_account_signing_key=_read("service-account-private-key-file", flags.service_account_private_key_file),
        signers=_signers(flags),
        allocate_node_cidrs=flags.allocate_node_cidrs,
        disable_force_detach_on_timeout=flags.disable_force_detach_on_timeout,
        enable_dynamic_provisioning=flags.enable_dynamic_provisioning,
        enable_garbage_collector=flags.enable_garbage_collector,
        cluster_cidrs=cluster_cidrs,
        node_cidr_mask_sizes=_mask_sizes(flags, cluster_cidrs),
        service_cluster_ip_ranges=_networks("service-cluster-ip-range", flags.service_cluster_ip_range),
        **{field: getattr(flags, field) for _, field, _ in _FIELDS},
    )


def _mask_sizes(flags: argparse.Namespace, cluster_cidrs: Sequence[str]) -> dict[int, int]:
    """The size of a node's range, by IP version. Raises ``CannotStart`` for sizes that the cluster has no use for."""
    one = flags.node_cidr_mask_size
    own = {family: size for family in MASK_SIZES if (size := getattr(flags, f"node_cidr_mask_size_ipv{family}"))}
    families = {ipaddress.ip_network(cidr).version for cidr in cluster_cidrs}
    if one and len(cluster_cidrs) > 1:
        raise CannotStart("usage of --node-cidr-mask-size is not allowed with dual-stack clusters")
    if one and own:
        names = "--node-cidr-mask-size-ipv4 and --node-cidr-mask-size-ipv6"
        raise CannotStart(f"usage of {names} is not allowed if --node-cidr-mask-size is set")
    for family in own.keys() - families if len(cluster_cidrs) == 1 else ():
        other = f"a single-stack IPv{10 - family} cluster"
        raise CannotStart(f"usage of --node-cidr-mask-size-ipv{family} is not allowed for {other}")
    return dict.fromkeys(MASK_SIZES, one) if one else {**MASK_SIZES, **own}


def _root_ca(flags: argparse.Namespace) -> bytes:
    """Who signs the API server's certificate: if no flag says so, whom the kubeconfig trusts."""
    if flags.root_ca_file is not None:
        return _read("root-ca-file", flags.root_ca_file)
    return authority_from_file(Path(flags.kubeconfig))


def _signers(flags: argparse.Namespace) -> dict[str, KeyPair]:
    """Who signs as whom: one authority for all signers, or some with their own. Raises ``CannotStart``."""
    own = {signer: pair for kind, signer in SIGNERS.items() if (pair := _signing(flags, f"{kind}-"))}
    pair = _signing(flags)
    if pair is None:
        return own
    if own:
        both = "--cluster-signing-{cert,key}-file and other --cluster-signing-*-file flags"
        raise CannotStart(f"cannot specify {both} at the same time")
    return dict.fromkeys(SIGNERS.values(), pair)


def _signing(flags: argparse.Namespace, kind: str = "") -> KeyPair | None:
    """The pair that two flags name; ``kind`` is what is in the middle of their names."""
    names = [f"cluster-signing-{kind}{what}-file" for what in ("cert", "key")]
    certificate, key = (getattr(flags, name.replace("-", "_")) for name in names)
    if Path() in (certificate, key):  # written as --flag=: the authority is elsewhere, and signs there
        return None
    if (certificate is None) != (key is None):
        raise CannotStart(f"--{names[0]} and --{names[1]} need each other")
    if certificate is None:
        return None
    return KeyPair(_read(names[0], certificate), _read(names[1], key))


def _read(flag: str, path: Path | None) -> bytes:
    return b"" if path is None else read_file(path, f"--{flag}")


def _networks(flag: str, text: str) -> tuple[str, ...]:
    networks = tuple(part.strip() for part in text.split(",") if part.strip())
    for part in networks:
        try:
            ipaddress.ip_network(part)
        except ValueError as error:
            raise CannotStart(f"--{flag}: {error}") from error
    return networks


async def run(
    config: ControllerManagerConfig, kubeconfig: Path, *, own_accounts: bool, ready: Ready = whenever
) -> None:
    """Make a controller manager and run it until it is cancelled. ``own_accounts``: each controller acts under a
    service account of its own."""
    async with contextlib.AsyncExitStack() as stack:
        client = await stack.enter_async_context(connected(kubeconfig, AGENT, config.client))
        bare = client_from_file(kubeconfig, AGENT, anonymous=True, options=config.client) if own_accounts else None
        if bare is not None:
            stack.push_async_callback(bare.close)

        async def same(account: str) -> Client:
            return client

        manager = ControllerManager(
            config,
            client,
            SystemClock(),
            registry=Registry(),
            identity=config.leader_election.identity if config.leader_election else "",
            client_for=None if own_accounts else same,
            bare=bare,
        )
        await manager.run(ready)
