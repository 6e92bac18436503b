"""`tiphys kube-proxy`: the service proxy with upstream's flags, and upstream's configuration file by ``--config``.

Source: https://kubernetes.io/docs/reference/command-line-tools-reference/kube-proxy/
"""

from __future__ import annotations

import argparse
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tiphys.client import options
from tiphys.client.kubeconfig import connected
from tiphys.client.rest import Client
from tiphys.client.throttle import RequestRate
from tiphys.proxy.config import ProxyConfig
from tiphys.proxy.configfile import make_config, parse
from tiphys.proxy.kubeproxy import KubeProxy, cleanup_node
from tiphys.runtime.clock import Clock, SystemClock
from tiphys.runtime.component import ConfigError, Ready, launch, log_as_file_says, read_file, whenever
from tiphys.runtime.flags import FlagParser
from tiphys.runtime.logs import LogSettings, read_settings
from tiphys.runtime.system.oomscore import adjust_oom_score
from tiphys.runtime.tasks import Loop, Runner

_LIMITS = RequestRate(5, 10)
"""Upstream's defaults of requests a second, and at once."""
_SAME = {"kube-api-content-type": ("application/json", "")}
"""What flags that steer nothing may say beside upstream's default."""
_WHY = {
    "config-sync-period": "nothing is read again in turns",
    "init-only": "what needs rights is done by the process that makes the rules",
} | dict.fromkeys(
    (
        "ipvs-exclude-cidrs",
        "ipvs-min-sync-period",
        "ipvs-scheduler",
        "ipvs-strict-arp",
        "ipvs-sync-period",
        "ipvs-tcp-timeout",
        "ipvs-tcpfin-timeout",
        "ipvs-udp-timeout",
    ),
    "there is no mode ipvs, which is deprecated",
)
"""Why flags steer nothing."""

FIELD_OF_FLAG = {
    "bind_address": "bindAddress",
    "healthz_bind_address": "healthzBindAddress",
    "metrics_bind_address": "metricsBindAddress",
    "bind_address_hard_fail": "bindAddressHardFail",
    "proxy_mode": "mode",
    "cluster_cidr": "clusterCIDR",
    "detect_local_mode": "detectLocalMode",
    "nodeport_addresses": "nodePortAddresses",
    "hostname_override": "hostnameOverride",
    "oom_score_adj": "oomScoreAdj",
    "profiling": "enableProfiling",
}
"""Flags that say what a field of the configuration file says."""


def main(argv: Sequence[str]) -> int:
    return launch(parser(), argv, lambda flags: cleanup_node() if flags.cleanup else run(*_configuration(flags)))


def parser() -> FlagParser:
    """The parser of kube-proxy's flags."""
    parser = FlagParser("kube-proxy", "Carries packets for services to their endpoints.", same=_SAME, why=_WHY)
    parser.add_feature_gates()
    add = parser.add_argument
    add("--config", type=Path, help="a KubeProxyConfiguration; flags that it covers are then not looked at")
    add("--kubeconfig", default="", help="how to reach the API server")
    options.add_flags(parser, _LIMITS)
    add("--hostname-override", help="this node's name")
    add("--bind-address", help="this node's address, if its Node does not say")
    add("--healthz-bind-address", help="where /healthz is served (default 127.0.0.1:10256); empty turns it off")
    add("--metrics-bind-address", help="where /metrics is served (default 127.0.0.1:10249); empty turns it off")
    parser.add_bool("--bind-address-hard-fail", default=False, help="end where such an address cannot be had")
    add("--proxy-mode", help="nftables, iptables, userspace, or empty for what works here")
    add("--cluster-cidr", help="the pods' addresses")
    add("--detect-local-mode", help="ClusterCIDR, NodeCIDR, BridgeInterface or InterfaceNamePrefix")
    add("--pod-bridge-interface", default="", help="the pods' bridge, for BridgeInterface")
    add("--pod-interface-name-prefix", default="", help="the pods' interfaces, for InterfaceNamePrefix")
    add(
        "--nodeport-addresses", type=lambda text: text.split(","), help="who takes NodePort traffic: ranges, or primary"
    )
    parser.add_bool("--masquerade-all", default=False, help="hide every client of a cluster IP behind the node")
    add("--iptables-masquerade-bit", type=int, default=14, help="the bit of the packet mark that is used for it")
    parser.add_bool("--iptables-localhost-nodeports", default=True, help="let NodePorts answer on 127.0.0.1")
    add("--iptables-sync-period", default="30s", help="how often what failed or was left over is looked at")
    add("--iptables-min-sync-period", default="100ms", help="changes that come within it are done in one go")
    add("--conntrack-max-per-core", type=int, default=32768, help="tracked connections per core; 0 leaves it")
    add("--conntrack-min", type=int, default=131072, help="tracked connections at least")
    add("--conntrack-tcp-timeout-established", default="24h", help="0 leaves it")
    add("--conntrack-tcp-timeout-close-wait", default="1h", help="0 leaves it")
    add("--conntrack-udp-timeout", default="0", help="0 leaves it")
    add("--conntrack-udp-timeout-stream", default="0", help="0 leaves it")
    parser.add_bool("--conntrack-tcp-be-liberal", default=False, help="do not mark packets out of the window invalid")
    add("--oom-score-adj", type=int, help="of this process, -1000 to 1000; without it, as it was started")
    parser.add_bool("--profiling", default=False, help="serve /debug/pprof/ beside the metrics")
    parser.add_bool("--cleanup", default=False, help="remove every rule that was made on this node, and end")
    parser.add_verbosity()
    return parser


def _configuration(flags: argparse.Namespace) -> tuple[ProxyConfig, Path]:
    if flags.config is not None:
        given = parse(read_file(flags.config), str(flags.config))
        log_as_file_says(_logging(given.pop("logging", None) or {}), flags)
        if flags.hostname_override:
            given["hostnameOverride"] = flags.hostname_override
    else:
        given = _fields(flags)
    connection = given.pop("clientConnection", None) or {}
    kubeconfig = connection.get("kubeconfig") or flags.kubeconfig
    client = options.from_flags(flags, _LIMITS)
    if flags.config is not None:
        client = replace(options.from_fields(connection, _LIMITS, str(flags.config)), server=flags.master)
    if not kubeconfig:
        raise ConfigError("--kubeconfig is needed, or clientConnection.kubeconfig in the file that --config names")
    config = make_config(given, socket.gethostname())
    return replace(config, client=client, flags=parser().values(flags)), Path(kubeconfig)


def _logging(given: Mapping[str, Any]) -> LogSettings:
    try:
        return read_settings(given)
    except (ValueError, TypeError, KeyError) as error:
        raise ConfigError(f"logging: {error}") from error


def _fields(flags: argparse.Namespace) -> dict[str, Any]:
    """The flags as fields of the configuration file."""
    given = vars(flags)
    fields = {field: given[flag] for flag, field in FIELD_OF_FLAG.items() if given[flag] is not None}
    fields["conntrack"] = {
        "maxPerCore": flags.conntrack_max_per_core,
        "min": flags.conntrack_min,
        "tcpEstablishedTimeout": flags.conntrack_tcp_timeout_established,
        "tcpCloseWaitTimeout": flags.conntrack_tcp_timeout_close_wait,
        "udpTimeout": flags.conntrack_udp_timeout,
        "udpStreamTimeout": flags.conntrack_udp_timeout_stream,
        "tcpBeLiberal": flags.conntrack_tcp_be_liberal,
    }
    fields["detectLocal"] = {
        "bridgeInterface": flags.pod_bridge_interface,
        "interfaceNamePrefix": flags.pod_interface_name_prefix,
    }
    rules = fields["iptables" if flags.proxy_mode == "iptables" else "nftables"] = {
        "masqueradeAll": flags.masquerade_all,
        "masqueradeBit": flags.iptables_masquerade_bit,
        "syncPeriod": flags.iptables_sync_period,
        "minSyncPeriod": flags.iptables_min_sync_period,
    }
    if flags.proxy_mode == "iptables":
        rules["localhostNodePorts"] = flags.iptables_localhost_nodeports
    elif not flags.iptables_localhost_nodeports:
        raise ConfigError("--iptables-localhost-nodeports=false needs --proxy-mode=iptables")
    return fields


@dataclass(frozen=True, slots=True)
class Shared:
    """What runs beside the proxy in its process has of it."""

    proxy: KubeProxy
    client: Client
    clock: Clock


Beside = Callable[[Shared], Loop]


async def run(
    config: ProxyConfig, kubeconfig: Path, ready: Ready = whenever, *, beside: Mapping[str, Beside] | None = None
) -> None:
    """Make a proxy and run it until it is cancelled; ``ready`` is called once its rules are in place.

    ``beside``: loops that run over the same client, by name; one that fails is started again, and disturbs no other.
    """
    if config.oom_score_adjust is not None:
        adjust_oom_score(config.oom_score_adjust)
    clock = SystemClock()
    async with connected(kubeconfig, "kube-proxy", config.client) as client, Runner(clock) as runner:
        shared = Shared(KubeProxy(config=config, client=client, clock=clock), client, clock)
        for name, make in (beside or {}).items():
            runner.supervise(make(shared), name)
        await shared.proxy.run(ready)
