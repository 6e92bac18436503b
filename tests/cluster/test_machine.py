"""The machine's checks."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tiphys.cluster import machine
from tiphys.cluster.pki import ensure_authority
from tiphys.cluster.settings import Settings

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounts file systems")


def test_a_port_that_is_taken_is_named_with_its_holder_and_the_flag() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        found = [
            str(p) for p in machine.problems(Settings(port=port, kubelet_port=1, etcd_port=1)) if str(port) in str(p)
        ]
    assert len(found) == 1
    assert f"Port {port}, which the API server needs, is taken by" in found[0]
    assert "--port" in found[0]


def test_missing_programs_are_named_by_their_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.shutil, "which", lambda name: None if name in ("runc", "nft") else "/bin/true")
    found = [str(p) for p in machine.problems(Settings()) if "apt-get install" in str(p)]
    assert len(found) == 1
    assert "nftables runc" in found[0]


def test_without_root_only_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.os, "geteuid", lambda: 1000)
    (found,) = machine.problems(Settings())
    assert "root" in found.what


@pytest.mark.parametrize(("host", "node"), [("Web_01.Example", "web-01.example"), ("...", "node")])
def test_a_host_name_becomes_a_node_name(monkeypatch: pytest.MonkeyPatch, host: str, node: str) -> None:
    monkeypatch.setattr(machine.socket, "gethostname", lambda: host)
    assert machine.node_name() == node


def refusals(**given: object) -> str:
    return "\n".join(map(str, machine.problems(Settings().changed(**given))))


def test_a_path_too_long_for_a_socket_is_refused(tmp_path: Path) -> None:
    long = tmp_path / ("d" * 95)
    refused = refusals(data_dir=long, run_dir=long / "run")
    assert f"{long}/run/containerd.sock.ttrpc, is longer than 104 bytes" in refused
    assert "--run-dir" in refused
    assert not long.exists()
    assert "longer than" not in refusals(data_dir=long, run_dir=Path("/run/short"))


@pytest.mark.parametrize(("size", "refused"), [(104, False), (105, True)])
def test_the_limit_of_a_sockets_path_is_exact(size: int, refused: bool) -> None:
    folder = Path("/" + "r" * (size - 1 - len("/containerd.sock.ttrpc")))
    assert ("longer than" in refusals(run_dir=folder)) is refused


@pytest.mark.parametrize("name", ["Web_01", "a..b", "-a", "a.", "é", "x" * 53, ""])
def test_a_node_name_that_no_node_can_have_is_refused(name: str) -> None:
    assert "--node-name" in refusals(node_name=name)


def test_a_hosts_name_that_is_no_dns_name_is_remarked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.socket, "gethostname", lambda: "Web_01")
    (remark,) = (r for r in machine.remarks(Settings(node_name="web-01")) if "host's name" in r.what)
    assert "'Web_01'" in remark.what
    assert "--node-name" in remark.remedy
    assert not any("host's name" in r.what for r in machine.remarks(Settings(node_name="chosen")))


@contextlib.contextmanager
def mounted(folder: Path, *options: str) -> Iterator[None]:
    subprocess.run(["mount", "-t", "tmpfs", *options, "none", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


@needs_root
def test_a_folder_mounted_noexec_is_refused(tmp_path: Path) -> None:
    """But for the folder of what runs: Debian mounts /run so, and containers' files are mounts of their own there."""
    with mounted(tmp_path, "-o", "noexec"):
        refused = refusals(data_dir=tmp_path / "not" / "there")
        assert "noexec" not in refusals(run_dir=tmp_path)
    assert f"{tmp_path}/not/there is on a file system that is mounted noexec" in refused
    assert "noexec" not in refusals(data_dir=tmp_path, run_dir=tmp_path)


@needs_root
def test_a_folder_on_overlayfs_is_remarked(tmp_path: Path) -> None:
    with mounted(tmp_path):
        lower, upper, work, merged = (tmp_path / name for name in ("lower", "upper", "work", "merged"))
        for folder in (lower, upper, work, merged):
            folder.mkdir()
        options = f"lowerdir={lower},upperdir={upper},workdir={work}"
        subprocess.run(["mount", "-t", "overlay", "-o", options, "none", merged], check=True)
        try:
            said = [str(r) for r in machine.remarks(Settings(data_dir=merged / "data"))]
        finally:
            subprocess.run(["umount", merged], check=True)
        assert any("overlayfs" in remark for remark in said)
        assert not any("overlayfs" in str(r) for r in machine.remarks(Settings(data_dir=upper)))


@pytest.mark.parametrize(
    ("days", "says"),
    [(2, "certificates start at"), (-3651, "authority ended at"), (0, "")],
)
def test_a_clock_outside_of_the_certificates_time_is_refused(tmp_path: Path, days: int, says: str) -> None:
    settings = Settings(data_dir=tmp_path)
    ensure_authority(settings.pki, "ca", "kubernetes", datetime.now(UTC) + timedelta(days=days))
    refused = refusals(data_dir=tmp_path)
    assert (says in refused) if says else ("certificate" not in refused)


@needs_root
def test_without_a_default_route_the_address_has_to_be_named() -> None:
    script = "from tiphys.cluster import machine; print(machine.node_address())"
    up = "set -e; ip link set lo up; ip link add eth9 type veth peer name eth8; "
    up += "ip link set eth8 up; ip link set eth9 up; "
    address = "ip address add 198.18.0.10/24 dev eth9; "
    route = "ip route add default dev eth9; "

    def answer(commands: str) -> str:
        inside = f"{commands} exec {sys.executable} -c '{script}'"
        done = subprocess.run(["unshare", "--net", "sh", "-c", inside], capture_output=True, text=True, check=False)
        return (done.stdout or done.stderr.splitlines()[-1]).strip()

    assert "no IPv4 address but loopback" in answer(up)
    assert "no IPv4 default route" in answer(up + address)
    assert "--node-ip 198.18.0.10" in answer(up + address)
    assert answer(up + address + route) == "198.18.0.10"
