"""A certificate that a server signs itself, if it is given none: upstream's ``--cert-dir``.

It is for trying things out: clients cannot check it but by its bytes. A pair that is there is used as it is, however
soon it ends: whoever put it there (envtest, a script) has clients that trust that very certificate.

Source: https://kubernetes.io/docs/reference/command-line-tools-reference/kube-apiserver/
"""

from __future__ import annotations

import fcntl
import ipaddress
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
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

    Processes that start at the same moment with one folder get one pair. Raises OSError, and ValueError if only one of
    the two is there.
    """
    certificate, key = folder / f"{stem}.crt", folder / f"{stem}.key"
    if not (key.exists() and certificate.exists()):
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(folder):
            _complete(certificate, key, names)
    return certificate, key


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """While no other process is in here with this folder. File systems over a network lock no folders."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _complete(certificate: Path, key: Path, names: Sequence[str]) -> None:
    """Make what is missing. Who sees both files sees a pair: the certificate takes its name last."""
    new_certificate, new_key = _beside(certificate), _beside(key)
    if key.exists() and new_certificate.exists() and not new_key.exists():
        new_certificate.replace(certificate)  # who made the pair was killed between its two names
    missing = [path for path in (certificate, key) if not path.exists()]
    if len(missing) == 1:
        raise ValueError(f"error reading {missing[0]}, certificate and key must be supplied as a pair")
    if missing:
        made, private = make_certificate(names)
        _write(new_certificate, made, 0o644)
        _write(new_key, private, 0o600)
        new_key.replace(key)
        new_certificate.replace(certificate)


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.name}.new")


def _write(path: Path, data: bytes, mode: int) -> None:
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(data)


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
