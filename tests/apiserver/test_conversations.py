"""Recorded conversations with v1.36, replayed against `tiphys kube-apiserver` with the controllers that they need."""

from __future__ import annotations

import http.client
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.recorded.conversations import FILES, Replayer, cases

TOKEN = "admintoken"
CONTROLLERS = "serviceaccount-controller,serviceaccount-token-controller,namespace-controller,resourcequota-controller"
RACES_A_CONTROLLER = {"defaults/resourcequotas-15"}
"""The recording has no status yet; the quota controller may have written it. The case is given a second try."""

KUBECONFIG = """
apiVersion: v1
kind: Config
clusters: [{{name: c, cluster: {{server: "https://127.0.0.1:{port}", insecure-skip-tls-verify: true}}}}]
users: [{{name: u, user: {{token: {token}}}}}]
contexts: [{{name: c, context: {{cluster: c, user: u}}}}]
current-context: c
"""


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _start(folder: Path, name: str, *flags: str) -> subprocess.Popen[bytes]:
    program = "import sys; from tiphys.cli.main import main; sys.exit(main(sys.argv[1:]))"
    with (folder / f"{name}.log").open("wb") as log:
        return subprocess.Popen([sys.executable, "-c", program, name, *flags], cwd=folder, stderr=log)


def _wait_until_ready(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    tls = ssl.create_default_context()
    tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        connection = http.client.HTTPSConnection("127.0.0.1", port, context=tls, timeout=5)
        try:
            connection.request("GET", "/readyz")
            if connection.getresponse().status == 200:
                return
        except OSError:
            time.sleep(0.05)
        finally:
            connection.close()
    raise TimeoutError(log.read_text())


@pytest.fixture(scope="module")
def replayer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replayer]:
    folder = tmp_path_factory.mktemp("conversations")
    port = _free_port()
    key = ec.generate_private_key(ec.SECP256R1())
    (folder / "sa.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()))
    (folder / "tokens.csv").write_text(f'{TOKEN},admin,admin,"system:masters"\n')
    (folder / "kubeconfig").write_text(KUBECONFIG.format(port=port, token=TOKEN))
    processes = [
        _start(
            folder,
            "kube-apiserver",
            *("--data-dir=data", f"--secure-port={port}", "--bind-address=127.0.0.1", "--cert-dir=certificates"),
            *("--token-auth-file=tokens.csv", "--service-account-issuer=https://kubernetes.default.svc"),
            *("--service-account-signing-key-file=sa.key", "--service-account-key-file=sa.key"),
            *("--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction"),
            "--service-cluster-ip-range=10.96.0.0/16",
        )
    ]
    try:
        _wait_until_ready(processes[0], port, folder / "kube-apiserver.log")
        processes.append(
            _start(
                folder,
                "kube-controller-manager",
                *("--kubeconfig=kubeconfig", f"--controllers={CONTROLLERS}", "--leader-elect=false"),
                *("--service-account-private-key-file=sa.key", f"--secure-port={_free_port()}"),
            )
        )
        yield Replayer("127.0.0.1", port, TOKEN)
    finally:
        for process in reversed(processes):
            process.terminate()
            process.wait()


@pytest.mark.parametrize("case", [pytest.param(case, id=case["name"]) for file in FILES for case in cases(file)])
def test_answers_are_those_of_v1_36(replayer: Replayer, case: dict[str, Any]) -> None:
    differences = replayer.differences(case)
    if differences and case["name"] in RACES_A_CONTROLLER:
        differences = replayer.differences(case)
    assert differences == []
