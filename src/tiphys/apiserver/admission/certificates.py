"""Who may approve, sign and ask for certificates of a signer.

Source: https://kubernetes.io/docs/reference/access-authn-authz/certificate-signing-requests/#authorization
"""

from __future__ import annotations

import base64
from typing import Any

from tiphys.api.credentials import Subject, subject_of
from tiphys.api.gotext import quote
from tiphys.api.object import Object
from tiphys.apiserver.admission.attributes import CREATE, UPDATE, Attributes
from tiphys.apiserver.admission.plugin import Plugin, forbid
from tiphys.apiserver.authz.authorizer import Access, Authorizer
from tiphys.validation.shared.common import equal

GROUP = "certificates.k8s.io"
_REQUESTS = frozenset(((GROUP, "certificatesigningrequests"),))
_API_CLIENT = "kubernetes.io/kube-apiserver-client"
_OWN_SIGNERS = "kubernetes.io/"
_MASTERS = "system:masters"


async def may(authorizer: Authorizer, attributes: Attributes, verb: str, signer: str) -> bool:
    """Whether the user may ``verb`` for a signer, by its name or by its whole domain."""
    for name in (signer, f"{signer.partition('/')[0]}/*"):
        access = Access(attributes.user, verb, GROUP, "*", "signers", name=name)
        if (await authorizer.authorize(access)).allowed:
            return True
    return False


class CertificateApproval(Plugin):
    resources = _REQUESTS
    operations = frozenset((UPDATE,))
    subresources = frozenset(("approval",))

    def __init__(self, authorizer: Authorizer) -> None:
        self._authorizer = authorizer

    async def validate(self, attributes: Attributes) -> None:
        signer = (attributes.old or {})["spec"].get("signerName", "")
        if not await may(self._authorizer, attributes, "approve", signer):
            raise forbid(attributes, f"user not permitted to approve requests with signerName {quote(signer)}")


class CertificateSigning(Plugin):
    resources = _REQUESTS
    operations = frozenset((UPDATE,))
    subresources = frozenset(("status",))

    def __init__(self, authorizer: Authorizer) -> None:
        self._authorizer = authorizer

    async def validate(self, attributes: Attributes) -> None:
        new, old = attributes.new(), attributes.old or {}
        if equal(_signed(new), _signed(old)):
            return
        signer = old["spec"].get("signerName", "")
        if not await may(self._authorizer, attributes, "sign", signer):
            raise forbid(attributes, f"user not permitted to sign requests with signerName {quote(signer)}")


def _signed(request: Object) -> list[Any]:
    """What only a signer writes: the certificate and, by this path, any condition."""
    status = request.get("status") or {}
    return [status.get("certificate"), status.get("conditions") or []]


class CertificateSubjectRestriction(Plugin):
    """No client certificate makes its owner an administrator, and none names a component and somebody else."""

    resources = _REQUESTS
    operations = frozenset((CREATE,))

    async def validate(self, attributes: Attributes) -> None:
        spec = attributes.new()["spec"]
        if not spec.get("signerName", "").startswith(_OWN_SIGNERS):
            return
        named = subject(attributes, spec.get("request", ""))
        if named.is_ambiguous:
            raise forbid(attributes, f"subject has several common names: {', '.join(named.common_names)}")
        if spec["signerName"] == _API_CLIENT and _MASTERS in named.organizations:
            raise forbid(
                attributes,
                f"use of {_API_CLIENT} signer with system:masters group is not allowed",
            )


def subject(attributes: Attributes, request: str) -> Subject:
    """Whom a request names. Raises 403 if it cannot be read."""
    from cryptography.x509 import load_pem_x509_csr

    try:
        return subject_of(load_pem_x509_csr(base64.b64decode(request)).subject)
    except ValueError as error:
        raise forbid(attributes, f"unable to parse csr: {error}") from None
