"""A whole cluster of an ordinary user: namespaces, pods, a service, from the machine and from inside, and its end."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.machine import wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
PROGRAMS = ("rootlesskit", "slirp4netns", "newuidmap", "kubectl")
PYTHON = Path("/usr/bin/python3")
SOURCE = Path(__file__).parent.parent.parent / "src"
TUN = Path("/dev/net/tun")


class User:
    """A user of the machine, who runs what is installed here by the system's own Python."""

    def __init__(self, name: str) -> None:
        self.name = name

    def run(self, script: str, timeout: float = 400, *, check: bool = True) -> str:
        libraries = f"{SOURCE}:{sysconfig.get_path('purelib')}"
        ours = f'tiphys() {{ {PYTHON} -m tiphys.cli.main "$@"; }}'
        lines = f"unset KUBECONFIG; export PYTHONPATH={libraries}; {ours}\n{script}"
        done = subprocess.run(
            ["su", "-", self.name, "-c", lines], capture_output=True, text=True, timeout=timeout, check=False
        )
        assert done.returncode == 0 or not check, f"{script}: {done.stdout}\n{done.stderr}"
        return done.stdout

    def processes(self) -> list[str]:
        done = subprocess.run(["ps", "-u", self.name, "-o", "stat=,args="], capture_output=True, text=True, check=False)
        return [line for line in done.stdout.splitlines() if not line.startswith("Z")]


@pytest.fixture
def user() -> Iterator[User]:
    if os.geteuid() != 0 or not PYTHON.exists() or not all(map(shutil.which, PROGRAMS)):
        pytest.skip(f"needs root, to make a user, Debian's Python, and {', '.join(PROGRAMS)}")
    name = f"tiphys-{os.getpid()}"
    mode = stat.S_IMODE(TUN.stat().st_mode)
    subprocess.run(["useradd", "--create-home", "--shell", "/bin/bash", name], check=True)
    ids = ["--add-subuids", "700000-765535", "--add-subgids", "700000-765535"]
    subprocess.run(["usermod", *ids, name], check=True)
    TUN.chmod(0o666)  # as udev has it
    made = User(name)
    try:
        yield made
    finally:
        made.run("tiphys reset --yes", check=False)
        TUN.chmod(mode)
        subprocess.run(["userdel", "--remove", name], check=False, capture_output=True)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def test_an_ordinary_user_has_a_cluster(user: User) -> None:
    up = f"tiphys up -q --port {free_port()}"
    user.run(up, check=False)  # which waits two minutes itself: too little on a busy machine
    wait_for(lambda: "Ready" in user.run("kubectl get nodes --no-headers", check=False).split(), 300, "the node")
    assert "Ready" in user.run("kubectl get nodes --no-headers")  # by a port of the machine's
    user.run("tiphys demo")
    page = "busybox wget -qO- http://web.tiphys-demo/"
    assert "<title>Tiphys</title>" in user.run(f"kubectl -n tiphys-demo exec deploy/web -- {page}")
    whose = user.run("kubectl -n tiphys-demo exec deploy/web -- cat /proc/self/uid_map").split()
    assert whose[:2] == ["0", user.run("id -u").strip()]
    assert "running" in user.run("tiphys status")
    user.run("tiphys down")
    assert user.processes() == []
    user.run(up, check=False)
    wait_for(lambda: user.run("kubectl -n tiphys-demo get pods --no-headers").count("Running") == 3, 120, "the pods")
    user.run("tiphys reset --yes")
    wait_for(lambda: user.processes() == [], 20, "the end of all processes")
    assert user.run("ls -A .local/share/tiphys 2>/dev/null || true") == ""
