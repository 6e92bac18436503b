"""KubeProxyConfiguration (kubeproxy.config.k8s.io/v1alpha1) as ``ProxyConfig``; what is not supported is refused.

Source: https://kubernetes.io/docs/reference/config-api/kube-proxy-config.v1alpha1/
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tiphys.api.object import Object
from tiphys.proxy.host import ConntrackSettings
from tiphys.proxy.kubeproxy import ProxyConfig
from tiphys.runtime import durations
from tiphys.runtime.component import ConfigError, parse_document

VERSION = "kubeproxy.config.k8s.io/v1alpha1"
MODES = ("", "nftables", "iptables", "userspace")
LOCAL_MODES = ("ClusterCIDR", "NodeCIDR", "BridgeInterface", "InterfaceNamePrefix")


def parse(text: str | bytes, source: str) -> Object:
    """The fields of a KubeProxyConfiguration. Raises ``ConfigError``."""
    fields = parse_document(text, source, "KubeProxyConfiguration", VERSION)
    return {name: value for name, value in fields.items() if value is not None}


def make_config(given: Object, hostname: str) -> ProxyConfig:
    """The configuration from its fields. Raises ``ConfigError``."""
    fields = _Fields(given)
    mode = fields.take("mode", "")
    if mode not in MODES:
        raise ConfigError(f"mode {mode} is not supported by Tiphys; use nftables, iptables or userspace")
    local_mode: Any = fields.take("detectLocalMode", "") or "ClusterCIDR"
    if local_mode not in LOCAL_MODES:
        raise ConfigError(f"detectLocalMode {local_mode} is not supported; use one of {', '.join(LOCAL_MODES)}")
    local, conntrack = fields.part("detectLocal"), fields.part("conntrack")
    rules = fields.part("iptables" if mode == "iptables" else "nftables")
    address = fields.take("bindAddress", "")
    cidrs = _ranges(fields.take("clusterCIDR", ""), mode)
    config = ProxyConfig(
        node_name=(fields.take("hostnameOverride", "") or hostname).strip().lower(),
        mode=mode,
        node_ips=(address,) if address not in ("", "0.0.0.0", "::") else (),
        cluster_cidrs=cidrs,
        detect_local_mode=local_mode,
        bridge_interface=local.take("bridgeInterface", ""),
        interface_name_prefix=local.take("interfaceNamePrefix", ""),
        masquerade_all=rules.take("masqueradeAll", default=False),
        masquerade_bit=rules.take("masqueradeBit", 14),
        localhost_node_ports=mode != "iptables" or rules.take("localhostNodePorts", default=True),
        node_port_addresses=tuple(fields.take("nodePortAddresses", ())),
        sync_period=rules.seconds("syncPeriod", "0s") or 30.0,
        min_sync_period=rules.seconds("minSyncPeriod", "0s") or 0.1,
        healthz_address=fields.take("healthzBindAddress", "127.0.0.1:10256"),
        metrics_address=fields.take("metricsBindAddress", "127.0.0.1:10249"),
        bind_address_hard_fail=fields.take("bindAddressHardFail", default=False),
        conntrack=ConntrackSettings(
            conntrack.take("maxPerCore", 32768),
            conntrack.take("min", 131072),
            conntrack.seconds("tcpEstablishedTimeout", "24h"),
            conntrack.seconds("tcpCloseWaitTimeout", "1h"),
            conntrack.seconds("udpTimeout", "0"),
            conntrack.seconds("udpStreamTimeout", "0"),
            conntrack.take("tcpBeLiberal", default=False),
        ),
    )
    for part in (fields, local, rules, conntrack):
        part.refuse_rest()
    return config


def _ranges(text: str, mode: str) -> tuple[str, ...]:
    cidrs = tuple(cidr.strip() for cidr in text.split(",") if cidr.strip())
    if mode == "iptables" and len(cidrs) != len({":" in cidr for cidr in cidrs}):
        raise ConfigError(f"clusterCIDR {text}: mode iptables takes one range of each IP family")
    return cidrs


class _Fields:
    """Fields that are taken one by one; what is left was not known."""

    def __init__(self, given: Mapping[str, Any], path: str = "") -> None:
        self._left = dict(given)
        self._path = path

    def take(self, name: str, default: Any) -> Any:
        value = self._left.pop(name, None)
        return default if value is None else value

    def seconds(self, name: str, default: str) -> float:
        text = str(self.take(name, default))
        try:
            return durations.seconds(text)
        except durations.DurationError as error:
            raise ConfigError(f"{self._path}{name}: {error}") from error

    def part(self, name: str) -> _Fields:
        return _Fields(self.take(name, {}), f"{self._path}{name}.")

    def refuse_rest(self) -> None:
        for name, value in self._left.items():
            if not _says_nothing(value):
                raise ConfigError(f"upstream's field {self._path}{name} is not supported by Tiphys; remove it")


def _says_nothing(value: Any) -> bool:
    """kubeadm writes every field, with empty values in those that it means nothing by."""
    if isinstance(value, Mapping):
        return all(map(_says_nothing, value.values()))
    return value in (None, "", 0, "0", "0s", [], False)
