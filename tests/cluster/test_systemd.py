"""systemd's units, held against systemd itself: `systemd-analyze verify` of Debian's package."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tiphys.cli import install
from tiphys.cluster import systemd


def test_systemd_finds_no_fault_with_any_unit(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd is not installed")
    install.main(["--systemd", *systemd.UNITS, "--folder", str(tmp_path)])
    files = sorted(map(str, tmp_path.glob("*.service")))
    assert len(files) == len(systemd.UNITS)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *files], capture_output=True, text=True, check=False
    )
    ours = [line for line in done.stderr.splitlines() if str(tmp_path) in line or ".service" in line]
    assert (done.returncode, ours) == (0, [])
    Path(files[0]).write_text(Path(files[0]).read_text().replace("Restart=always", "Restart=perhaps"))
    worse = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", files[0]], capture_output=True, text=True, check=False
    )
    assert "perhaps" in worse.stderr


def test_the_kubelets_unit_reads_what_init_and_join_write() -> None:
    text = systemd.render("kubelet", "/usr/bin/tiphys")
    assert "EnvironmentFile=-/var/lib/kubelet/kubeadm-flags.env" in text
    assert "--kubeconfig=/etc/kubernetes/kubelet.conf" in text
    assert "KillMode=process" in text, "pods run on when it is stopped"


def test_a_unit_of_somebody_elses_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    there = tmp_path / "kubelet.service"
    there.write_text("[Service]\nExecStart=/usr/bin/kubelet\n")
    with pytest.raises(SystemExit, match="was not written by `tiphys install`; move it away"):
        install.main(["--systemd", "kubelet", "--folder", str(tmp_path)])
    assert "/usr/bin/kubelet" in there.read_text()
    for _ in range(2):
        install.main(["--systemd", "etcd", "--folder", str(tmp_path)])
    assert "systemctl enable --now etcd" in capsys.readouterr().out


def test_an_unknown_unit_is_refused_with_those_there_are() -> None:
    with pytest.raises(SystemExit, match=r"no unit 'docker' is known; choose of tiphys, kubelet, etcd"):
        install.main(["--systemd", "docker"])
