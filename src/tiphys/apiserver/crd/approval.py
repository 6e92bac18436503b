"""Groups of the project itself: whether a definition in one was approved, as a condition.

Source: KEP-1111, https://github.com/kubernetes/enhancements/pull/1111
"""

from __future__ import annotations

from tiphys.api.gotext import quote
from tiphys.api.object import Object
from tiphys.apiserver.registry.strategies.definitions import set_status_condition
from tiphys.validation.apiextensions.definition import APPROVAL, approval_state, is_protected

_CONFORMANT = "KubernetesAPIApprovalPolicyConformant"
_SEE = "see https://github.com/kubernetes/enhancements/pull/1111"


def approve(obj: Object, now: str) -> bool:
    """Set the condition in place; whether that changed anything."""
    if not is_protected(obj):
        return False
    text = ((obj["metadata"].get("annotations")) or {}).get(APPROVAL, "")
    needed = f"protected groups must have approval annotation {quote(APPROVAL)}"
    status, reason, message = {
        "missing": ("False", "MissingAnnotation", f"{needed}, {_SEE}"),
        "invalid": (
            "False",
            "InvalidAnnotation",
            f'{needed} with either a URL or a reason starting with "unapproved", {_SEE}',
        ),
        "bypassed": ("False", "UnapprovedAnnotation", f"not approved: {quote(text)}"),
        "approved": ("True", "ApprovedAnnotation", f"approved in {text}"),
    }[approval_state(obj)]
    return set_status_condition(obj, _CONFORMANT, status, reason, message, now)
