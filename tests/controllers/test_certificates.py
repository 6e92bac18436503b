"""Certificate signing requests: which are signed, with what, and which are cleaned up."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tiphys.api.object import Object
from tiphys.cluster.pki import make_authority, private_pem
from tiphys.controlkit.objects import timestamp
from tiphys.controllers.access.certificates import cleaning, requests, signing
from tiphys.controllers.config import SIGNERS, KeyPair

NOW = 1_767_225_600.0
DAY = 24 * 3600.0
CLIENT = ("digital signature", "key encipherment", "client auth")
SERVER = ("digital signature", "server auth")


def csr(name: str = "system:node:a", organizations: tuple[str, ...] = ("system:nodes",), names: Any = ()) -> Any:
    key = ec.generate_private_key(ec.SECP256R1())
    attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, found) for found in organizations]
    attributes += [x509.NameAttribute(NameOID.COMMON_NAME, part) for part in name.split("+")]
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(attributes))
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(key, hashes.SHA256())


def request(made: Any, signer: str, usages: tuple[str, ...], **status: Any) -> Object:
    pem = made.public_bytes(serialization.Encoding.PEM)
    spec = {"request": base64.b64encode(pem).decode(), "signerName": signer, "usages": list(usages)}
    return {"metadata": {"name": "r", "creationTimestamp": timestamp(NOW)}, "spec": spec, "status": status}


USAGES = "usages did not match [client auth digital signature key encipherment]"
SEVERAL = "subject has several common names"
DNS = (x509.DNSName("a.example.com"),)


@pytest.mark.parametrize(
    ("made", "signer", "usages", "problem"),
    [
        (csr(), requests.KUBELET_CLIENT, CLIENT, ""),
        (csr(), requests.KUBELET_CLIENT, (CLIENT[0], CLIENT[2]), ""),
        (
            csr(),
            requests.KUBELET_CLIENT,
            SERVER,
            USAGES,
        ),
        (csr("bob"), requests.KUBELET_CLIENT, CLIENT, "subject common name does not begin with system:node:"),
        (csr(organizations=()), requests.KUBELET_CLIENT, CLIENT, "subject organization is not system:nodes"),
        (csr(names=DNS), requests.KUBELET_CLIENT, CLIENT, "DNS subjectAltNames are not allowed"),
        (csr(names=DNS), requests.KUBELET_SERVING, SERVER, ""),
        (csr(), requests.KUBELET_SERVING, SERVER, "DNS or IP subjectAltName is required"),
        (csr("bob", ()), requests.API_CLIENT, CLIENT, ""),
        (csr("bob", ()), requests.API_CLIENT, SERVER, "invalid usage for client certificate: server auth"),
        (csr("bob", ()), requests.API_CLIENT, CLIENT[:1], "missing required usage for client certificate: client auth"),
        (csr("any", ("thing",), DNS), SIGNERS["legacy-unknown"], SERVER, ""),
        (csr("system:node:a+system:node:b"), requests.KUBELET_CLIENT, CLIENT, SEVERAL),
        (csr("bob+system:node:b", names=DNS), requests.KUBELET_SERVING, SERVER, SEVERAL),
        (csr("bob+system:kube-scheduler", ()), requests.API_CLIENT, CLIENT, SEVERAL),
        (csr("bob+jane", ()), requests.API_CLIENT, CLIENT, ""),
    ],
)
def test_what_signers_sign(made: Any, signer: str, usages: tuple[str, ...], problem: str) -> None:
    asked = request(made, signer, usages)
    if problem:
        with pytest.raises(requests.BadRequest) as caught:
            requests.check(asked, requests.parse(asked))
        assert str(caught.value) == problem
    else:
        requests.check(asked, requests.parse(asked))


def test_what_is_no_request_is_refused() -> None:
    with pytest.raises(requests.BadRequest, match="CERTIFICATE REQUEST"):
        requests.parse({"spec": {"request": base64.b64encode(b"nonsense").decode()}})


@pytest.mark.parametrize(("asked", "seconds"), [(None, DAY), (60, 600), (3600, 3600), (10 * int(DAY), DAY)])
def test_lifetime(asked: int | None, seconds: float) -> None:
    assert signing.lifetime(asked, DAY) == seconds


def test_validity_is_backdated_and_ends_with_the_ca() -> None:
    assert signing.validity(NOW, 3600, NOW + DAY) == (NOW - 300, NOW + 3600)
    assert signing.validity(NOW, DAY / 2, NOW + DAY) == (NOW - 300, NOW + DAY / 2 - 300)
    assert signing.validity(NOW, 9 * DAY, NOW + DAY) == (NOW - 300, NOW + DAY)
    with pytest.raises(requests.BadRequest, match="expired in the past"):
        signing.validity(NOW, 3600, NOW)


def test_a_signed_certificate_has_the_subject_the_names_and_the_usages() -> None:
    authority = make_authority("kubernetes", datetime.fromtimestamp(NOW, UTC))
    certificate = authority.certificate.public_bytes(serialization.Encoding.PEM)
    signer = signing.Signer(KeyPair(certificate, private_pem(authority.key)), 365 * DAY)
    pem = signer.sign(csr(names=DNS), list(SERVER), 3600, NOW)
    made = x509.load_pem_x509_certificate(pem)
    made.verify_directly_issued_by(authority.certificate)
    assert made.subject.rfc4514_string() == "CN=system:node:a,O=system:nodes"
    assert made.not_valid_after_utc.timestamp() == NOW + 3600
    names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["a.example.com"]
    usage = made.extensions.get_extension_for_class(x509.KeyUsage).value
    assert usage.digital_signature
    assert not usage.key_encipherment
    extended = made.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert [oid.dotted_string for oid in extended] == ["1.3.6.1.5.5.7.3.1"]
    assert not made.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def decided(type_: str, ago: float) -> Object:
    return {"type": type_, "status": "True", "lastUpdateTime": timestamp(NOW - ago)}


@pytest.mark.parametrize(
    ("created_ago", "status", "over"),
    [
        (DAY - 60, {}, False),
        (DAY + 60, {}, True),
        (0, {"conditions": [decided("Denied", 3500)]}, False),
        (0, {"conditions": [decided("Denied", 3700)]}, True),
        (0, {"conditions": [decided("Failed", 3700)]}, True),
        (0, {"conditions": [decided("Approved", 3700)]}, False),
        (0, {"conditions": [decided("Approved", DAY + 60)]}, True),
        (0, {"conditions": [decided("Approved", 3700)], "certificate": "eA=="}, True),
        (0, {"conditions": [decided("Approved", 3500)], "certificate": "eA=="}, False),
    ],
)
def test_what_is_cleaned_up(created_ago: float, status: Object, over: bool) -> None:
    asked = {"metadata": {"creationTimestamp": timestamp(NOW - created_ago)}, "status": status}
    assert cleaning.is_over(asked, NOW) is over


def new_signer() -> signing.Signer:
    authority = make_authority("ca", datetime.fromtimestamp(NOW, UTC))
    certificate = authority.certificate.public_bytes(serialization.Encoding.PEM)
    return signing.Signer(KeyPair(certificate, private_pem(authority.key)), DAY)


def test_usages_of_extended_kinds_alone_leave_the_key_free() -> None:
    """A key usage that allows nothing would be refused by OpenSSL, and by our own servers."""
    signer = new_signer()
    made = x509.load_pem_x509_certificate(signer.sign(csr("bob", ()), ["client auth"], None, NOW))
    with pytest.raises(x509.ExtensionNotFound):
        made.extensions.get_extension_for_class(x509.KeyUsage)
    with pytest.raises(requests.BadRequest, match=r'unrecognized usage values: \["other" "some"\]'):
        signing.key_usage(["some", "client auth", "other"])


def test_the_signer_takes_over_the_names_that_go_does() -> None:
    signer = new_signer()
    other = x509.DirectoryName(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "system:node:b")]))
    made = x509.load_pem_x509_certificate(signer.sign(csr("bob", (), (*DNS, other)), list(CLIENT), None, NOW))
    names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(names) == list(DNS)
