"""Flags and the configuration file: the same fields, and what is not supported is refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tiphys.proxy.command import _configuration, main, parser
from tiphys.proxy.configfile import ConfigError, make_config, parse
from tiphys.runtime import logs

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
        ({"ipvs": {"scheduler": "rr"}}, "field ipvs"),
        ({"oomScoreAdj": -999}, "field oomScoreAdj"),
        ({"detectLocalMode": "Nope"}, "detectLocalMode Nope"),
        ({"mode": "iptables", "nftables": {"masqueradeBit": 3}}, "field nftables"),
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
