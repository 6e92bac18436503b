"""A certificate that a server signs itself, if it is given none: upstream's ``--cert-dir``.

It is for trying things out: clients cannot check it but by its bytes. A pair that is there is used as it is, however
soon it ends: whoever put it there (envtest, a script) has clients that trust that very certificate.

Source: https://kubernetes.io/docs/reference/command-line-tools-reference/kube-apiserver/
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_DAYS = 365


def ensure_certificate(folder: Path, names: Sequence[str], stem: str = "apiserver") -> tuple[Path, Path]:
    """``<stem>.crt`` and ``<stem>.key`` in ``folder``, for DNS names and IP addresses.

    Raises OSError, and ValueError if only one of the two is there.
    """
    certificate, key = folder / f"{stem}.crt", folder / f"{stem}.key"
    missing = [path for path in (certificate, key) if not path.exists()]
    if len(missing) == 1:
        raise ValueError(f"error reading {missing[0]}, certificate and key must be supplied as a pair")
    if missing:
        folder.mkdir(parents=True, exist_ok=True)
        made, private = make_certificate(names)
        _write(key, private, 0o600)
        _write(certificate, made, 0o644)
    return certificate, key


def _write(path: Path, data: bytes, mode: int) -> None:
    """Whole or not at all: a file that a crash cut short would be taken for one that was given."""
    beside = path.with_name(f"{path.name}.new")
    beside.unlink(missing_ok=True)
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(data)
    beside.replace(path)


def make_certificate(names: Sequence[str]) -> tuple[bytes, bytes]:
    """A certificate for DNS names and IP addresses, and its key, PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=_DAYS))
        .add_extension(x509.SubjectAlternativeName([_general(name) for name in names]), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return certificate.public_bytes(Encoding.PEM), pem


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
