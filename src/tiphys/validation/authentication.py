"""Validation of the authentication.k8s.io group, v1.

Source: https://kubernetes.io/docs/reference/generated/kubernetes-api/v1.36/#tokenrequest-v1-authentication-k8s-io
"""

from __future__ import annotations

from tiphys.api import fielderrors as field
from tiphys.api.object import Object
from tiphys.validation.shared.common import (
    Errors,
)


def validate_token_request(obj: Object) -> Errors:
    """The ``token`` subresource of a service account."""
    errs: Errors = []
    seconds, at = (obj.get("spec") or {}).get("expirationSeconds") or 0, "spec.expirationSeconds"
    if seconds < 600:
        errs.append(field.invalid(at, seconds, "may not specify a duration less than 10 minutes"))
    if seconds > 1 << 32:
        errs.append(field.invalid(at, seconds, "may not specify a duration larger than 2^32 seconds"))
    return errs
