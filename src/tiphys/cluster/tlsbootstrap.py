"""A node's certificates by TLS bootstrap: with a token it asks for a client certificate, with that for a server's.

Each request is a CertificateSigningRequest; the controllers approve client certificates by RBAC and sign what is
approved. Serving certificates are approved by whoever knows that the node has the addresses it names: here
``approve_serving``, run by the administrator's command that has given the node its address. Source:
https://kubernetes.io/docs/reference/access-authn-authz/kubelet-tls-bootstrapping/
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ipaddress
import logging
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tiphys.api.object import Object
from tiphys.client.errors import ApiError, NotFound
from tiphys.client.kubeconfig import KubeconfigError, connected
from tiphys.client.resources import CERTIFICATE_SIGNING_REQUESTS, SECRETS
from tiphys.client.rest import Client
from tiphys.cluster import kubeconfig
from tiphys.cluster.pki import RENEW_BEFORE_DAYS
from tiphys.cluster.settings import Settings, write_private
from tiphys.kubelet.certificates.requests import (
    KUBELET_CLIENT,
    KUBELET_SERVING,
    ask,
    private_pem,
    request_for,
    signing_request,
)

log = logging.getLogger(__name__)

TOKEN_GROUP = "system:bootstrappers:kubeadm:default-node-token"
_TOKEN_LIFE = timedelta(minutes=15)
_ASK_AGAIN = 0.1
_ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789"


def new_token() -> str:
    """A bootstrap token: six characters that name it, and sixteen that are secret."""
    return ".".join("".join(secrets.choice(_ALPHABET) for _ in range(n)) for n in (6, 16))


async def create_token(client: Client, token: str, node: str, now: datetime | None = None) -> None:
    """Let ``token`` be believed for a while, for one node to get its certificate by."""
    name, _, secret = token.partition(".")
    expires = (now or datetime.now(UTC)) + _TOKEN_LIFE
    data = {
        "token-id": name,
        "token-secret": secret,
        "description": f"For node {node} to register by; made by `tiphys node add`.",
        "expiration": expires.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "usage-bootstrap-authentication": "true",
        "auth-extra-groups": TOKEN_GROUP,
    }
    await client.create(
        SECRETS,
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": f"bootstrap-token-{name}", "namespace": "kube-system"},
            "type": "bootstrap.kubernetes.io/token",
            "stringData": data,
        },
    )


async def delete_token(client: Client, token: str) -> None:
    with contextlib.suppress(NotFound):
        await client.delete(SECRETS, f"bootstrap-token-{token.partition('.')[0]}", "kube-system")


def needs_token(settings: Settings) -> bool:
    """Whether a node has no certificate by which it could ask for the next."""
    path = settings.kubeconfig("kubelet")
    return not path.exists() or _is_over(path)


async def ensure_client(settings: Settings) -> None:
    """Have a kubeconfig with a client certificate that is good for another month; asks for one until it is given."""
    path, user = settings.kubeconfig("kubelet"), f"system:node:{settings.node_name}"
    if path.exists():
        *_, certificate, _ = kubeconfig.credentials(kubeconfig.load(path))
        if _lasts(certificate):
            return
    asker = settings.kubeconfig("bootstrap-kubelet") if needs_token(settings) else path
    certificate, key = await _obtain(asker, user, (), KUBELET_CLIENT, "client auth")
    config = kubeconfig.make(settings.cluster_name, settings.server, settings.pki / "ca.crt", user, certificate, key)
    write_private(path, kubeconfig.dump(config))
    settings.kubeconfig("bootstrap-kubelet").unlink(missing_ok=True)


async def ensure_serving(settings: Settings) -> tuple[Path, Path]:
    """The node's serving certificate and its key, requested as the node if none exists that lasts."""
    certificate_file, key_file = settings.pki / "kubelet.crt", settings.pki / "kubelet.key"
    names = (settings.node_name, *settings.node_ips)
    if not (certificate_file.exists() and key_file.exists() and _lasts(certificate_file.read_bytes())):
        user = f"system:node:{settings.node_name}"
        asker = settings.kubeconfig("kubelet")
        certificate, key = await _obtain(asker, user, names, KUBELET_SERVING, "server auth")
        write_private(key_file, key)
        write_private(certificate_file, certificate)
    return certificate_file, key_file


async def approve_serving(client: Client, node: str, addresses: Sequence[str]) -> None:
    """Approve what ``node`` asks to serve with, if it names itself and its ``addresses`` and nothing else."""
    listed = await client.list(CERTIFICATE_SIGNING_REQUESTS, field_selector=f"spec.signerName={KUBELET_SERVING}")
    for request in listed["items"]:
        conditions = (request.get("status") or {}).get("conditions") or []
        if not conditions and is_own_serving(request, node, addresses):
            now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            approved = {
                "type": "Approved",
                "status": "True",
                "reason": "NodeAdded",
                "message": f"The node's name and address are those that {node} was added with.",
                "lastUpdateTime": now,
                "lastTransitionTime": now,
            }
            wanted = {**request, "status": {**(request.get("status") or {}), "conditions": [approved]}}
            await client.update(CERTIFICATE_SIGNING_REQUESTS, wanted, subresource="approval")


def is_own_serving(request: Object, node: str, addresses: Sequence[str]) -> bool:
    """Whether a request is the node's own, for its own name and addresses. Pure."""
    if request["spec"].get("username") != f"system:node:{node}":
        return False
    try:
        csr = x509.load_pem_x509_csr(base64.b64decode(request["spec"]["request"]))
        names = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, x509.ExtensionNotFound):
        return False
    allowed = {x509.DNSName(node), *(x509.IPAddress(ipaddress.ip_address(address)) for address in addresses)}
    common = csr.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return set(names) <= allowed and [str(name.value) for name in common] == [f"system:node:{node}"]


async def _obtain(asker: Path, user: str, names: tuple[str, ...], signer: str, usage: str) -> tuple[bytes, bytes]:
    """A certificate and its key, PEM. Asks until the API server answers; raises ``RequestDenied`` if it says no."""
    key = ec.generate_private_key(ec.SECP256R1())
    wanted = request_for(signing_request(user, names, key), signer, usage)
    while True:
        try:
            async with connected(asker, "kubelet") as client:
                return await ask(client, wanted), private_pem(key)
        except (ApiError, KubeconfigError, ConnectionError, TimeoutError) as error:
            # The token is handed out once the API server serves; before that there is no file.
            log.info("cannot ask for a certificate of %s yet: %s", user, error)
            await asyncio.sleep(_ASK_AGAIN)


def _lasts(certificate: bytes) -> bool:
    ends = x509.load_pem_x509_certificate(certificate).not_valid_after_utc
    return ends - datetime.now(UTC) > timedelta(days=RENEW_BEFORE_DAYS)


def _is_over(path: Path) -> bool:
    *_, certificate, _ = kubeconfig.credentials(kubeconfig.load(path))
    return x509.load_pem_x509_certificate(certificate).not_valid_after_utc <= datetime.now(UTC)
