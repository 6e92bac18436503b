"""Reading certificate signing requests and judging whether a signer signs them: pure.

Source: https://kubernetes.io/docs/reference/access-authn-authz/certificate-signing-requests/
"""

from __future__ import annotations

import base64
import binascii
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

from tiphys.api.credentials import subject_of
from tiphys.api.object import Object
from tiphys.controlkit.objects import status_of
from tiphys.controllers.config import SIGNERS

if TYPE_CHECKING:
    from cryptography import x509

KUBELET_CLIENT = SIGNERS["kubelet-client"]
KUBELET_SERVING = SIGNERS["kubelet-serving"]
API_CLIENT = SIGNERS["kube-apiserver-client"]


class BadRequest(ValueError):
    """The request cannot be read, or the signer does not sign such a one; the message is upstream's."""


def has_condition(request: Object, type_: str) -> bool:
    return any(
        condition["type"] == type_ and condition.get("status", "True") in ("True", "")
        for condition in status_of(request).get("conditions") or ()
    )


def is_approved(request: Object) -> bool:
    return has_condition(request, "Approved") and not has_condition(request, "Denied")


def parse(request: Object) -> x509.CertificateSigningRequest:
    """The X.509 request inside. Raises ``BadRequest``."""
    from cryptography import x509

    try:
        pem = base64.b64decode(request["spec"]["request"])
        return x509.load_pem_x509_csr(pem)
    except (binascii.Error, ValueError) as error:
        raise BadRequest("PEM block type must be CERTIFICATE REQUEST") from error


def alternative_names(csr: x509.CertificateSigningRequest) -> list[x509.GeneralName]:
    """The subject alternative names that a signer takes over: hosts, addresses, mailboxes and URIs."""
    from cryptography import x509

    try:
        names = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    kinds = (x509.DNSName, x509.IPAddress, x509.RFC822Name, x509.UniformResourceIdentifier)
    return [name for name in names if isinstance(name, kinds)]


_SORTS = {"DNSName": "DNS", "IPAddress": "IP", "RFC822Name": "Email", "UniformResourceIdentifier": "URI"}


def _alternatives(csr: x509.CertificateSigningRequest) -> dict[str, int]:
    """How many subject alternative names there are of each sort."""
    return Counter(_SORTS[type(name).__name__] for name in alternative_names(csr))


def check(request: Object, csr: x509.CertificateSigningRequest) -> None:
    """Whether the request's signer signs it. Raises ``BadRequest``."""
    usages = frozenset(request["spec"].get("usages") or ())
    signer = request["spec"]["signerName"]
    if subject_of(csr.subject).is_ambiguous:
        raise BadRequest("subject has several common names")
    if signer == KUBELET_SERVING:
        _check_kubelet_serving(csr, usages)
    elif signer == KUBELET_CLIENT:
        check_kubelet_client(csr, usages)
    elif signer == API_CLIENT:
        _check_api_client(request["spec"].get("usages") or ())


def _check_node(csr: x509.CertificateSigningRequest) -> None:
    if subject_of(csr.subject).organizations != ("system:nodes",):
        raise BadRequest("subject organization is not system:nodes")


def _check_node_name(csr: x509.CertificateSigningRequest) -> None:
    if not subject_of(csr.subject).common_name.startswith("system:node:"):
        raise BadRequest("subject common name does not begin with system:node:")


def _check_usages(usages: frozenset[str], purpose: str) -> None:
    required = {"digital signature", "key encipherment", purpose}
    if usages not in (required, required - {"key encipherment"}):
        raise BadRequest(f"usages did not match [{' '.join(sorted(required))}]")


def _check_kubelet_serving(csr: x509.CertificateSigningRequest, usages: frozenset[str]) -> None:
    _check_node(csr)
    names = _alternatives(csr)
    if not names.get("DNS") and not names.get("IP"):
        raise BadRequest("DNS or IP subjectAltName is required")
    _refuse_alternatives(names, ("Email", "URI"))
    _check_usages(usages, "server auth")
    _check_node_name(csr)


def check_kubelet_client(csr: x509.CertificateSigningRequest, usages: frozenset[str]) -> None:
    """Raises ``BadRequest`` if it is not a kubelet's client certificate that is requested."""
    if subject_of(csr.subject).is_ambiguous:
        raise BadRequest("subject has several common names")
    _check_node(csr)
    _refuse_alternatives(_alternatives(csr), ("DNS", "Email", "IP", "URI"))
    _check_node_name(csr)
    _check_usages(usages, "client auth")


def _refuse_alternatives(names: dict[str, int], sorts: Iterable[str]) -> None:
    for sort in sorts:
        if names.get(sort):
            raise BadRequest(f"{sort} subjectAltNames are not allowed")


def _check_api_client(usages: Iterable[str]) -> None:
    for usage in usages:
        if usage not in ("digital signature", "key encipherment", "client auth"):
            raise BadRequest(f"invalid usage for client certificate: {usage}")
    if "client auth" not in usages:
        raise BadRequest("missing required usage for client certificate: client auth")
