"""Defaults of the admissionregistration.k8s.io group, v1.

Source: https://kubernetes.io/docs/reference/generated/kubernetes-api/v1.36/#validatingwebhookconfiguration-v1-admissionregistration-k8s-io
"""

from __future__ import annotations

from tiphys.api.defaults.common import child, if_missing, items, label_selector_if_missing
from tiphys.api.object import Object


def validating_webhook_configuration(obj: Object) -> None:
    for webhook in items(obj, "webhooks"):
        _webhook(webhook)


def mutating_webhook_configuration(obj: Object) -> None:
    for webhook in items(obj, "webhooks"):
        _webhook(webhook)
        if_missing(webhook, reinvocationPolicy="Never")


def admission_policy(obj: Object) -> None:
    """For both ValidatingAdmissionPolicy and MutatingAdmissionPolicy."""
    spec = child(obj, "spec")
    if_missing(spec, failurePolicy="Fail")
    _match_resources(spec.get("matchConstraints"))


def admission_policy_binding(obj: Object) -> None:
    _match_resources((obj.get("spec") or {}).get("matchResources"))


def _webhook(webhook: Object) -> None:
    if_missing(webhook, failurePolicy="Fail", matchPolicy="Equivalent", timeoutSeconds=10)
    label_selector_if_missing(webhook, "namespaceSelector", "objectSelector")
    service = (webhook.get("clientConfig") or {}).get("service")
    if service is not None:
        if_missing(service, port=443)
    _rules(webhook, "rules")


def _match_resources(match: Object | None) -> None:
    if match is None:
        return
    if_missing(match, matchPolicy="Equivalent")
    label_selector_if_missing(match, "namespaceSelector", "objectSelector")
    _rules(match, "resourceRules")
    _rules(match, "excludeResourceRules")


def _rules(holder: Object, key: str) -> None:
    for rule in items(holder, key):
        if_missing(rule, scope="*")
