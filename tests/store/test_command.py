"""``tiphys etcd`` as a process: its flags, TLS by files, and etcd's own client against it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.store import tiphys_etcd
from tests.store.etcds import HAVE_ETCD, free_ports
from tests.wire.certificates import Authority
from tiphys.runtime.flags import FlagError
from tiphys.store import command


@pytest.fixture
def certificates(tmp_path: Path) -> dict[str, Path]:
    authority = Authority()
    found = {"ca": authority.pem}
    found["server.crt"], found["server.key"] = authority.issue("localhost", server=True)
    found["client.crt"], found["client.key"] = authority.issue("someone")
    for name, data in found.items():
        (tmp_path / name).write_bytes(data)
    return {name: tmp_path / name for name in found}


@pytest.mark.etcd
@pytest.mark.skipif(not HAVE_ETCD, reason="etcdctl is not installed")
def test_tls_with_etcds_own_client(tmp_path: Path, certificates: dict[str, Path]) -> None:
    port, metrics = free_ports(2)
    process = tiphys_etcd.start(
        tmp_path / "data",
        port,
        f"--cert-file={certificates['server.crt']}",
        f"--key-file={certificates['server.key']}",
        f"--trusted-ca-file={certificates['ca']}",
        "--client-cert-auth",
        f"--listen-metrics-urls=http://127.0.0.1:{metrics}",
        "--snapshot-count=10000",
        scheme="https",
    )
    try:
        tiphys_etcd.wait_until_healthy(process, metrics)

        def etcdctl(*words: str, **more: str) -> subprocess.CompletedProcess[bytes]:
            environment = {"PATH": os.environ["PATH"], "ETCDCTL_API": "3", **more}
            where = f"--endpoints=https://127.0.0.1:{port}"
            ca = f"--cacert={certificates['ca']}"
            return subprocess.run(
                ["etcdctl", where, ca, "--command-timeout=3s", *words], capture_output=True, timeout=20, env=environment
            )

        files = (f"--cert={certificates['client.crt']}", f"--key={certificates['client.key']}")
        assert etcdctl("put", "a", "1", *files).stdout == b"OK\n"
        saved = etcdctl("snapshot", "save", str(tmp_path / "s.db"), *files)
        assert b"Snapshot saved" in saved.stdout
        by_environment = {
            "ETCDCTL_CERT": str(certificates["client.crt"]),
            "ETCDCTL_KEY": str(certificates["client.key"]),
        }
        assert etcdctl("get", "a", **by_environment).stdout == b"a\n1\n"
        assert etcdctl("get", "a").returncode != 0
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        assert process.stderr is not None
        process.stderr.close()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--wal-dir=/x"], "flag --wal-dir is not supported"),
        (["--auto-tls"], "--auto-tls is not supported"),
        (["--nonsense"], "unknown flag or argument: --nonsense"),
        (["--initial-cluster=a=http://1,b=http://2"], "must name this member"),
        (["--initial-cluster-state=existing"], "with the value 'new' only"),
        (["--cert-file=x"], "belong together"),
        (["--client-cert-auth"], "needs --trusted-ca-file"),
        (["--listen-client-urls=https://localhost:1"], "needs --cert-file"),
        (["--listen-client-urls=ftp://localhost:1"], "scheme must be"),
    ],
)
def test_what_cannot_be_done_is_refused(flags: list[str], message: str) -> None:
    with pytest.raises(FlagError, match=message):
        command.main(flags)


def test_flags_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ETCD_NAME", "n")
    monkeypatch.setenv("ETCD_QUOTA_BACKEND_BYTES", "77")
    options = command.parser().parse([*command.environment(), "--name=mine"])
    assert (options.name, options.quota_backend_bytes) == ("mine", 77)


def test_a_port_that_is_taken_is_said(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    with tiphys_etcd.tiphys_etcd(tmp_path / "one", port):
        other = tiphys_etcd.start(tmp_path / "two", port)
        assert other.wait(20) == 1
        assert other.stderr is not None
        assert b"tiphys etcd: " in other.stderr.read()
        other.stderr.close()


@pytest.mark.etcd
@pytest.mark.skipif(not HAVE_ETCD, reason="etcdctl is not installed")
def test_it_ends_soon_although_clients_watch(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    process = tiphys_etcd.start(tmp_path / "data", port)
    try:
        tiphys_etcd.wait_until_healthy(process, port)
        environment = {"PATH": os.environ["PATH"], "ETCDCTL_API": "3"}
        watcher = subprocess.Popen(
            ["etcdctl", f"--endpoints=127.0.0.1:{port}", "watch", "a"],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 10
        while b"mvcc_watcher_total 1.0" not in tiphys_etcd.page(port, "/metrics"):
            assert time.monotonic() < deadline
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        assert time.monotonic() - began < 5
        watcher.kill()
        watcher.wait(5)
    finally:
        process.kill()
        process.wait(5)
        assert process.stderr is not None
        process.stderr.close()
