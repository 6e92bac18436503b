"""Whether a certificate and a private key go together."""

from __future__ import annotations

import re


def _pem_types(data: bytes) -> list[str]:
    return [kind.decode() for kind in re.findall(rb"-----BEGIN ([A-Z0-9 ]+)-----", data)]


def key_pair_problem(certificate: bytes, key: bytes) -> str:
    """Why the two do not go together, as a TLS server would say it."""
    kinds = _pem_types(certificate)
    if not kinds:
        return "tls: failed to find any PEM data in certificate input"
    if "CERTIFICATE" not in kinds:
        if len(kinds) == 1 and kinds[0].endswith("PRIVATE KEY"):
            return (
                "tls: failed to find certificate PEM data in certificate input, but did find a private key; "
                "PEM inputs may have been switched"
            )
        skipped = "after skipping PEM blocks of the following types"
        return f'tls: failed to find "CERTIFICATE" PEM block in certificate input {skipped}: [{" ".join(kinds)}]'
    kinds = _pem_types(key)
    if not kinds:
        return "tls: failed to find any PEM data in key input"
    if not any(kind == "PRIVATE KEY" or kind.endswith(" PRIVATE KEY") for kind in kinds):
        if kinds == ["CERTIFICATE"]:
            return "tls: found a certificate rather than a key in the PEM for the private key"
        skipped = "in key input after skipping PEM blocks of the following types"
        return f'tls: failed to find PEM block with type ending in "PRIVATE KEY" {skipped}: [{" ".join(kinds)}]'
    return _mismatch(certificate, key)


def _mismatch(certificate: bytes, key: bytes) -> str:
    from cryptography import x509  # a tenth of an API server's start, and most never see a TLS secret
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        public = x509.load_pem_x509_certificate(certificate).public_key()
    except (ValueError, UnsupportedAlgorithm):
        return "x509: malformed certificate"
    try:
        private = load_pem_private_key(key, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return "tls: failed to parse private key"
    mine = private.public_key()
    if type(mine) is not type(public):
        return "tls: private key type does not match public key type"
    return "" if mine == public else "tls: private key does not match public key"
