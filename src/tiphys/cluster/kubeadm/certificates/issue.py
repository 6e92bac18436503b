"""Making keys and certificates of kubeadm's shape: names, usages and extensions, RSA or elliptic curves.

Source: RFC 5280, and https://kubernetes.io/docs/setup/best-practices/certificates/
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from tiphys.cluster.pki import Usages, general_names, subject_name

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey

BACKDATE = timedelta(minutes=5)
"""Certificates begin so long ago, for nodes whose clocks are late."""
_CURVES: dict[str, ec.EllipticCurve] = {"ECDSA-P256": ec.SECP256R1(), "ECDSA-P384": ec.SECP384R1()}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a certificate is to say."""

    common_name: str
    organizations: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    """DNS names first and then addresses, in the order in which they are shown."""
    usages: Usages = ()


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate with its key."""

    certificate: x509.Certificate
    key: PrivateKey

    @property
    def certificate_pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        return key_pem(self.key)


def new_key(algorithm: str) -> PrivateKey:
    """A key of an ``encryptionAlgorithm``: RSA-2048, ECDSA-P256 and their like."""
    if curve := _CURVES.get(algorithm):
        return ec.generate_private_key(curve)
    return rsa.generate_private_key(65537, int(algorithm.rpartition("-")[2]))


def key_pem(key: PrivateKey) -> bytes:
    """In the form that names the kind of key, as upstream writes them."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())


def public_pem(key: PrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def make_authority(common_name: str, algorithm: str, now: datetime, valid: timedelta) -> Pair:
    key = new_key(algorithm)
    name = subject_name(common_name, ())
    builder = (
        _builder(name, name, key, now, valid)
        .add_extension(_key_usage(signs=True), critical=True)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.SubjectAlternativeName(general_names((common_name,))), critical=False)
    )
    return Pair(builder.sign(key, hashes.SHA256()), key)


def issue(authority: Pair, wanted: Wanted, algorithm: str, now: datetime, valid: timedelta) -> Pair:
    """A certificate for a new key. Its end is not after the authority's."""
    return certify(authority, wanted, new_key(algorithm), now, valid)


def certify(authority: Pair, wanted: Wanted, key: PrivateKey, now: datetime, valid: timedelta) -> Pair:
    """A certificate for a key that exists."""
    subject = subject_name(wanted.common_name, wanted.organizations)
    left = authority.certificate.not_valid_after_utc - now
    builder = (
        _builder(subject, authority.certificate.subject, key, now, min(valid, left))
        .add_extension(_key_usage(signs=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(wanted.usages), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_authority_identifier(authority.certificate), critical=False)
    )
    if wanted.names:
        builder = builder.add_extension(x509.SubjectAlternativeName(general_names(wanted.names)), critical=False)
    return Pair(builder.sign(authority.key, hashes.SHA256()), key)


def signing_request(wanted: Wanted, key: PrivateKey) -> bytes:
    """A request for a certificate by an authority elsewhere, PEM."""
    subject = subject_name(wanted.common_name, wanted.organizations)
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    if wanted.names:
        builder = builder.add_extension(x509.SubjectAlternativeName(general_names(wanted.names)), critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


def ordered_names(dns: Sequence[str], addresses: Sequence[str]) -> tuple[str, ...]:
    return (*sorted(set(dns)), *dict.fromkeys(addresses))


def _authority_identifier(certificate: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    """By the authority's own identifier: one made elsewhere may count it differently."""
    try:
        known = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:
        public = certificate.public_key()
        assert isinstance(public, rsa.RSAPublicKey | ec.EllipticCurvePublicKey)
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(public)
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(known)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: PrivateKey, now: datetime, valid: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATE)
        .not_valid_after(now + valid)
    )


def _key_usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=True,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
