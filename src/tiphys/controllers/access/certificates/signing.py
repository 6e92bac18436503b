"""Signs approved requests for the signers that every cluster has, with the cluster's own CA.

Source: https://kubernetes.io/docs/reference/access-authn-authz/certificate-signing-requests/#kubernetes-signers
"""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from tiphys.api.gotext import quote
from tiphys.api.object import Object
from tiphys.client.resources import CERTIFICATE_SIGNING_REQUESTS
from tiphys.controlkit.objects import (
    copy,
    status_of,
    timestamp,
)
from tiphys.controlkit.queue import RateLimiter
from tiphys.controllers.access.certificates import requests
from tiphys.controllers.config import KeyPair
from tiphys.controllers.context import ControllerContext

if TYPE_CHECKING:
    from cryptography import x509

BACKDATE = 300.0
"""Seconds that a certificate is valid already, as clocks differ."""
SHORT = 8 * 3600.0
"""A certificate that lasts less than so many seconds is not shortened by the backdate."""
MINIMUM = 600.0

_USAGES = {
    "signing": "digital_signature",
    "digital signature": "digital_signature",
    "content commitment": "content_commitment",
    "key encipherment": "key_encipherment",
    "key agreement": "key_agreement",
    "data encipherment": "data_encipherment",
    "cert sign": "key_cert_sign",
    "crl sign": "crl_sign",
    "encipher only": "encipher_only",
    "decipher only": "decipher_only",
}
_EXTENDED = {
    "any": "2.5.29.37.0",
    "server auth": "1.3.6.1.5.5.7.3.1",
    "client auth": "1.3.6.1.5.5.7.3.2",
    "code signing": "1.3.6.1.5.5.7.3.3",
    "email protection": "1.3.6.1.5.5.7.3.4",
    "s/mime": "1.3.6.1.5.5.7.3.4",
    "ipsec end system": "1.3.6.1.5.5.7.3.5",
    "ipsec tunnel": "1.3.6.1.5.5.7.3.6",
    "ipsec user": "1.3.6.1.5.5.7.3.7",
    "timestamping": "1.3.6.1.5.5.7.3.8",
    "ocsp signing": "1.3.6.1.5.5.7.3.9",
    "microsoft sgc": "1.3.6.1.4.1.311.10.3.3",
    "netscape sgc": "2.16.840.1.113730.4.1",
}


def lifetime(requested: int | None, maximum: float) -> float:
    """Seconds: what was requested, between ten minutes and the signer's maximum."""
    return maximum if requested is None else min(max(float(requested), MINIMUM), maximum)


def validity(now: float, seconds: float, ca_ends: float) -> tuple[float, float]:
    """From when until when a certificate is valid; never longer than its CA. Raises ``BadRequest``."""
    end = min(now + (seconds if seconds < SHORT else seconds - BACKDATE), ca_ends)
    if now >= ca_ends:
        ended = datetime.fromtimestamp(ca_ends, UTC)
        raise requests.BadRequest(f"refusing to sign a certificate that expired in the past: NotAfter={ended}")
    return now - BACKDATE, end


class Signer:
    """The cluster's CA."""

    def __init__(self, pair: KeyPair, maximum: float) -> None:
        from cryptography import x509
        from cryptography.hazmat.primitives import serialization

        self._certificate = x509.load_pem_x509_certificate(pair.certificate)
        self._key = serialization.load_pem_private_key(pair.key, None)
        self._maximum = maximum

    def sign(self, csr: x509.CertificateSigningRequest, usages: list[str], requested: int | None, now: float) -> bytes:
        """The certificate in PEM. Raises ``BadRequest``."""
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization

        if not csr.is_signature_valid:
            raise requests.BadRequest("unable to verify certificate request signature")
        ends = self._certificate.not_valid_after_utc.timestamp()
        start, end = validity(now, lifetime(requested, self._maximum), ends)
        epoch = datetime(1970, 1, 1, tzinfo=UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(csr.subject)
            .issuer_name(self._certificate.subject)
            .public_key(csr.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(epoch + timedelta(seconds=int(start)))
            .not_valid_after(epoch + timedelta(seconds=int(end)))
        )
        for extension, critical in self._extensions(csr, usages):
            builder = builder.add_extension(extension, critical)
        made = builder.sign(self._key, hashes.SHA256())  # type: ignore[arg-type]
        return made.public_bytes(serialization.Encoding.PEM)

    def _extensions(
        self, csr: x509.CertificateSigningRequest, usages: list[str]
    ) -> list[tuple[x509.ExtensionType, bool]]:
        from cryptography import x509

        extensions: list[tuple[x509.ExtensionType, bool]] = []
        if (usage := key_usage(usages)) is not None:
            extensions.append((usage, True))
        extended = sorted({_EXTENDED[usage] for usage in usages if usage in _EXTENDED})
        if extended:
            extensions.append((x509.ExtendedKeyUsage(map(x509.ObjectIdentifier, extended)), False))
        extensions.append((x509.BasicConstraints(ca=False, path_length=None), True))
        issuer = self._certificate.public_key()
        extensions.append((x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer), False))  # type: ignore[arg-type]
        if names := requests.alternative_names(csr):
            is_critical = not list(csr.subject)
            extensions.append((x509.SubjectAlternativeName(names), is_critical))
        return extensions


def key_usage(usages: list[str]) -> x509.KeyUsage | None:
    """None if no usage is one of the key itself: an extension that allows nothing would forbid everything.
    Raises ``BadRequest``."""
    from cryptography import x509

    if unknown := [usage for usage in usages if usage not in _USAGES and usage not in _EXTENDED]:
        raise requests.BadRequest(f"unrecognized usage values: [{' '.join(map(quote, sorted(set(unknown))))}]")
    wanted = {_USAGES[usage] for usage in usages if usage in _USAGES}
    if not wanted:
        return None
    names = dict.fromkeys(_USAGES.values(), False)
    if "key_agreement" not in wanted:
        wanted -= {"encipher_only", "decipher_only"}
    return x509.KeyUsage(**(names | dict.fromkeys(wanted, True)))


class CertificateSigningController:
    def __init__(self, context: ControllerContext) -> None:
        self._client, self._clock = context.client, context.clock
        self._pairs, self._maximum = context.config.signers, context.config.cluster_signing_duration
        self._signers: dict[str, Signer] = {}
        self._requests = context.informers.informer(CERTIFICATE_SIGNING_REQUESTS)
        limiter: RateLimiter[str] = RateLimiter(context.clock, base=0.2)
        self._controller = context.controller("csrsigning", self.reconcile, workers=5, limiter=limiter)
        self._controller.watches(self._requests)

    async def run(self) -> None:
        await self._controller.run()

    async def reconcile(self, key: str) -> None:
        """Sign an approved request, or mark it failed if its signer refuses it."""
        request = self._requests.store.get("", key)
        if request is None or request["spec"]["signerName"] not in self._pairs or status_of(request).get("certificate"):
            return
        if not requests.is_approved(request) or requests.has_condition(request, "Failed"):
            return
        wanted = copy(request)
        try:
            csr = requests.parse(request)
            requests.check(request, csr)
            wanted["status"]["certificate"] = base64.b64encode(self._sign(request, csr)).decode()
        except requests.BadRequest as error:
            now = timestamp(self._clock.now())
            failed = {"type": "Failed", "status": "True", "reason": "SignerValidationFailure", "message": str(error)}
            times = {"lastUpdateTime": now, "lastTransitionTime": now}
            wanted["status"].setdefault("conditions", []).append({**failed, **times})
        await self._client.update_status(CERTIFICATE_SIGNING_REQUESTS, wanted)

    def _sign(self, request: Object, csr: x509.CertificateSigningRequest) -> bytes:
        spec = request["spec"]
        name = spec["signerName"]
        signer = self._signers.get(name)
        if signer is None:
            signer = self._signers[name] = Signer(self._pairs[name], self._maximum)
        usages = list(spec.get("usages") or ())
        return signer.sign(csr, usages, spec.get("expirationSeconds"), self._clock.now())
