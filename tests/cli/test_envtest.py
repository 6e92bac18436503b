"""`tiphys envtest`: what it makes is started as controller-runtime's envtest starts it."""

from __future__ import annotations

import ssl
import subprocess
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from tests.controlplane import free_port
from tiphys.cli import envtest
from tiphys.cli.main import main


def test_the_folder_is_made_as_often_as_it_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    assert main(["envtest", "--dir", str(tmp_path / "assets")]) == 0
    told = capsys.readouterr()
    assert told.out == f"{tmp_path / 'assets'}\n"
    assert "no kubectl" in told.err
    kubectl = tmp_path / "kubectl"
    kubectl.touch(0o755)
    for _ in range(2):
        envtest.make(tmp_path / "assets", str(kubectl))
        assert {path.name for path in (tmp_path / "assets").iterdir()} == {"etcd", "kube-apiserver", "kubectl"}
        assert (tmp_path / "assets" / "kubectl").resolve() == kubectl
    envtest.make(tmp_path / "assets", str(tmp_path / "assets" / "kubectl"))
    assert (tmp_path / "assets" / "kubectl").resolve() == kubectl


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit, match=r"--dir .*/file/assets: Not a directory; choose"):
        main(["envtest", "--dir", str(tmp_path / "file" / "assets")])


def test_envtests_flags_start_both(tmp_path: Path) -> None:
    envtest.make(tmp_path / "assets", None)
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "sa-signer.key").write_bytes(private)
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "sa-signer.crt").write_bytes(public)
    clients, peers, port = free_port(), free_port(), free_port()
    store = (
        f"--advertise-client-urls=http://127.0.0.1:{clients}",
        f"--data-dir={tmp_path / 'etcd'}",
        f"--listen-client-urls=http://127.0.0.1:{clients}",
        f"--listen-peer-urls=http://127.0.0.1:{peers}",
    )
    server = (
        *("--allow-privileged=true", "--authorization-mode=RBAC", "--bind-address=127.0.0.1"),
        *(f"--cert-dir={tmp_path}", "--disable-admission-plugins=ServiceAccount"),
        *(f"--etcd-servers=http://127.0.0.1:{clients}", f"--secure-port={port}"),
        f"--service-account-issuer=https://127.0.0.1:{port}/",
        f"--service-account-key-file={tmp_path / 'sa-signer.crt'}",
        *(f"--service-account-signing-key-file={tmp_path / 'sa-signer.key'}", "--service-cluster-ip-range=10.0.0.0/24"),
    )
    processes = []
    try:
        for name, flags, url in (
            ("etcd", store, f"http://127.0.0.1:{clients}/health"),
            ("kube-apiserver", server, f"https://127.0.0.1:{port}/readyz"),
        ):
            with (tmp_path / f"{name}.log").open("wb") as log:
                processes.append(subprocess.Popen([tmp_path / "assets" / name, *flags], stdout=log, stderr=log))
            _wait(lambda url=url: _answers(url), 90, (tmp_path / f"{name}.log"))  # type: ignore[misc]
    finally:
        for process in reversed(processes):
            process.terminate()
            process.wait(10)


def _answers(url: str) -> bool:
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    try:
        with urllib.request.urlopen(url, timeout=1, context=trusting) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _wait(condition: Callable[[], bool], seconds: float, log: Path) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)
