"""A control plane of real processes over sockets: API server, controller manager and scheduler, each with its port."""

from __future__ import annotations

import http.client
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.wire.certificates import Authority

TOKENS = {
    "admin": '"system:masters"',
    "system:kube-controller-manager": "",
    "system:kube-scheduler": "",
    "watcher": '"system:monitoring"',
    "nobody": "",
}
COMPONENTS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler")
"""In the order in which they start."""
_KUBECONFIG = """
apiVersion: v1
kind: Config
clusters: [{{name: c, cluster: {{server: "https://127.0.0.1:{port}", insecure-skip-tls-verify: true}}}}]
users: [{{name: u, user: {{token: "token-{user}"}}}}]
contexts: [{{name: c, context: {{cluster: c, user: u}}}}]
current-context: c
"""


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    text: str


@dataclass(frozen=True)
class ControlPlane:
    folder: Path
    ports: dict[str, int]
    clients: Authority

    def get(
        self, component: str, path: str, *, user: str = "", accept: str = "*/*", authority: Authority | None = None
    ) -> Answer:
        """What a component's port answers to a user by token, or to one whose certificate ``authority`` signs."""
        tls = ssl.create_default_context()
        tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
        headers = {"Accept": accept}
        if authority is not None:
            pem = self.folder / "caller.pem"
            pem.write_bytes(b"".join(authority.issue(user)))
            tls.load_cert_chain(pem)
        elif user:
            headers["Authorization"] = f"Bearer token-{user}"
        connection = http.client.HTTPSConnection("127.0.0.1", self.ports[component], context=tls, timeout=30)
        try:
            connection.request("GET", path, headers=headers)
            response = connection.getresponse()
            return Answer(response.status, dict(response.headers), response.read().decode())
        finally:
            connection.close()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def _start(folder: Path, name: str, *flags: str) -> subprocess.Popen[bytes]:
    program = "import sys; from tiphys.cli.main import main; sys.exit(main(sys.argv[1:]))"
    with (folder / f"{name}.log").open("wb") as log:
        return subprocess.Popen([sys.executable, "-c", program, name, *flags], cwd=folder, stderr=log)


def _wait_until_ready(plane: ControlPlane, component: str, process: subprocess.Popen[bytes]) -> None:
    log = plane.folder / f"{component}.log"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        try:
            if plane.get(component, "/readyz").status == 200:
                return
        except OSError:
            pass
        time.sleep(0.05)
    raise TimeoutError(log.read_text())


@contextmanager
def control_plane(
    folder: Path, components: Sequence[str] = COMPONENTS, more: Mapping[str, Sequence[str]] | None = None
) -> Iterator[ControlPlane]:
    """Tokens are ``token-USER`` of ``TOKENS``; client certificates are those of ``clients``. ``more``: further flags,
    by component."""
    plane = ControlPlane(folder, {name: free_port() for name in components}, Authority("clients"))
    key = ec.generate_private_key(ec.SECP256R1())
    (folder / "sa.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()))
    (folder / "tokens.csv").write_text("".join(f"token-{u},{u},{u},{g}\n" for u, g in TOKENS.items()))
    (folder / "clients.crt").write_bytes(plane.clients.pem)
    for user in TOKENS:
        text = _KUBECONFIG.format(port=plane.ports["kube-apiserver"], user=user)
        (folder / f"{user}.kubeconfig").write_text(text)
    commands = {
        "kube-apiserver": (
            *(
                "--data-dir=data",
                "--bind-address=127.0.0.1",
                "--advertise-address=192.0.2.1",
                "--cert-dir=certificates",
            ),
            *("--token-auth-file=tokens.csv", "--client-ca-file=clients.crt", "--authorization-mode=Node,RBAC"),
            *("--service-account-signing-key-file=sa.key", "--service-cluster-ip-range=10.96.0.0/16"),
            "--allow-privileged",
        ),
        "kube-controller-manager": _delegating("system:kube-controller-manager"),
        "kube-scheduler": _delegating("system:kube-scheduler"),
    }
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for name in components:
            flags = (f"--secure-port={plane.ports[name]}", *commands[name], *(more or {}).get(name, ()))
            processes.append(_start(folder, name, *flags))
            _wait_until_ready(plane, name, processes[-1])
        yield plane
    finally:
        for process in reversed(processes):
            process.terminate()
            process.wait()


def _delegating(user: str) -> tuple[str, ...]:
    names = ("kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig")
    return tuple(f"--{name}={user}.kubeconfig" for name in names)
