"""A node's CertificateSigningRequests: what they say, and waiting until they are signed.

Source: https://kubernetes.io/docs/reference/access-authn-authz/certificate-signing-requests/#kubernetes-signers
"""

from __future__ import annotations

import asyncio
import base64
import ipaddress

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from tiphys.api.object import Object
from tiphys.client.resources import CERTIFICATE_SIGNING_REQUESTS
from tiphys.client.rest import Client

KUBELET_CLIENT = "kubernetes.io/kube-apiserver-client-kubelet"
KUBELET_SERVING = "kubernetes.io/kubelet-serving"
_FIRST_LOOK, _LATER_LOOKS, _SLOWER = 0.05, 5.0, 1.5
_PATIENCE = 900.0
"""Seconds until a request that nobody has decided on is given up, and another is sent."""


class RequestDenied(Exception):
    """The request was denied, or its signer failed; the message is the condition's."""


def private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def signing_request(user: str, names: tuple[str, ...], key: ec.EllipticCurvePrivateKey) -> bytes:
    """The X.509 request of a node, PEM. ``names`` are the DNS name and the addresses that it serves under."""
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "system:nodes"),
            x509.NameAttribute(NameOID.COMMON_NAME, user),
        ]
    )
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    if names:
        name, *addresses = names
        alternatives = [x509.DNSName(name), *(x509.IPAddress(ipaddress.ip_address(address)) for address in addresses)]
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


def request_for(csr: bytes, signer: str, usage: str) -> Object:
    return {
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "CertificateSigningRequest",
        "metadata": {"generateName": "node-csr-" if signer == KUBELET_CLIENT else "csr-"},
        "spec": {
            "request": base64.b64encode(csr).decode(),
            "signerName": signer,
            "usages": ["digital signature", usage],
        },
    }


async def ask(client: Client, wanted: Object) -> bytes:
    """Send a request, and return the certificate, PEM, once it is there: a person may have to approve it.

    Raises ``RequestDenied``, and ``TimeoutError`` after a quarter of an hour.
    """
    made = await client.create(CERTIFICATE_SIGNING_REQUESTS, wanted)
    loop = asyncio.get_running_loop()
    pause, deadline = _FIRST_LOOK, loop.time() + _PATIENCE
    while True:
        seen = await client.get(CERTIFICATE_SIGNING_REQUESTS, made["metadata"]["name"])
        status = seen.get("status") or {}
        if certificate := status.get("certificate"):
            return base64.b64decode(certificate)
        for condition in status.get("conditions") or []:
            if condition["type"] in ("Denied", "Failed"):
                raise RequestDenied(f"{condition['type']}: {condition.get('message', '')}")
        if loop.time() > deadline:
            raise TimeoutError(
                f"nobody approved {made['metadata']['name']}; see `kubectl get csr`, and `kubectl certificate approve`"
            )
        await asyncio.sleep(pause)
        pause = min(pause * _SLOWER, _LATER_LOOKS)
