"""A machine that changes between `down` and `up`, and one that cannot run a cluster: what `up` says and does."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.machine import Machine, wait_for
from tests.machine import machine as new_machine

pytestmark = pytest.mark.e2e


@pytest.fixture
def host() -> Iterator[Machine]:
    if os.geteuid() != 0 or shutil.which("kubectl") is None:
        pytest.skip("end-to-end tests start containers and need kubectl")
    with new_machine("tiphys-moves") as made:
        yield made


def ip(host: Machine, *words: str) -> None:
    subprocess.run(["ip", "-n", host.namespace, *words], check=True)


def address(host: Machine) -> str:
    (node,) = host.get("nodes")["items"]
    return next(str(a["address"]) for a in node["status"]["addresses"] if a["type"] == "InternalIP")


def test_a_node_follows_its_machines_address(host: Machine) -> None:
    host.tiphys("up", timeout=180)
    old = address(host)
    host.tiphys("down")
    ip(host, "address", "delete", f"{old}/24", "dev", "eth0")
    refused = host.tiphys("up", check=False)
    assert refused.returncode == 1
    assert f"the node's address {old} is gone" in refused.stderr
    ip(host, "address", "add", "198.18.1.77/24", "dev", "eth0")
    ip(host, "route", "replace", "default", "dev", "eth0")
    said = host.tiphys("up", "--api-workers", "2", timeout=180)
    assert f"no longer has {old}: the node moves to 198.18.1.77" in said.stderr
    wait_for(lambda: address(host) == "198.18.1.77", 30)

    def endpoints() -> set[str]:
        slices = host.get("endpointslices", "-A")["items"]
        return {ip for each in slices for endpoint in each["endpoints"] for ip in endpoint["addresses"]}

    wait_for(lambda: endpoints() == {"198.18.1.77"}, 60, "the endpoints of the API server and DNS")
    for name in ("kube-apiserver", "kube-apiserver-1"):  # either of the API server's processes may die
        before = host.components()[name]["pid"]
        os.kill(before, signal.SIGKILL)
        wait_for(
            lambda: host.kubectl("get", "nodes", "-o", "name", check=False) == "node/vm\n", 30, f"life after {name}"
        )
        wait_for(lambda: host.components()[name]["pid"] not in (0, before), 30, f"another {name}")  # noqa: B023


def test_a_folder_whose_sockets_would_have_too_long_paths_is_refused_at_once(host: Machine) -> None:
    folder = host.folder / ("d" * 95)
    refused = host.run(Path(sys.executable).parent / "tiphys", "up", "--data-dir", folder / "data", check=False)
    assert refused.returncode == 1
    assert "is longer than 104 bytes" in refused.stderr
    assert not folder.exists()
