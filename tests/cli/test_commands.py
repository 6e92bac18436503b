"""The command line, where it needs no cluster: names, refusals, settings, logs, progress."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tiphys import KUBERNETES_VERSION
from tiphys.apiserver import flags as apiserver_flags
from tiphys.cli import down, logs, status, up
from tiphys.cli import main as cli
from tiphys.cli.console import Console, fail, table
from tiphys.cluster.machine import Problem
from tiphys.cluster.settings import Settings, SettingsError
from tiphys.runtime import version
from tiphys.runtime.flags import FlagParser


def resolve(*words: str) -> Settings:
    return up.resolve(up._options().parse_args(words), Console(quiet=True))


def test_every_command_can_be_imported_and_has_a_main() -> None:
    for module, _ in [*cli.COMMANDS.values(), *cli.COMPONENTS.values()]:
        assert callable(__import__(module, fromlist=["main"]).main), module


def test_help_and_an_unknown_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    assert "tiphys COMMAND" in capsys.readouterr().out
    assert cli.main(["upp"]) == 2
    assert "unknown command 'upp'" in capsys.readouterr().err
    assert cli.main(["version"]) == 0
    assert "Kubernetes v1.36" in capsys.readouterr().out


@pytest.fixture
def reported() -> Iterator[None]:
    """The reported version is the process's: put it back."""
    yield
    version.report(KUBERNETES_VERSION)


COMPONENTS = ["kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "dns"]


@pytest.mark.parametrize("component", COMPONENTS)
def test_every_component_tells_its_version(component: str, capsys: pytest.CaptureFixture[str], reported: None) -> None:
    for words in (["--version"], ["--version=true"], ["--version=raw"]):
        with pytest.raises(SystemExit) as ended:
            cli.main([component, *words])
        assert ended.value.code == 0
    plain, same, raw = capsys.readouterr().out.splitlines()
    assert plain == same == "Kubernetes v1.36.0"
    assert raw.startswith('version.Info{Major:"1", Minor:"36"')
    with pytest.raises(SystemExit, match="must match major/minor/patch"):
        cli.main([component, "--version=v1.35.0"])
    with pytest.raises(SystemExit, match="could not parse"):
        cli.main([component, "--version=vague"])


def test_the_store_tells_the_version_of_etcd(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["etcd", "--version"])
    assert capsys.readouterr().out.startswith("etcd Version: 3.")


def test_a_version_of_ones_own_is_reported(reported: None) -> None:
    flags = FlagParser("kube-apiserver", "")
    flags.parse(["--version=v1.36.0-custom"])
    assert version.version_info()["gitVersion"] == "v1.36.0-custom"
    flags.parse(["--version=false"])
    assert version.version_info()["gitVersion"] == "v1.36.0-custom"


def test_clients_of_the_release_match_the_servers_version() -> None:
    info = version.version_info()
    assert (info["gitVersion"], info["gitCommit"], info["gitTreeState"]) == ("v1.36.0", "$Format:%H$", "")


@pytest.mark.parametrize("component", COMPONENTS[:5])
def test_a_feature_gate_that_nobody_knows_is_refused(component: str) -> None:
    with pytest.raises(SystemExit, match="unrecognized feature gate: X"):
        cli.main([component, "--feature-gates=X=true"])


def test_the_flags_of_the_originals_command_tests_are_taken() -> None:
    words = ["--feature-gates=", "--runtime-config=api/v1", "--storage-media-type=", "--service-account-lookup=true"]
    assert apiserver_flags.parser().parse(words).runtime_config == {"api/v1": True}
    for word in ("--runtime-config=api/v1=false", "--runtime-config=nope/v1", "--service-account-lookup=false"):
        with pytest.raises(SystemExit, match=word.split("=")[0]):
            apiserver_flags.parser().parse([word])


@pytest.mark.parametrize("command", ["down", "status", "logs", "demo", "reset"])
def test_without_a_cluster_a_command_says_how_to_start_one(command: str, tmp_path: Path) -> None:
    words = [command, "--data-dir", str(tmp_path / "none"), *(["kubelet"] if command == "logs" else [])]
    with pytest.raises(SystemExit, match=r"no cluster in .*tiphys up"):
        cli.main(words)


def test_a_first_up_takes_its_flags_and_a_later_one_keeps_them(tmp_path: Path) -> None:
    first = resolve("--data-dir", str(tmp_path), "--port", "7443", "--node-name", "n1", "--node-ip", "10.1.2.3")
    assert (first.port, first.node_name, first.run_dir) == (7443, "n1", tmp_path / "run")
    first.save()
    again = resolve("--data-dir", str(tmp_path), "--bridge", "br9")
    assert (again.port, again.node_name, again.bridge) == (7443, "n1", "br9")
    with pytest.raises(SettingsError, match=r"the node of this cluster is n1.*reset"):
        resolve("--data-dir", str(tmp_path), "--node-name", "other")


def test_problems_are_told_all_at_once_and_nothing_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = [Problem("Port 6443 is taken.", "Stop it."), Problem("runc is missing.", "Install it.")]
    monkeypatch.setattr(up.machine, "problems", lambda settings: found)
    with pytest.raises(SystemExit) as ended:
        up.main(["--data-dir", str(tmp_path / "data"), "--node-ip", "10.1.2.3", "-q"])
    assert "Port 6443 is taken" in str(ended.value)
    assert "Install it." in str(ended.value)
    assert not (tmp_path / "data").exists()


def test_down_and_status_of_a_cluster_that_does_not_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Settings(data_dir=tmp_path, run_dir=tmp_path / "run").save()
    assert down.main(["--data-dir", str(tmp_path)]) == 0
    assert "not running" in capsys.readouterr().err
    assert status.main(["--data-dir", str(tmp_path), "-o", "json"]) == 3
    assert json.loads(capsys.readouterr().out)["running"] is False


def test_logs_show_the_end_and_name_what_there_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = Settings(data_dir=tmp_path)
    settings.save()
    settings.logs.mkdir()
    (settings.logs / "kubelet.log").write_text("one\ntwo\nthree\n")
    assert logs.main(["kubelet", "--tail", "2", "--data-dir", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "two\nthree\n"
    with pytest.raises(SystemExit, match=r"no log of 'kubelt'; choose from: kubelet"):
        logs.main(["kubelt", "--data-dir", str(tmp_path)])


def test_progress_is_plain_text_where_there_is_no_terminal() -> None:
    stream = io.StringIO()
    console = Console(stream)
    with console.step("Doing"):
        console.live("half done")
    with pytest.raises(ValueError, match="broken"), console.step("Failing"):
        raise ValueError("broken")
    lines = stream.getvalue().splitlines()
    assert lines[0].startswith("  ✓ Doing (")
    assert lines[1] == "  ✗ Failing"
    assert "\033" not in stream.getvalue()


def test_a_table_has_columns_of_equal_width() -> None:
    assert table(("A", "LONG"), [("xyz", 1), ("x", 22)]) == "A     LONG\nxyz   1\nx     22"


def test_a_nodes_readiness_in_words() -> None:
    ready = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
    assert status.node_readiness(ready) == "Ready"
    assert "not reported" in status.node_readiness({})
    ill = {"status": {"conditions": [{"type": "Ready", "status": "False", "message": "no runtime"}]}}
    assert status.node_readiness(ill) == "NotReady: no runtime"


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ConnectionError("refused"), "tiphys: refused"),
        (TimeoutError(), "tiphys: there was no answer in time"),
        (ConnectionResetError(), "tiphys: ConnectionResetError"),
    ],
)
def test_a_failure_says_something(error: Exception, text: str) -> None:
    with pytest.raises(SystemExit) as ended:
        fail(error)
    assert ended.value.code == text
