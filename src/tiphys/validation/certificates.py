"""Validation of the certificates.k8s.io group, v1.

Who may set what: the request is fixed with its creation; the deciding conditions through ``approval``, the
certificate and the other conditions through ``status``.

Source: https://kubernetes.io/docs/reference/generated/kubernetes-api/v1.36/#certificatesigningrequest-v1-certificates-k8s-io
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from tiphys.api import fielderrors as field
from tiphys.api.gotext import quote
from tiphys.api.object import Object
from tiphys.validation.pods.projected import signer_name
from tiphys.validation.shared.common import (
    Errors,
    equal,
    with_repeats,
)
from tiphys.validation.shared.internal import difference
from tiphys.validation.shared.objectmeta import validate_meta, validate_meta_update

LEGACY_SIGNER = "kubernetes.io/legacy-unknown"
USAGES = sorted(
    (
        "signing",
        "digital signature",
        "content commitment",
        "key encipherment",
        "key agreement",
        "data encipherment",
        "cert sign",
        "crl sign",
        "encipher only",
        "decipher only",
        "any",
        "server auth",
        "client auth",
        "code signing",
        "email protection",
        "s/mime",
        "ipsec end system",
        "ipsec tunnel",
        "ipsec user",
        "timestamping",
        "ocsp signing",
        "microsoft sgc",
        "netscape sgc",
    )
)
_DECISIONS = ("Approved", "Denied")
_LASTING = ("Approved", "Denied", "Failed")
_STATUSES = ("False", "True", "Unknown")
_PEM = re.compile(r"-----BEGIN ([^\n-]*)-----[ \t\r]*\n(.*?)-----END \1-----[ \t\r]*(?:\n|$)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class _Options:
    """What an update may keep, because an older server let it through."""

    decisions: bool = False
    certificate: bool = False
    approved_and_denied: bool = False
    legacy_signer: bool = False
    duplicate_types: bool = False
    empty_type: bool = False
    arbitrary_certificate: bool = False
    unknown_usages: bool = False
    duplicate_usages: bool = False


def validate_csr(obj: Object) -> Errors:
    return _csr(obj, _Options())


def _csr(obj: Object, options: _Options) -> Errors:
    """The errors of a certificate signing request."""
    errs: Errors = []
    validate_meta(errs, obj, namespaced=False, name_check=lambda name, prefix: [])
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    problem = _request_problem(spec.get("request") or "")
    if problem:
        errs.append(field.invalid("spec.request", spec.get("request"), problem))
    _usages(errs, spec.get("usages") or [], options)
    signer = spec.get("signerName") or ""
    if signer == LEGACY_SIGNER and not options.legacy_signer:
        text = "the legacy signerName is not allowed via this API version"
        errs.append(field.invalid("spec.signerName", signer, text))
    else:
        signer_name(errs, signer, "spec.signerName")
    seconds = spec.get("expirationSeconds")
    if seconds is not None and seconds < 600:
        text = "may not specify a duration less than 600 seconds (10 minutes)"
        errs.append(field.invalid("spec.expirationSeconds", seconds, text))
    _conditions(errs, status.get("conditions") or [], options)
    if not options.arbitrary_certificate:
        problem = _certificate_problem(status.get("certificate") or "")
        if problem:
            errs.append(field.invalid("status.certificate", "<certificate data>", problem))
    return errs


def _usages(errs: Errors, usages: Sequence[str], options: _Options) -> None:
    if not usages:
        errs.append(field.required("spec.usages"))
    if not options.unknown_usages:
        for i, usage in enumerate(usages):
            if usage not in USAGES:
                errs.append(field.not_supported(f"spec.usages[{i}]", usage, USAGES))
    if not options.duplicate_usages:
        for i, usage, repeated in with_repeats(usages):
            if repeated:
                errs.append(field.duplicate(f"spec.usages[{i}]", usage))


def _conditions(errs: Errors, conditions: Sequence[Object], options: _Options) -> None:
    at, seen = "status.conditions", set[str]()
    for i, condition in enumerate(conditions):
        kind, status = condition.get("type") or "", condition.get("status") or ""
        if not kind and not options.empty_type:
            errs.append(field.required(f"{at}[{i}].type"))
        allowed = ("True",) if kind in _LASTING else _STATUSES
        if not status:
            errs.append(field.required(f"{at}[{i}].status"))
        elif status not in allowed:
            errs.append(field.not_supported(f"{at}[{i}].status", status, allowed))
        if kind in _DECISIONS and not options.approved_and_denied:
            other = "Denied" if kind == "Approved" else "Approved"
            if other in seen:
                text = "Approved and Denied conditions are mutually exclusive"
                errs.append(field.invalid(at, kind, text))
        if kind in seen and not options.duplicate_types:
            errs.append(field.duplicate(f"{at}[{i}].type", kind))
        seen.add(kind)


def _decode(data: str) -> bytes:
    try:
        return base64.b64decode(data)
    except (binascii.Error, ValueError):
        return b""


def _blocks(data: str) -> list[tuple[str, bool, bytes]]:
    """The PEM blocks: kind, whether it has headers, content."""
    blocks = []
    for kind, body in _PEM.findall(_decode(data).decode("latin-1")):
        headers = ":" in body
        try:
            content = base64.b64decode(body.rpartition("\n\n")[2] if headers else body)
        except (binascii.Error, ValueError):
            continue
        blocks.append((kind, headers, content))
    return blocks


def _request_problem(data: str) -> str:
    blocks = _blocks(data)
    if not blocks or blocks[0][0] != "CERTIFICATE REQUEST":
        return "PEM block type must be CERTIFICATE REQUEST"
    try:
        request = x509.load_der_x509_csr(blocks[0][2])
        return "" if request.is_signature_valid else "x509: signature verification failure"
    except UnsupportedAlgorithm:
        return "x509: cannot verify signature: algorithm unimplemented"
    except ValueError as e:
        return f"asn1: structure error: {e}"


def _certificate_problem(data: str) -> str:
    if not data:
        return ""
    blocks = _blocks(data)
    for kind, headers, content in blocks:
        if kind != "CERTIFICATE":
            return f"only CERTIFICATE PEM blocks are allowed, found {quote(kind)}"
        if headers:
            return "no PEM block headers are permitted"
        if not content:
            return "found CERTIFICATE PEM block containing 0 certificates"
        try:
            x509.load_der_x509_certificate(content)
        except ValueError:
            return "x509: malformed certificate"
    return "" if blocks else "must contain at least one CERTIFICATE PEM block"


def validate_csr_update(new: Object, old: Object) -> Errors:
    return _update(new, old, decisions=False, certificate=False)


def validate_csr_status_update(new: Object, old: Object) -> Errors:
    return _update(new, old, decisions=False, certificate=True)


def validate_csr_approval(new: Object, old: Object) -> Errors:
    """An update of the ``approval`` subresource."""
    return _update(new, old, decisions=True, certificate=False)


def _update(new: Object, old: Object, *, decisions: bool, certificate: bool) -> Errors:
    options = _options(new, old, decisions=decisions, certificate=certificate)
    errs = _csr(new, options)
    for kind in _LASTING:
        if len(_of_type(new, kind)) < len(_of_type(old, kind)):
            text = f"updates may not remove a condition of type {quote(kind)}"
            errs.append(field.forbidden("status.conditions", text))
    if not decisions:
        for kind in _DECISIONS:
            _undecided(errs, _of_type(new, kind), _of_type(old, kind), kind)
    issued, before = _certificate(new), _certificate(old)
    if issued != before:
        if not certificate:
            errs.append(field.forbidden("status.certificate", "updates may not set certificate content"))
        elif before:
            text = "updates may not modify existing certificate content"
            errs.append(field.forbidden("status.certificate", text))
    validate_meta_update(errs, new, old)
    return errs


def _undecided(errs: Errors, new: list[Object], old: list[Object], kind: str) -> None:
    if len(new) > len(old):
        text = f"updates may not add a condition of type {quote(kind)}"
        errs.append(field.forbidden("status.conditions", text))
    elif len(new) == len(old) and not equal(new, old):
        text = f"updates may not modify a condition of type {quote(kind)}\n{difference(old, new)}"
        errs.append(field.forbidden("status.conditions", text))


def _of_type(obj: Object, kind: str) -> list[Object]:
    return [c for c in (obj.get("status") or {}).get("conditions") or () if c.get("type") == kind]


def _certificate(obj: Object) -> str:
    certificate: str = (obj.get("status") or {}).get("certificate") or ""
    return certificate


def _options(new: Object, old: Object, *, decisions: bool, certificate: bool) -> _Options:
    spec = old.get("spec") or {}
    types = [c.get("type") or "" for c in (old.get("status") or {}).get("conditions") or ()]
    usages: list[Any] = spec.get("usages") or []
    issued = _certificate(old)
    return _Options(
        decisions=decisions,
        certificate=certificate,
        approved_and_denied="Approved" in types and "Denied" in types,
        legacy_signer=spec.get("signerName") == LEGACY_SIGNER,
        duplicate_types=len(set(types)) < len(types),
        empty_type="" in types,
        arbitrary_certificate=_certificate(new) == issued or bool(_certificate_problem(issued)),
        unknown_usages=any(usage not in USAGES for usage in usages),
        duplicate_usages=len(set(usages)) < len(usages),
    )
