"""Which requests a webhook or policy is about: rules, and selectors of the namespace and of the object. Pure.

Source: https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/#matching-requests-rules
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tiphys.api.meta.selectors import Selector
from tiphys.api.object import Object

_EXEMPT_GROUP = "admissionregistration.k8s.io"
_EXEMPT_KINDS = frozenset(
    (
        "ValidatingWebhookConfiguration",
        "MutatingWebhookConfiguration",
        "ValidatingAdmissionPolicy",
        "ValidatingAdmissionPolicyBinding",
        "MutatingAdmissionPolicy",
        "MutatingAdmissionPolicyBinding",
    )
)


def is_exempt(group: str, kind: str) -> bool:
    """Whether requests about this kind see no webhooks and policies, so that what they break can be mended."""
    return group == _EXEMPT_GROUP and kind in _EXEMPT_KINDS


def rule_matches(
    rule: Mapping[str, Any], operation: str, group: str, version: str, plural: str, subresource: str, namespace: str
) -> bool:
    """``namespace`` is that of the request, which for a namespace is its own name."""
    return (
        _in_scope(rule.get("scope") or "*", group, plural, namespace)
        and _has(rule.get("operations"), operation)
        and _has(rule.get("apiGroups"), group)
        and _has(rule.get("apiVersions"), version)
        and any(_is_resource(text, plural, subresource) for text in rule.get("resources") or ())
    )


def _has(items: Iterable[str] | None, wanted: str) -> bool:
    return any(item in ("*", wanted) for item in items or ())


def _in_scope(scope: str, group: str, plural: str, namespace: str) -> bool:
    if scope == "*":
        return True
    namespaced = bool(namespace) and (group, plural) != ("", "namespaces")
    return namespaced == (scope == "Namespaced")


def _is_resource(text: str, plural: str, subresource: str) -> bool:
    resource, _, part = text.partition("/")
    return resource in ("*", plural) and part in ("*", subresource)


def object_matches(selector: Selector, *objects: Object | None) -> bool:
    """Whether one of the objects, new and old, is selected; an empty selector selects even if none exists."""
    if selector.empty:
        return True
    return any(obj is not None and "metadata" in obj and selector.matches(_labels(obj)) for obj in objects)


def _labels(obj: Object) -> dict[str, str]:
    return (obj["metadata"] or {}).get("labels") or {}
