"""A machine of one's own on this machine: a network namespace with its addresses, interfaces, ports and packet rules.

A real cluster in it (`tiphys up`, real containers) stands beside any other and is gone with it. For the end-to-end
tests and the benchmarks; needs root and iproute2.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

NODE_IP = "198.18.0.10"


@dataclass
class Machine:
    """One network namespace, with one cluster in it, and the clients of the cluster's user."""

    namespace: str
    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    def run(
        self, *argv: str | Path, check: bool = True, timeout: float = 120, stdin: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a program on the cluster's machine: in its network namespace."""
        done = subprocess.run(
            self.argv(*argv),
            env=self.environment,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if check and done.returncode != 0:
            raise AssertionError(f"{' '.join(map(str, argv))} gave {done.returncode}:\n{done.stdout}\n{done.stderr}")
        return done

    def argv(self, *argv: str | Path) -> list[str]:
        return ["nsenter", f"--net=/run/netns/{self.namespace}", *map(str, argv)]

    def start(self, *argv: str | Path, output: Path | None = None) -> subprocess.Popen[bytes]:
        """Start a program there, with what it says in ``output``; the caller ends it."""
        with (output or Path(os.devnull)).open("ab") as file:
            return subprocess.Popen(self.argv(*argv), env=self.environment, stdout=file, stderr=file)

    @property
    def tiphys_program(self) -> Path:
        return Path(sys.executable).parent / "tiphys"

    def tool(self, *words: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
        """A command of Tiphys's that takes no ``--data-dir`` of the cluster's."""
        return self.run(self.tiphys_program, *words, **options)

    def tiphys(self, command: str, *words: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
        return self.tool(command, "--data-dir", self.folder / "data", *words, **options)

    def start_tiphys(self, command: str, *words: str) -> subprocess.Popen[bytes]:
        return self.start(self.tiphys_program, command, "--data-dir", self.folder / "data", *words)

    def kubectl(self, *words: str, **options: Any) -> str:
        return self.run("kubectl", *words, **options).stdout

    def get(self, *words: str) -> Any:
        return json.loads(self.kubectl("get", *words, "-o", "json"))

    def curl(self, url: str, *words: str) -> str:
        return self.run("curl", "-fsS", "--max-time", "5", *words, url).stdout

    def components(self) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = self.status()["components"]
        return found

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.tiphys("status", "-o", "json", check=False).stdout)
        return found

    def apply(self, manifest: str) -> str:
        return self.kubectl("apply", "-f", "-", stdin=manifest)


def wait_for(condition: Callable[[], Any], seconds: float = 60, what: str = "the condition") -> Any:
    """Poll until ``condition()`` gives something true; returns that."""
    deadline = time.monotonic() + seconds
    while True:
        if found := condition():
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come true within {seconds} s")
        time.sleep(0.1)


def _make_namespace(name: str) -> None:
    """A network namespace with loopback and one address, as a machine without internet."""
    in_it = ["ip", "-n", name]
    for command in (
        ["ip", "netns", "add", name],
        [*in_it, "link", "set", "lo", "up"],
        [*in_it, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0-peer"],
        [*in_it, "link", "set", "eth0-peer", "up"],
        [*in_it, "address", "add", f"{NODE_IP}/24", "dev", "eth0"],
        [*in_it, "link", "set", "eth0", "up"],
        [*in_it, "route", "add", "default", "dev", "eth0"],
    ):
        subprocess.run(command, check=True, capture_output=True)


@contextmanager
def machine(prefix: str = "tiphys") -> Iterator[Machine]:
    """A machine that never saw the project; what a cluster left on it is removed at the end."""
    name = f"{prefix}-{os.getpid()}"
    folder = Path(tempfile.mkdtemp(prefix=f"{prefix}-"))
    environment = {**os.environ, "HOME": str(folder / "home"), "KUBECONFIG": str(folder / "kubeconfig")}
    made = Machine(name, folder, environment)
    try:
        _make_namespace(name)
        yield made
    finally:
        if (folder / "data" / "cluster.json").exists():
            made.tiphys("reset", "--yes", check=False, timeout=180)
        subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)
        shutil.rmtree(folder, ignore_errors=True)
