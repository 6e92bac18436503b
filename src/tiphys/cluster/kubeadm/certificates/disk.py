"""Certificates and keys as files: reading, writing with kubeadm's modes, and whether what is there can be used.

A file that exists is never replaced; one that cannot be used is refused with the reason.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from tiphys.cluster.kubeadm.certificates.issue import Pair, PrivateKey, Wanted, key_pem, public_pem
from tiphys.cluster.kubeadm.failures import KubeadmError
from tiphys.cluster.kubeadm.layout import PRIVATE, PUBLIC, write_file
from tiphys.cluster.pki import names_of


class CertificateError(KubeadmError):
    """A certificate or key that is there and cannot be used; the message names the file and the remedy."""


def certificate_file(folder: Path, stem: str) -> Path:
    return folder / f"{stem}.crt"


def key_file(folder: Path, stem: str) -> Path:
    return folder / f"{stem}.key"


def read_certificate(path: Path) -> x509.Certificate:
    """The first certificate of a file. Raises ``CertificateError``."""
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except FileNotFoundError as error:
        raise CertificateError(f"{path} is missing") from error
    except (OSError, ValueError) as error:
        raise CertificateError(f"cannot load the certificate {path}: {error}; restore it, or move it away") from error


def read_key(path: Path) -> PrivateKey:
    """A private key, RSA or EC. Raises ``CertificateError``."""
    try:
        key = load_pem_private_key(path.read_bytes(), None)
    except FileNotFoundError as error:
        raise CertificateError(f"{path} is missing") from error
    except (OSError, ValueError, TypeError) as error:
        raise CertificateError(f"cannot load the key {path}: {error}; restore it, or move it away") from error
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        raise CertificateError(f"{path} is neither an RSA nor an elliptic-curve key")
    return key


def read_pair(folder: Path, stem: str) -> Pair:
    """A certificate and the key that belongs to it. Raises ``CertificateError``."""
    pair = Pair(read_certificate(certificate_file(folder, stem)), read_key(key_file(folder, stem)))
    if pair.certificate.public_key() != pair.key.public_key():
        raise CertificateError(
            f"{certificate_file(folder, stem)} does not belong to {key_file(folder, stem)}; restore both from one"
            " backup"
        )
    return pair


def read_authority(folder: Path, stem: str) -> Pair:
    """An authority that can sign. Raises ``CertificateError``."""
    pair = read_pair(folder, stem)
    check_authority(pair.certificate, stem)
    return pair


def check_authority(certificate: x509.Certificate, stem: str) -> None:
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    except x509.ExtensionNotFound:
        constraints = x509.BasicConstraints(ca=False, path_length=None)
    if not constraints.ca:
        raise CertificateError(f"{stem} certificate is not a certificate authority")


def check_signed(certificate: x509.Certificate, authority: x509.Certificate, stem: str, wanted: Wanted) -> None:
    """Raises ``CertificateError`` if a certificate has another signer, or lacks a name."""
    try:
        certificate.verify_directly_issued_by(authority)
    except (InvalidSignature, ValueError, TypeError) as error:
        raise CertificateError(
            f"certificate {stem} is not signed by corresponding CA; move {stem}.crt and {stem}.key away, and run the "
            "phase again to have them made"
        ) from error
    if missing := [name for name in wanted.names if name not in names_of(certificate)]:
        raise CertificateError(
            f"certificate {stem} is invalid: x509: certificate is valid for {', '.join(names_of(certificate))}, not "
            f"{missing[0]}; move {stem}.crt and {stem}.key away, and run the phase again to have them made"
        )


def ends_problem(certificate: x509.Certificate, stem: str, now: datetime) -> str:
    """A warning if a certificate is not valid now; empty if it is."""
    if certificate.not_valid_after_utc < now:
        return (
            f"WARNING: could not validate bounds for certificate {stem}: the certificate has expired:"
            f" {_span(certificate)}"
        )
    if certificate.not_valid_before_utc > now:
        return (
            f"WARNING: could not validate bounds for certificate {stem}: the certificate is not valid yet:"
            f" {_span(certificate)}"
        )
    return ""


def _span(certificate: x509.Certificate) -> str:
    return f"NotBefore: {certificate.not_valid_before_utc}, NotAfter: {certificate.not_valid_after_utc}"


def write_pair(folder: Path, stem: str, pair: Pair) -> None:
    write_file(key_file(folder, stem), pair.key_pem, PRIVATE)
    write_file(certificate_file(folder, stem), pair.certificate_pem, PUBLIC)


def write_signing_key(folder: Path, key: PrivateKey) -> None:
    """The key of service accounts' tokens, and its public half."""
    write_file(folder / "sa.key", key_pem(key), PRIVATE)
    write_file(folder / "sa.pub", public_pem(key), PRIVATE)


def is_external(folder: Path, stem: str) -> bool:
    """Whether an authority's certificate is here and its key is not: somebody else signs."""
    return certificate_file(folder, stem).exists() and not key_file(folder, stem).exists()
