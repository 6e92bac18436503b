"""Discovery: how a machine that joins learns where the API server is, and that it is the right one.

By token: the public map ``cluster-info`` is signed with the token, and its authority has to be one of the pinned ones.
By file: a kubeconfig that somebody has carried here. Source:
https://kubernetes.io/docs/reference/setup-tools/kubeadm/kubeadm-join/#discovering-what-cluster-ca-to-trust
"""

from __future__ import annotations

import hashlib

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat


def pin_of(certificate: x509.Certificate) -> str:
    """The hash of an authority's public key, as RFC 7469 pins it: ``sha256:`` and hexadecimal digits."""
    public = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return f"sha256:{hashlib.sha256(public).hexdigest()}"
