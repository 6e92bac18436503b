"""Who may approve, sign and ask for certificates of a signer.

Source: https://kubernetes.io/docs/reference/access-authn-authz/certificate-signing-requests/#authorization
"""

from __future__ import annotations

import base64
from typing import Any

from tiphys.api.gotext import quote
from tiphys.apiserver.admission.attributes import CREATE, UPDATE, Attributes
from tiphys.apiserver.admission.plugin import Plugin, forbid
from tiphys.apiserver.authz.authorizer import Access, Authorizer

Object = dict[str, Any]

GROUP = "certificates.k8s.io"
_REQUESTS = frozenset(((GROUP, "certificatesigningrequests"),))
_API_CLIENT = "kubernetes.io/kube-apiserver-client"
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
        if _signed(new) == _signed(old):
            return
        signer = old["spec"].get("signerName", "")
        if not await may(self._authorizer, attributes, "sign", signer):
            raise forbid(attributes, f"user not permitted to sign requests with signerName {quote(signer)}")


def _signed(request: Object) -> tuple[Any, list[Object]]:
    """What only a signer writes: the certificate, and that it failed."""
    status = request.get("status") or {}
    return status.get("certificate"), [c for c in status.get("conditions") or () if c.get("type") == "Failed"]


class CertificateSubjectRestriction(Plugin):
    """No client certificate makes its owner an administrator."""

    resources = _REQUESTS
    operations = frozenset((CREATE,))

    async def validate(self, attributes: Attributes) -> None:
        spec = attributes.new()["spec"]
        if spec.get("signerName") != _API_CLIENT:
            return
        if _MASTERS in subject(attributes, spec.get("request", ""))[1]:
            raise forbid(
                attributes,
                f"use of {_API_CLIENT} signer with system:masters group is not allowed",
            )


def subject(attributes: Attributes, request: str) -> tuple[str, list[str]]:
    """Whom a request names: common name and organizations. Raises 403 where it cannot be read."""
    from cryptography.x509 import load_pem_x509_csr
    from cryptography.x509.oid import NameOID

    try:
        found = load_pem_x509_csr(base64.b64decode(request)).subject
    except ValueError as error:
        raise forbid(attributes, f"unable to parse csr: {error}") from None
    names, organizations = (
        [str(a.value) for a in found.get_attributes_for_oid(oid)]
        for oid in (NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME)
    )
    return names[-1] if names else "", organizations
