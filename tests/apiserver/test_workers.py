"""Several API server processes on one port and one store: what one wrote the other shows, and each may be killed."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.controlplane import free_port
from tiphys.apiserver.workers import merge_figures

PROGRAM = "import sys; from tiphys.cli.main import main; sys.exit(main(sys.argv[1:]))"
CONFIGMAPS = "/api/v1/namespaces/default/configmaps"
HEADERS = {"Authorization": "Bearer secret", "Content-Type": "application/json"}


def test_figures_of_all_are_shown_once_with_whose_they_are() -> None:
    first = (
        b'# HELP calls Calls.\n# TYPE calls counter\ncalls{code="200"} 3.0\n# HELP up Up.\n# TYPE up gauge\nup 1.0\n'
    )
    second = b'# HELP calls Calls.\n# TYPE calls counter\ncalls{code="500"} 1.0\n'
    assert merge_figures([first, b"", second]).decode().splitlines() == [
        "# HELP calls Calls.",
        "# TYPE calls counter",
        'calls{worker="0",code="200"} 3.0',
        'calls{worker="2",code="500"} 1.0',
        "# HELP up Up.",
        "# TYPE up gauge",
        'up{worker="0"} 1.0',
    ]


class Workers:
    def __init__(self, folder: Path, count: int, *more: str) -> None:
        self.port = free_port()
        self.log = folder / "log"
        (folder / "tokens.csv").write_text("secret,admin,admin,system:masters\n")
        self.flags = ("--data-dir=data", "--cert-dir=certs", "--token-auth-file=tokens.csv", "--bind-address=127.0.0.1",
                      "--advertise-address=192.0.2.1", "--authorization-mode=RBAC", f"--secure-port={self.port}",
                      f"--workers={count}", *more)  # fmt: skip
        self.folder = folder
        self.parent = self.command(*self.flags)

    def command(self, *flags: str) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            return subprocess.Popen([sys.executable, "-c", PROGRAM, "kube-apiserver", *flags], cwd=self.folder,
                                    stderr=log)  # fmt: skip

    def pids(self) -> list[int]:
        """The workers' process ids, in the order in which they were made."""
        pid = self.parent.pid
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def connection(self) -> http.client.HTTPSConnection:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return http.client.HTTPSConnection("127.0.0.1", self.port, context=context, timeout=10)

    def ask(self, method: str, path: str, body: Any = None, over: http.client.HTTPSConnection | None = None) -> Any:
        """What the server answers; raises ``OSError`` or ``HTTPException`` while no worker does."""
        connection = over or self.connection()
        try:
            connection.request(method, path, None if body is None else json.dumps(body), HEADERS)
            answer = connection.getresponse()
            text = answer.read()
            if answer.status >= 300:
                raise OSError(f"{answer.status}: {text!r}")
            return json.loads(text) if text.startswith(b"{") else text.decode()
        finally:
            if over is None:
                connection.close()

    def ask_on(self, path: str) -> None:
        """Ask again and again, for a minute; raises what ``ask`` raises."""
        until = time.monotonic() + 60
        while time.monotonic() < until:
            self.ask("GET", path)
            time.sleep(0.1)

    def until_answered(self, method: str, path: str, body: Any = None) -> Any:
        deadline = time.monotonic() + 30
        while True:
            try:
                return self.ask(method, path, body)
            except (OSError, http.client.HTTPException):
                assert time.monotonic() < deadline, self.log.read_text()
                time.sleep(0.05)

    def served_by(self) -> set[str]:
        """The workers whose figures are shown."""
        lines = self.until_answered("GET", "/metrics").splitlines()
        return {line.split('worker="')[1][0] for line in lines if line.startswith("process_start_time_seconds")}

    def until_all(self, count: int) -> None:
        deadline = time.monotonic() + 30
        while len(self.served_by()) < count:
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.1)


@contextlib.contextmanager
def started(folder: Path, count: int) -> Iterator[Workers]:
    made = Workers(folder, count)
    try:
        made.until_all(count)
        yield made
    finally:
        made.parent.terminate()
        assert made.parent.wait(30) == 0, made.log.read_text()


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    with started(tmp_path_factory.mktemp("workers"), 2) as made:
        yield made


def write(name: str) -> dict[str, Any]:
    return {"metadata": {"name": name}, "data": {"name": name}}


def test_what_one_wrote_the_other_shows_at_once(workers: Workers) -> None:
    connections = [workers.connection() for _ in range(8)]
    for number in range(40):
        workers.ask("POST", CONFIGMAPS, write(f"m-{number}"), over=connections[number % 8])
        for connection in connections:
            workers.ask("GET", f"{CONFIGMAPS}/m-{number}", over=connection)
            listed = workers.ask("GET", CONFIGMAPS, over=connection)["items"]
            assert sum(item["metadata"]["name"].startswith("m-") for item in listed) == number + 1
    figures = workers.ask("GET", "/metrics")
    for worker in "01":  # the kernel gave each some of the connections
        assert f'apiserver_request_total{{worker="{worker}",code="200",component="apiserver"' in figures
    for connection in connections:
        connection.close()


def test_any_worker_may_be_killed_and_no_acknowledged_write_is_lost(workers: Workers) -> None:
    written = []
    for round_ in range(4):
        os.kill(workers.pids()[round_ % 2], signal.SIGKILL)
        for number in range(10):
            name = f"k-{round_}-{number}"
            with contextlib.suppress(OSError, http.client.HTTPException):
                workers.ask("POST", CONFIGMAPS, write(name))
                written.append(name)
        workers.until_all(2)
        workers.until_answered("POST", CONFIGMAPS, write(f"after-{round_}"))
        written.append(f"after-{round_}")
    for _ in range(4):
        names = {item["metadata"]["name"] for item in workers.until_answered("GET", CONFIGMAPS)["items"]}
        assert set(written) <= names


def test_what_cannot_be_is_said_once(workers: Workers) -> None:
    for flags, sentence in (
        ((), f"127.0.0.1:{workers.port}: Address already in use"),
        (("--secure-port=0",), "--secure-port=0"),
        (("--workers=0",), "invalid positive number value: '0'"),
        (("--audit-policy-file=p", "--audit-log-path=a", "--audit-log-maxsize=5"), "several workers cannot rotate"),
        ((f"--secure-port={free_port()}",), "the data directory data is in use by process"),
        (
            ("--tls-cert-file=no", "--tls-private-key-file=no", "--data-dir=d", f"--secure-port={free_port()}"),
            "--tls-cert-file: cannot read no: No such file or directory",
        ),
    ):
        before = workers.log.read_text()
        assert workers.command(*workers.flags, *flags).wait(30) in (1, 2)
        said = workers.log.read_text().removeprefix(before)
        assert sentence in said
        assert "Traceback" not in said


def test_a_server_that_is_told_to_end_answers_for_its_delay(tmp_path: Path) -> None:
    server = Workers(tmp_path, 1, "--shutdown-delay-duration=1h")
    try:
        server.until_answered("GET", "/readyz")
        server.parent.send_signal(signal.SIGTERM)
        with pytest.raises(OSError, match="shutdown failed"):
            server.ask_on("/readyz")
        assert server.ask("GET", CONFIGMAPS)["kind"] == "ConfigMapList"
    finally:
        server.parent.kill()
        server.parent.wait(60)
