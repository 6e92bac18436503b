"""KubeProxyConfiguration (kubeproxy.config.k8s.io/v1alpha1) as ``ProxyConfig``; what is not supported is refused.

Source: https://kubernetes.io/docs/reference/config-api/kube-proxy-config.v1alpha1/
"""

from __future__ import annotations

import contextlib
import ipaddress
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from tiphys.api.object import Object
from tiphys.proxy import nodeports
from tiphys.proxy.config import ProxyConfig
from tiphys.proxy.host import ConntrackSettings
from tiphys.runtime import durations, featuregates
from tiphys.runtime.component import ConfigError, parse_document

VERSION = "kubeproxy.config.k8s.io/v1alpha1"
MODES = ("", "nftables", "iptables", "userspace")
_OF_RULES = ("masqueradeBit", "masqueradeAll", "syncPeriod", "minSyncPeriod")
SECTIONS = {
    "iptables": (*_OF_RULES, "localhostNodePorts"),
    "nftables": _OF_RULES,
    "ipvs": (
        *("syncPeriod", "minSyncPeriod", "scheduler", "excludeCIDRs", "strictARP"),
        *("tcpTimeout", "tcpFinTimeout", "udpTimeout"),
    ),
    "winkernel": ("networkName", "sourceVip", "enableDSR", "rootHnsEndpointName", "forwardHealthCheckVip"),
}
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
    local, conntrack, rules = fields.part("detectLocal"), fields.part("conntrack"), _rules(fields, mode)
    address = fields.take("bindAddress", "")
    config = ProxyConfig(
        node_name=(fields.take("hostnameOverride", "") or hostname).strip().lower(),
        mode=mode,
        node_ips=(_ip(address),) if address not in ("", "0.0.0.0", "::") else (),
        cluster_cidrs=_ranges(fields.take("clusterCIDR", ""), mode),
        detect_local_mode=local_mode,
        bridge_interface=local.take("bridgeInterface", ""),
        interface_name_prefix=local.take("interfaceNamePrefix", ""),
        masquerade_all=rules.take("masqueradeAll", default=False),
        masquerade_bit=rules.number("masqueradeBit", 14, 0, 31),
        localhost_node_ports=rules.take("localhostNodePorts", default=True),
        node_port_addresses=_node_port_addresses(fields.take("nodePortAddresses", ())),
        sync_period=rules.seconds("syncPeriod", "0s") or 30.0,
        min_sync_period=rules.seconds("minSyncPeriod", "0s") or 0.1,
        healthz_address=_listener(fields.take("healthzBindAddress", "127.0.0.1:10256"), 10256),
        metrics_address=_listener(fields.take("metricsBindAddress", "127.0.0.1:10249"), 10249),
        profiling=fields.take("enableProfiling", default=False),
        bind_address_hard_fail=fields.take("bindAddressHardFail", default=False),
        oom_score_adjust=fields.number("oomScoreAdj", None, -1000, 1000),
        conntrack=ConntrackSettings(
            conntrack.number("maxPerCore", 32768, 0),
            conntrack.number("min", 131072, 0),
            conntrack.seconds("tcpEstablishedTimeout", "24h"),
            conntrack.seconds("tcpCloseWaitTimeout", "1h"),
            conntrack.seconds("udpTimeout", "0"),
            conntrack.seconds("udpStreamTimeout", "0"),
            conntrack.take("tcpBeLiberal", default=False),
        ),
    )
    if config.min_sync_period > config.sync_period:
        raise ConfigError("syncPeriod: must be greater than or equal to minSyncPeriod")
    _accept_idle(fields)
    for part in (fields, local, rules, conntrack):
        part.refuse_rest()
    return config


def _rules(fields: _Fields, mode: str) -> _Fields:
    """The section of the mode; a file that leaves the mode open may say it in that of any. Sections of other modes have
    no effect, as upstream's; kubeadm writes them all."""
    parts = {name: fields.part(name) for name in SECTIONS}
    for name, part in parts.items():
        part.refuse_unknown(SECTIONS[name])
    if mode in parts:
        return parts[mode]
    return parts["nftables"].over(parts["iptables"])


def _accept_idle(fields: _Fields) -> None:
    """Fields that steer nothing here, with what Tiphys does or with upstream's default."""
    try:
        featuregates.check({name: bool(on) for name, on in fields.take("featureGates", {}).items()})
    except featuregates.GateError as error:
        raise ConfigError(f"featureGates: {error}") from error
    if fields.seconds("configSyncPeriod", "15m") != 900:
        raise ConfigError("configSyncPeriod: nothing is read again in turns by Tiphys; remove it, or give 15m")
    fields.take("portRange", "")


def _ip(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError as error:
        raise ConfigError(f"bindAddress {text}: not a valid textual representation of an IP address") from error


def _listener(text: str, port: int) -> str:
    """An address with its port, the usual one if it has none; empty for none. Raises ``ConfigError``."""
    if not text:
        return ""
    with contextlib.suppress(ValueError):
        host = ipaddress.ip_address(text.strip("[]"))
        return f"[{host}]:{port}" if host.version == 6 else f"{host}:{port}"
    host_text, _, number = text.rpartition(":")
    try:
        ipaddress.ip_address(host_text.strip("[]"))
    except ValueError as error:
        raise ConfigError(f"{text}: must be IP:port") from error
    if not number.isdigit() or not 1 <= int(number) <= 65535:
        raise ConfigError(f"{text}: must be a valid port")
    return text


def _node_port_addresses(given: Sequence[str]) -> tuple[str, ...]:
    if nodeports.PRIMARY in given and len(given) > 1:
        raise ConfigError("nodePortAddresses: can't use both 'primary' and CIDRs")
    for text in given if nodeports.PRIMARY not in given else ():
        try:
            ipaddress.ip_network(text, strict=False)
        except ValueError as error:
            raise ConfigError(f"nodePortAddresses {text}: must be a valid CIDR") from error
    return tuple(given)


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

    def number(self, name: str, default: Any, least: int, most: int = 2**31 - 1) -> Any:
        """A whole number in a range, or the default."""
        value = self.take(name, default)
        if value is not default and (type(value) is not int or not least <= value <= most):
            raise ConfigError(f"{self._path}{name} {value}: must be within the range [{least}, {most}]")
        return value

    def over(self, other: _Fields) -> _Fields:
        """These fields, and those of another section that these say nothing about."""
        own = {name: value for name, value in self._left.items() if not _says_nothing(value)}
        theirs = {name: value for name, value in other._left.items() if value is not None}
        return _Fields({**self._left, **theirs, **own}, self._path)

    def refuse_unknown(self, names: Collection[str]) -> None:
        for name in self._left.keys() - set(names):
            raise ConfigError(f"{self._path}{name} is no field of upstream's; remove it")

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
