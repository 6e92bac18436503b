"""Certificates of Secrets (pure): read, checked to be a pair, and written again, so that nothing else gets through.

Source: https://kubernetes.io/docs/concepts/configuration/secret/#tls-secrets
"""

from __future__ import annotations

import base64
import binascii

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from tiphys.addons.ingress.model import ServedCertificate, Unusable
from tiphys.api.object import Object

MOST_IN_CHAIN = 10


def certificate_of(secret: Object | None, name: str, hosts: tuple[str, ...]) -> ServedCertificate:
    """What a Secret of type kubernetes.io/tls holds. Raises ``Unusable``; no message has any of its bytes."""
    if secret is None:
        raise Unusable(f"secret {name} does not exist, or is not of type kubernetes.io/tls")
    data, meta = secret.get("data") or {}, secret["metadata"]
    try:
        chain = x509.load_pem_x509_certificates(base64.b64decode(data.get("tls.crt") or "", validate=True))
        key = load_pem_private_key(base64.b64decode(data.get("tls.key") or "", validate=True), None)
    except (ValueError, TypeError, binascii.Error, UnsupportedAlgorithm):
        raise Unusable(f"secret {name} does not hold a certificate in tls.crt and a key in tls.key") from None
    if len(chain) > MOST_IN_CHAIN:
        raise Unusable(f"secret {name} holds a chain of {len(chain)} certificates; {MOST_IN_CHAIN} at most")
    public = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if key.public_key().public_bytes(*public) != chain[0].public_key().public_bytes(*public):
        raise Unusable(f"secret {name}: the key is not that of the certificate")
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    pem += b"".join(certificate.public_bytes(Encoding.PEM) for certificate in chain)
    return ServedCertificate(f"{meta['namespace']}_{meta['name']}", pem, hosts)
