"""Certificates and keys, made on the spot: kubeadm's files and names, with elliptic-curve keys.

Source: https://kubernetes.io/docs/setup/best-practices/certificates/. Each certificate is replaced if it is
missing, does not match its key or its authority, lacks an address, has not started, or ends within 30 days.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tiphys.addons.hosted import SERVED_NAMES
from tiphys.cluster.settings import Settings, write_private

AUTHORITY_DAYS = 3650
CERTIFICATE_DAYS = 365
RENEW_BEFORE_DAYS = 30


Usages = tuple[x509.ObjectIdentifier, ...]
SERVER: Usages = (ExtendedKeyUsageOID.SERVER_AUTH,)
CLIENT: Usages = (ExtendedKeyUsageOID.CLIENT_AUTH,)


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate authority: who signs."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    def issue(
        self, common_name: str, organizations: Sequence[str], names: Sequence[str], *, usages: Usages, now: datetime
    ) -> tuple[bytes, bytes]:
        """A certificate and its key in PEM. ``names`` are DNS names and IP addresses of a server."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = (
            _builder(subject_name(common_name, organizations), self.certificate.subject, key, now, CERTIFICATE_DAYS)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(digital_signature=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(general_names(names)), critical=False)
        return builder.sign(self.key, hashes.SHA256()).public_bytes(Encoding.PEM), private_pem(key)


def make_authority(common_name: str, now: datetime) -> Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    name = subject_name(common_name, ())
    certificate = (
        _builder(name, name, key, now, AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(_usage(digital_signature=True, key_cert_sign=True, crl_sign=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Authority(certificate, key)


def private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def ensure_authority(folder: Path, stem: str, common_name: str, now: datetime | None = None) -> Authority:
    """The authority in ``stem.crt`` and ``stem.key``, made if none exists. One that exists is never replaced."""
    now = now or datetime.now(UTC)
    certificate, key = folder / f"{stem}.crt", folder / f"{stem}.key"
    if not (certificate.exists() and key.exists()):
        made = make_authority(common_name, now)
        write_private(key, private_pem(made.key))
        write_private(certificate, made.certificate.public_bytes(Encoding.PEM))
    loaded = load_pem_private_key(key.read_bytes(), None)
    if not isinstance(loaded, ec.EllipticCurvePrivateKey):
        raise ValueError(f"{key} is not an elliptic-curve key; Tiphys signs with those only")
    return Authority(x509.load_pem_x509_certificate(certificate.read_bytes()), loaded)


def ensure_certificate(
    authority: Authority,
    folder: Path,
    stem: str,
    common_name: str,
    organizations: Sequence[str] = (),
    names: Sequence[str] = (),
    *,
    usages: Usages,
    now: datetime,
) -> bool:
    """Make ``stem.crt`` and ``stem.key`` if they are not good; returns whether they were made."""
    certificate, key = folder / f"{stem}.crt", folder / f"{stem}.key"
    if _good(certificate, key, authority, names, usages, now):
        return False
    certificate_pem, key_pem = authority.issue(common_name, organizations, names, usages=usages, now=now)
    write_private(key, key_pem)
    write_private(certificate, certificate_pem)
    return True


def ensure_pki(settings: Settings, now: datetime | None = None) -> None:
    """Everything under ``pki/``: three authorities, the servers' and clients' certificates, the token-signing key."""
    now = now or datetime.now(UTC)
    folder = settings.pki
    authority = ensure_authority(folder, "ca", "kubernetes", now)
    front = ensure_authority(folder, "front-proxy-ca", "front-proxy-ca", now)
    etcd = ensure_authority(folder, "etcd/ca", "etcd-ca", now)
    local = ["localhost", "127.0.0.1", "::1", settings.node_name, *settings.node_ips]
    services = ["kubernetes", "kubernetes.default", "kubernetes.default.svc"]
    api_names = [*local, *services, f"kubernetes.default.svc.{settings.cluster_domain}", settings.kubernetes_ip]
    ensure_certificate(authority, folder, "apiserver", "kube-apiserver", (), api_names, usages=SERVER, now=now)
    ensure_certificate(
        authority,
        folder,
        "apiserver-kubelet-client",
        "kube-apiserver-kubelet-client",
        ("kubeadm:cluster-admins",),
        usages=CLIENT,
        now=now,
    )
    ensure_certificate(front, folder, "front-proxy-client", "front-proxy-client", usages=CLIENT, now=now)
    ensure_certificate(authority, folder, "kubelet", settings.node_name, (), local, usages=SERVER, now=now)
    loopback = ["localhost", "127.0.0.1", "::1"]
    ensure_certificate(authority, folder, "loopback", "kube-components", (), loopback, usages=SERVER, now=now)
    metrics = [*SERVED_NAMES, settings.node_ip]
    ensure_certificate(authority, folder, "metrics-server", "metrics-server", (), metrics, usages=SERVER, now=now)
    # Runbooks call etcdctl with the server's own certificate, which kubeadm makes for both.
    ensure_certificate(etcd, folder, "etcd/server", settings.node_name, (), local, usages=SERVER + CLIENT, now=now)
    ensure_certificate(etcd, folder, "apiserver-etcd-client", "kube-apiserver-etcd-client", usages=CLIENT, now=now)
    ensure_certificate(etcd, folder, "etcd/healthcheck-client", "kube-etcd-healthcheck-client", usages=CLIENT, now=now)
    _ensure_signing_key(folder)


def _ensure_signing_key(folder: Path) -> None:
    """The key pair that signs service-account tokens."""
    if not (folder / "sa.key").exists():
        write_private(folder / "sa.key", private_pem(ec.generate_private_key(ec.SECP256R1())))
    key = load_pem_private_key((folder / "sa.key").read_bytes(), None)
    if not (folder / "sa.pub").exists():
        public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        write_private(folder / "sa.pub", public)


def _good(
    certificate: Path, key: Path, authority: Authority, names: Sequence[str], usages: Usages, now: datetime
) -> bool:
    try:
        cert = x509.load_pem_x509_certificate(certificate.read_bytes())
        private = load_pem_private_key(key.read_bytes(), None)
        cert.verify_directly_issued_by(authority.certificate)
    except (OSError, ValueError, TypeError, InvalidSignature):
        return False
    if cert.public_key() != private.public_key():
        return False
    if cert.not_valid_before_utc > now or cert.not_valid_after_utc - now < timedelta(days=RENEW_BEFORE_DAYS):
        return False
    return set(names) <= set(names_of(cert)) and set(usages) <= _usages_of(cert)


def _usages_of(certificate: x509.Certificate) -> set[x509.ObjectIdentifier]:
    try:
        return set(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    except x509.ExtensionNotFound:
        return set()


def names_of(certificate: x509.Certificate) -> list[str]:
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    addresses = [str(address) for address in extension.get_values_for_type(x509.IPAddress)]
    return [*extension.get_values_for_type(x509.DNSName), *addresses]


def general_names(names: Sequence[str]) -> list[x509.GeneralName]:
    made: list[x509.GeneralName] = []
    for name in dict.fromkeys(names):
        try:
            made.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            made.append(x509.DNSName(name))
    return made


def subject_name(common_name: str, organizations: Sequence[str]) -> x509.Name:
    attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, o) for o in organizations]
    return x509.Name([*attributes, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime, days: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=days))
    )


def _usage(*, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )
