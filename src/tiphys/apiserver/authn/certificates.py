"""Client certificates: the common name is the user, the organizations are the groups.

The TLS layer has verified the certificate against the client CA; here it is only read, once per certificate.
Source: https://kubernetes.io/docs/reference/access-authn-authz/authentication/#x509-client-certificates
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

from tiphys.apiserver.authn.authenticator import authenticated
from tiphys.apiserver.call import User
from tiphys.wire.http import Request

CREDENTIAL_ID = "authentication.kubernetes.io/credential-id"


class ClientCertificates:
    async def authenticate(self, request: Request) -> User | None:
        der = request.peer.certificate
        return None if der is None else user_of_certificate(der)


@lru_cache(maxsize=4096)
def user_of_certificate(der: bytes) -> User | None:
    from cryptography.x509 import load_der_x509_certificate
    from cryptography.x509.oid import NameOID

    subject = load_der_x509_certificate(der).subject
    names = subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    if not names or not names[0].value:
        return None
    groups = tuple(str(a.value) for a in subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME))
    fingerprint = hashlib.sha256(der).hexdigest()
    user = User(str(names[0].value), groups, extra=((CREDENTIAL_ID, (f"X509SHA256={fingerprint}",)),))
    return authenticated(user)
