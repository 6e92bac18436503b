"""KubeSchedulerConfiguration and kube-scheduler's flags."""

from __future__ import annotations

from pathlib import Path

import pytest

from tiphys.client.options import ClientOptions
from tiphys.client.throttle import RequestRate
from tiphys.scheduler import configfile
from tiphys.scheduler.command import _configuration, main, parser
from tiphys.scheduler.plugins.registry import ConfigError

HEAD = "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\n"


def test_profiles() -> None:
    text = """
leaderElection: {leaderElect: false}
clientConnection: {kubeconfig: /etc/scheduler.conf}
podInitialBackoffSeconds: 2
profiles:
- schedulerName: packing
  plugins:
    score:
      disabled: [{name: "*"}]
      enabled: [{name: NodeResourcesFit, weight: 5}]
  pluginConfig:
  - name: NodeResourcesFit
    args: {scoringStrategy: {type: MostAllocated}}
- {}
"""
    config, kubeconfig = configfile.parse(HEAD + text, "file")
    assert (kubeconfig, config.initial_backoff, config.leader_election) == ("/etc/scheduler.conf", 2, None)
    packing, default = config.profiles
    assert (packing.name, default.name) == ("packing", "default-scheduler")
    assert packing.plugins["score"].enabled == (("NodeResourcesFit", 5),)
    assert packing.plugins["score"].disabled == {"*"}
    assert packing.arguments["NodeResourcesFit"] == {"scoringStrategy": {"type": "MostAllocated"}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("extenders: [{urlPrefix: http://x}]", "field extenders"),
        ("delayCacheUntilActive: true", "delayCacheUntilActive=True is not supported"),
        ("leaderElection: {resourceLock: endpoints}", "resourceLock endpoints"),
        ("profiles: [{plugins: {nope: {}}}]", "field nope"),
        ("profiles: [{}, {}]", "two profiles"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        configfile.parse(f"{HEAD}{text}\n", "file")


def test_the_client_that_file_and_flags_describe(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(f"{HEAD}clientConnection: {{kubeconfig: /k, burst: 7}}\n")

    def client(*words: str) -> ClientOptions:
        return _configuration(parser().parse([*words, "--leader-elect=false"]), parser())[0].client

    assert client("--kubeconfig=/k") == ClientOptions()
    assert client("--kubeconfig=/k", "--kube-api-qps=5") == ClientOptions(limits=RequestRate(5, 100))
    ignored = client(f"--config={file}", "--kube-api-qps=5", "--master=https://h:1")
    assert ignored == ClientOptions("https://h:1", RequestRate(50, 7))


def test_flags() -> None:
    flags = parser().parse(["--kubeconfig=/k", "--leader-elect=false", "--secure-port=0"])
    config, kubeconfig = _configuration(flags, parser())
    assert (config.leader_election, config.serving, kubeconfig) == (None, None, Path("/k"))
    flags = parser().parse(["--kubeconfig", "/k", "--leader-elect-lease-duration", "30s"])
    config, _ = _configuration(flags, parser())
    assert config.leader_election is not None
    assert config.leader_election.lease_duration == 30
    assert config.serving is not None
    assert (config.serving.host, config.serving.port) == ("127.0.0.1", 10259)


def test_refusals() -> None:
    with pytest.raises(SystemExit, match="unrecognized feature gate: A"):
        main(["--feature-gates=A=true"])
    with pytest.raises(SystemExit, match="--tls-cert-file and --tls-private-key-file belong together"):
        main(["--kubeconfig=/k", "--tls-cert-file=/k"])
    with pytest.raises(SystemExit, match="--kubeconfig is needed"):
        main([])
    with pytest.raises(SystemExit, match="cannot read"):
        main(["--kubeconfig=/does/not/exist"])
