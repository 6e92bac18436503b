"""Certificates for names, as the flag ``--tls-sni-cert-key`` gives them.

Source: https://kubernetes.io/docs/reference/command-line-tools-reference/kube-apiserver/
"""

from __future__ import annotations

from pathlib import Path

from tiphys.wire.tls.contexts import KeyPair


def sni_pair(text: str) -> KeyPair:
    """``CERT,KEY`` or ``CERT,KEY:NAME,NAME``; without names, those in the certificate. Raises OSError, ValueError."""
    files, _, names = text.partition(":")
    certificate, comma, key = files.partition(",")
    if not (certificate and comma and key):
        raise ValueError(f"--tls-sni-cert-key {text!r} is not of the form CERT,KEY or CERT,KEY:NAME,…")
    wanted = tuple(name.strip() for name in names.split(",") if name.strip())
    return KeyPair(Path(certificate), Path(key), wanted or _names(Path(certificate)))


def _names(path: Path) -> tuple[str, ...]:
    from cryptography import x509

    certificate = x509.load_pem_x509_certificate(path.read_bytes())
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return tuple(names.get_values_for_type(x509.DNSName))
