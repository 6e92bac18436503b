"""The machine's checks."""

from __future__ import annotations

import socket

import pytest

from tiphys.cluster import machine
from tiphys.cluster.settings import Settings


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
