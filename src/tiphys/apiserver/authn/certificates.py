"""Client certificates: the common name is the user, the organizations are the groups.

The TLS layer has verified the certificate against the client CA; here it is only read, once per certificate.
Source: https://kubernetes.io/docs/reference/access-authn-authz/authentication/#x509-client-certificates
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from tiphys.api.credentials import EXPIRED, Subject, ends_at, in_force, subject_of
from tiphys.apiserver.authn.authenticator import Rejected, authenticated
from tiphys.apiserver.call import User
from tiphys.runtime.clock import Clock
from tiphys.runtime.remembering import remembered
from tiphys.runtime.vectors import HistogramVec
from tiphys.wire.http import Request

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

CREDENTIAL_ID = "authentication.kubernetes.io/credential-id"


class Issuers:
    """The authorities of one bundle, and which certificates they themselves have signed."""

    def __init__(self, pem: bytes) -> None:
        self._pem = pem
        self.signed: Callable[[bytes], bool] = remembered(4096, longest=4096)(self._signed)
        """Whether one of them has signed a certificate, given in DER. One by an intermediate that is not in the bundle
        is not distinguished from a stranger's: put intermediates into the bundle."""
        self._certificates: list[Certificate] | None = None

    def _signed(self, der: bytes) -> bool:
        from cryptography.exceptions import InvalidSignature
        from cryptography.x509 import load_der_x509_certificate, load_pem_x509_certificates

        if self._certificates is None:
            self._certificates = load_pem_x509_certificates(self._pem)
        certificate = load_der_x509_certificate(der)
        for issuer in self._certificates:
            try:
                certificate.verify_directly_issued_by(issuer)
            except (InvalidSignature, ValueError, TypeError):
                continue
            return True
        return False


_DAY = 86400.0
_LEFT = (0.0, 1800.0, 3600.0, 7200.0, 21600.0, 43200.0, *(_DAY * days for days in (1, 2, 4, 7, 30, 90, 180, 360)))


class ClientCertificates:
    """``issuers`` is needed if the TLS layer trusts another authority, too, whose certificates name no user."""

    def __init__(self, clock: Clock, issuers: Issuers | None = None) -> None:
        self._clock = clock
        self._issuers = issuers
        self._left = HistogramVec(
            "apiserver_client_certificate_expiration_seconds",
            "Distribution of the remaining lifetime on the certificate used to authenticate a request.",
            (),
            _LEFT,
        )
        self.figures = self._left.collect

    async def authenticate(self, request: Request) -> User | None:
        der = request.peer.certificate
        if request.peer.refused_certificate:
            raise Rejected(request.peer.refused_certificate)
        if der is None:
            return None
        if self._issuers is not None and not self._issuers.signed(der):
            raise Rejected("x509: certificate signed by unknown authority")
        now = self._clock.now()
        if not in_force(der, now):
            raise Rejected(EXPIRED)
        self._left.observe(ends_at(der) - now)
        return user_of_certificate(der)


def common_name(der: bytes) -> str:
    """The subject's common name; empty if it has none."""
    return _subject(der).common_name


@remembered(4096, longest=4096)
def user_of_certificate(der: bytes) -> User | None:
    """Raises ``Rejected`` for a subject that readers could take for different users."""
    subject = _subject(der)
    if not subject.common_name:
        return None
    if subject.is_ambiguous:
        raise Rejected(f"x509: subject with several common names: {', '.join(subject.common_names)}")
    try:
        uid = subject.uid()
    except ValueError as error:
        raise Rejected(str(error)) from None
    extra = ((CREDENTIAL_ID, (f"X509SHA256={hashlib.sha256(der).hexdigest()}",)),)
    return authenticated(User(subject.common_name, subject.organizations, uid, extra))


def _subject(der: bytes) -> Subject:
    from cryptography.x509 import load_der_x509_certificate

    return subject_of(load_der_x509_certificate(der).subject)
