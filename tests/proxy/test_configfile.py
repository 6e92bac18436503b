"""Flags and the configuration file: the same fields, and what is not supported is refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tiphys.proxy.command import _configuration, main, parser
from tiphys.proxy.configfile import ConfigError, make_config, parse
from tiphys.runtime import logs
from tiphys.runtime.system.oomscore import adjust_oom_score

FILE = """
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
clusterCIDR: 10.244.0.0/16,fd00::/56
hostnameOverride: Node-1
clientConnection: {kubeconfig: /var/lib/kube-proxy/kubeconfig.conf, acceptContentTypes: "", qps: 0}
conntrack: {maxPerCore: null, min: null, tcpEstablishedTimeout: 1h}
nftables: {masqueradeAll: false, masqueradeBit: 15, minSyncPeriod: 0s, syncPeriod: 0s}
iptables: {localhostNodePorts: null, masqueradeAll: false, masqueradeBit: null, minSyncPeriod: 0s, syncPeriod: 0s}
ipvs: {excludeCIDRs: null, minSyncPeriod: 0s, scheduler: "", strictARP: false, tcpTimeout: 0s}
detectLocal: {bridgeInterface: "", interfaceNamePrefix: ""}
logging: {flushFrequency: 0, options: {json: {infoBufferSize: "0"}, text: {infoBufferSize: "0"}}, verbosity: 0}
nodePortAddresses: null
oomScoreAdj: null
portRange: ""
"""


def test_the_file_that_kubeadm_writes() -> None:
    given = parse(FILE, "file")
    assert given.pop("clientConnection")["kubeconfig"] == "/var/lib/kube-proxy/kubeconfig.conf"
    config = make_config(given, "host")
    assert (config.node_name, config.mode, config.masquerade_bit) == ("node-1", "nftables", 15)
    assert config.cluster_cidrs == ("10.244.0.0/16", "fd00::/56")
    assert config.conntrack.tcp_established == 3600


def test_logs_are_as_the_file_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[Any, ...]] = []
    monkeypatch.setattr(logs, "configure", lambda *given, **named: made.append((*given, named)))
    file = tmp_path / "config"
    file.write_text(
        FILE.replace("logging: {", "logging: {format: json, vmodule: [{filePattern: rules, verbosity: 4}], ")
    )
    _configuration(parser().parse([f"--config={file}", "-v=3"]))
    assert made == [(3, {"form": "json", "modules": {"rules": 4}})]
    file.write_text(FILE.replace("logging: {", "logging: {format: xml, "))
    with pytest.raises(ConfigError, match="logging: format xml is not supported; use text or json"):
        _configuration(parser().parse([f"--config={file}"]))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"mode": "ipvs"}, "mode ipvs"),
        ({"ipvs": {"schedulers": "rr"}}, "ipvs.schedulers is no field of upstream's"),
        ({"showHiddenMetricsForVersion": "1.35"}, "field showHiddenMetricsForVersion"),
        ({"windowsRunAsService": True}, "field windowsRunAsService"),
        ({"oomScoreAdj": -1001}, r"oomScoreAdj -1001: must be within the range \[-1000, 1000\]"),
        ({"iptables": {"masqueradeBit": 32}}, r"masqueradeBit 32: must be within the range \[0, 31\]"),
        ({"conntrack": {"min": -1}}, "conntrack.min -1: must be within"),
        ({"nftables": {"minSyncPeriod": "31s"}}, "syncPeriod: must be greater than or equal to minSyncPeriod"),
        ({"bindAddress": "here"}, "bindAddress here"),
        ({"healthzBindAddress": "here:10256"}, "here:10256: must be IP:port"),
        ({"metricsBindAddress": "127.0.0.1:0"}, "127.0.0.1:0: must be a valid port"),
        ({"nodePortAddresses": ["primary", "10.0.0.0/8"]}, "can't use both 'primary' and CIDRs"),
        ({"nodePortAddresses": ["10.0.0.1/33"]}, "nodePortAddresses 10.0.0.1/33: must be a valid CIDR"),
        ({"configSyncPeriod": "1m"}, "configSyncPeriod"),
        ({"featureGates": {"Nope": True}}, "featureGates: unrecognized feature gate: Nope"),
        ({"detectLocalMode": "Nope"}, "detectLocalMode Nope"),
        ({"mode": "iptables", "clusterCIDR": "10.0.0.0/16,10.1.0.0/16"}, "one range of each IP family"),
        ({"nftables": {"syncPeriod": "soon"}}, 'nftables.syncPeriod: time: invalid duration "soon"'),
    ],
)
def test_what_is_not_supported_is_refused_by_name(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_config(fields, "host")


@pytest.mark.parametrize("text", ["- a", "kind: Pod", "kind: KubeProxyConfiguration\napiVersion: v2", "a: [b"])
def test_files_that_are_none(text: str) -> None:
    with pytest.raises(ConfigError):
        parse(text, "file")


DEFAULTED = """
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
bindAddress: 0.0.0.0
bindAddressHardFail: false
clientConnection:
  {acceptContentTypes: "", burst: 10, contentType: application/vnd.kubernetes.protobuf, kubeconfig: "", qps: 5}
clusterCIDR: ""
configSyncPeriod: 15m0s
conntrack:
  {maxPerCore: 32768, min: 131072, tcpBeLiberal: false, tcpCloseWaitTimeout: 1h0m0s, tcpEstablishedTimeout: 24h0m0s,
   udpStreamTimeout: 0s, udpTimeout: 0s}
detectLocal: {bridgeInterface: "", interfaceNamePrefix: ""}
detectLocalMode: ""
enableProfiling: false
healthzBindAddress: 0.0.0.0:10256
hostnameOverride: ""
iptables: {localhostNodePorts: true, masqueradeAll: false, masqueradeBit: 14, minSyncPeriod: 1s, syncPeriod: 30s}
ipvs:
  {excludeCIDRs: null, minSyncPeriod: 0s, scheduler: "", strictARP: false, syncPeriod: 30s, tcpFinTimeout: 0s,
   tcpTimeout: 0s, udpTimeout: 0s}
logging:
  {flushFrequency: 5s, format: text, options: {json: {infoBufferSize: "0"}, text: {infoBufferSize: "0"}}, verbosity: 0}
metricsBindAddress: 127.0.0.1:10249
mode: ""
nftables: {masqueradeAll: false, masqueradeBit: 14, minSyncPeriod: 1s, syncPeriod: 30s}
nodePortAddresses: null
oomScoreAdj: -999
portRange: ""
showHiddenMetricsForVersion: ""
winkernel: {enableDSR: false, forwardHealthCheckVip: false, networkName: "", rootHnsEndpointName: "", sourceVip: ""}
windowsRunAsService: false
"""


def test_the_file_that_upstream_writes_with_its_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "configure", lambda *_, **__: None)
    (tmp_path / "config").write_text(DEFAULTED)
    config, _ = _configuration(parser().parse([f"--config={tmp_path / 'config'}", "--kubeconfig=/k"]))
    assert (config.oom_score_adjust, config.min_sync_period, config.sync_period) == (-999, 1.0, 30.0)
    assert (config.healthz_address, config.node_port_addresses, config.masquerade_bit) == ("0.0.0.0:10256", (), 14)


def test_a_mode_has_its_own_section_and_none_takes_what_any_says() -> None:
    sections = {"iptables": {"masqueradeBit": 3, "localhostNodePorts": False}, "nftables": {"masqueradeAll": True}}

    def bits(mode: str) -> tuple[int, bool, bool]:
        config = make_config({"mode": mode, **sections}, "host")
        return config.masquerade_bit, config.masquerade_all, config.localhost_node_ports

    assert bits("iptables") == (3, False, False)
    assert bits("nftables") == (14, True, True)
    assert bits("") == (3, True, False)
    assert make_config({"nftables": {"masqueradeBit": 0}}, "host").masquerade_bit == 0


def test_addresses_without_a_port_get_the_usual_one() -> None:
    config = make_config({"healthzBindAddress": "0.0.0.0", "metricsBindAddress": "::1"}, "host")
    assert (config.healthz_address, config.metrics_address) == ("0.0.0.0:10256", "[::1]:10249")


def test_the_oom_score_is_set(tmp_path: Path) -> None:
    adjust_oom_score(-999, tmp_path / "score")
    assert (tmp_path / "score").read_text() == "-999"
    adjust_oom_score(1, tmp_path)  # as without the right: a word in the log
    flags = parser().parse(["--kubeconfig=/k", "--oom-score-adj=0", "--nodeport-addresses=primary"])
    config, _ = _configuration(flags)
    assert (config.oom_score_adjust, config.node_port_addresses) == (0, ("primary",))


def test_mode_iptables_has_settings_of_its_own() -> None:
    given = {"mode": "iptables", "clusterCIDR": "10.0.0.0/16,fd00::/56"}
    config = make_config({**given, "iptables": {"localhostNodePorts": False, "masqueradeBit": 13}}, "host")
    assert (config.mode, config.localhost_node_ports, config.masquerade_bit) == ("iptables", False, 13)
    flags = parser().parse(["--kubeconfig=/k", "--proxy-mode=iptables", "--iptables-localhost-nodeports=false"])
    assert not _configuration(flags)[0].localhost_node_ports
    with pytest.raises(ConfigError, match="needs --proxy-mode=iptables"):
        _configuration(parser().parse(["--kubeconfig=/k", "--iptables-localhost-nodeports=false"]))


def test_flags() -> None:
    flags = parser().parse(
        ["--kubeconfig=/k", "--cluster-cidr=10.1.0.0/16", "--masquerade-all", "--hostname-override=n"]
    )
    config, kubeconfig = _configuration(flags)
    assert (config.node_name, config.cluster_cidrs, config.masquerade_all) == ("n", ("10.1.0.0/16",), True)
    assert str(kubeconfig) == "/k"
    assert config.min_sync_period == 0.1


def test_every_flag_of_the_original_is_known_or_refused() -> None:
    with pytest.raises(SystemExit, match="upstream's flag --ipvs-scheduler=rr is not supported"):
        main(["--ipvs-scheduler=rr"])
    with pytest.raises(SystemExit, match="unknown flag"):
        main(["--nope"])
    with pytest.raises(SystemExit, match="--kubeconfig is needed"):
        main([])
