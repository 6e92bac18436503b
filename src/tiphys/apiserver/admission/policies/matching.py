"""Which requests a policy or a binding is about: rules, and selectors of namespaces and objects. Pure.

Source: https://kubernetes.io/docs/reference/access-authn-authz/validating-admission-policy/
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tiphys.api.meta.selectors import selector_from_object
from tiphys.api.scheme import GroupVersionKind
from tiphys.apiserver.admission.attributes import CREATE, UPDATE, Attributes
from tiphys.apiserver.admission.matching import object_matches, rule_matches

Match = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Seen:
    """In which version the policy sees the request."""

    kind: GroupVersionKind
    version: str


def match(wanted: Match, attributes: Attributes, namespace_labels: Mapping[str, str]) -> Seen | None:
    """None if the request is none of the policy's. Without rules every request is."""
    if not _namespace(wanted, attributes, namespace_labels) or not _object(wanted, attributes):
        return None
    policy = wanted.get("matchPolicy")
    if _rules(wanted.get("excludeResourceRules") or (), policy, attributes):
        return None
    rules = wanted.get("resourceRules") or ()
    if not rules:
        return Seen(attributes.kind, attributes.version)
    return _rules(rules, policy, attributes)


def _namespace(wanted: Match, attributes: Attributes, labels: Mapping[str, str]) -> bool:
    if not attributes.namespace and attributes.plural != "namespaces":
        return True
    selector = selector_from_object(wanted.get("namespaceSelector") or {})
    writes = attributes.operation in (CREATE, UPDATE) and not attributes.subresource
    if attributes.plural == "namespaces" and writes:
        labels = _labels(attributes.object)
    return selector.matches(dict(labels))


def _object(wanted: Match, attributes: Attributes) -> bool:
    selector = selector_from_object(wanted.get("objectSelector") or {})
    return object_matches(selector, attributes.object, attributes.old)


def _labels(obj: Mapping[str, Any] | None) -> dict[str, str]:
    return dict(((obj or {}).get("metadata") or {}).get("labels") or {})


def _rules(rules: Any, policy: str | None, attributes: Attributes) -> Seen | None:
    for seen in _versions(attributes, equivalent=policy != "Exact" and policy is not None):
        if any(_rule(rule, attributes, seen.version) for rule in rules):
            return seen
    return None


def _versions(attributes: Attributes, *, equivalent: bool) -> Iterator[Seen]:
    """The version of the request first; then, if any will do, the others that are served."""
    yield Seen(attributes.kind, attributes.version)
    if equivalent and not attributes.subresource:
        for version in attributes.resource.versions:
            if version != attributes.version:
                yield Seen(attributes.resource.gvk(version), version)


def _rule(rule: Match, attributes: Attributes, version: str) -> bool:
    names = rule.get("resourceNames") or ()
    if names and attributes.name not in names:
        return False
    resource = (attributes.group, version, attributes.plural, attributes.subresource)
    return rule_matches(rule, attributes.operation, *resource, attributes.namespace)
