"""The audit policy: which requests are recorded, and how much of them. The first rule that matches decides.

Source: https://kubernetes.io/docs/reference/config-api/apiserver-audit.v1/#audit-k8s-io-v1-Policy
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from tiphys.api.fielderrors import FieldError, invalid, not_supported, required
from tiphys.api.meta import names
from tiphys.api.object import Object
from tiphys.apiserver.audit.version import API_VERSION
from tiphys.apiserver.call import User
from tiphys.apiserver.requestinfo import RequestInfo


class Level(IntEnum):
    """How much is recorded; each level holds what the ones below it hold."""

    NONE = 0
    METADATA = 1
    REQUEST = 2
    REQUEST_RESPONSE = 3

    @property
    def text(self) -> str:
        return _TEXTS[self]


_TEXTS = {
    Level.NONE: "None",
    Level.METADATA: "Metadata",
    Level.REQUEST: "Request",
    Level.REQUEST_RESPONSE: "RequestResponse",
}
_LEVELS = {text: level for level, text in _TEXTS.items()}

REQUEST_RECEIVED, RESPONSE_STARTED = "RequestReceived", "ResponseStarted"
RESPONSE_COMPLETE, PANIC = "ResponseComplete", "Panic"
STAGES = (REQUEST_RECEIVED, RESPONSE_STARTED, RESPONSE_COMPLETE, PANIC)


class PolicyError(ValueError):
    """The policy cannot be used; the message names the field."""


@dataclass(frozen=True, slots=True)
class Treatment:
    """What is recorded of one request."""

    level: Level
    omit_stages: frozenset[str] = frozenset()
    omit_managed_fields: bool = False


@dataclass(frozen=True, slots=True)
class GroupResources:
    group: str
    resources: frozenset[str]
    names: frozenset[str]

    def matches(self, info: RequestInfo) -> bool:
        if self.group not in (info.group, "*"):
            return False
        if not self.resources:
            return True
        if self.names and info.name not in self.names:
            return False
        whole = f"{info.resource}/{info.subresource}" if info.subresource else info.resource
        patterns = {whole, "*", f"{info.resource}/*"} | ({f"*/{info.subresource}"} if info.subresource else set())
        return not patterns.isdisjoint(self.resources)


@dataclass(frozen=True, slots=True)
class AuditRule:
    """Every condition that is not empty must hold."""

    treatment: Treatment
    users: frozenset[str]
    groups: frozenset[str]
    verbs: frozenset[str]
    namespaces: frozenset[str]
    resources: tuple[GroupResources, ...]
    paths: tuple[str, ...]

    def matches(self, user: User, info: RequestInfo) -> bool:
        if self.users and user.name not in self.users:
            return False
        if self.groups and self.groups.isdisjoint(user.groups):
            return False
        if self.verbs and info.verb not in self.verbs:
            return False
        if self.namespaces or self.resources:
            return self._matches_resource(info)
        return not self.paths or (not info.is_resource and any(_covers(path, info.path) for path in self.paths))

    def _matches_resource(self, info: RequestInfo) -> bool:
        if not info.is_resource or (self.namespaces and info.namespace not in self.namespaces):
            return False
        return not self.resources or any(resources.matches(info) for resources in self.resources)


def _covers(pattern: str, path: str) -> bool:
    if pattern in ("*", path):
        return True
    return pattern.endswith("*") and path.startswith(pattern.rstrip("*"))


@dataclass(frozen=True, slots=True)
class AuditPolicy:
    rules: tuple[AuditRule, ...]
    default: Treatment

    def treatment(self, user: User, info: RequestInfo) -> Treatment:
        """What is recorded of a request. One that no rule matches is not recorded."""
        for rule in self.rules:
            if rule.matches(user, info):
                return rule.treatment
        return self.default


def read_policy(document: Any) -> AuditPolicy:
    """A policy from its parsed YAML. Raises ``PolicyError``."""
    if not isinstance(document, dict) or (document.get("apiVersion"), document.get("kind")) != (API_VERSION, "Policy"):
        raise PolicyError(f"the document is not a Policy of {API_VERSION}")
    errors = list(_stage_errors(document.get("omitStages") or (), "omitStages"))
    rules = document.get("rules") or []
    for number, rule in enumerate(rules):
        errors += _rule_errors(rule, f"rules[{number}]")
    if errors:
        raise PolicyError("; ".join(str(error) for error in errors))
    if not rules:
        raise PolicyError("loaded illegal policy with 0 rules")
    omit_managed = bool(document.get("omitManagedFields"))
    everywhere = frozenset(document.get("omitStages") or ())
    default = Treatment(Level.NONE, everywhere, omit_managed)
    return AuditPolicy(tuple(_rule(rule, everywhere, omit_managed=omit_managed) for rule in rules), default)


def _rule(rule: Object, everywhere: frozenset[str], *, omit_managed: bool) -> AuditRule:
    """A rule of the policy in the form in which requests are matched."""
    own = rule.get("omitManagedFields")
    treatment = Treatment(
        _LEVELS[rule["level"]],
        everywhere | frozenset(rule.get("omitStages") or ()),
        omit_managed if own is None else bool(own),
    )
    return AuditRule(
        treatment,
        users=frozenset(rule.get("users") or ()),
        groups=frozenset(rule.get("userGroups") or ()),
        verbs=frozenset(rule.get("verbs") or ()),
        namespaces=frozenset(rule.get("namespaces") or ()),
        resources=tuple(
            GroupResources(
                entry.get("group") or "",
                frozenset(entry.get("resources") or ()),
                frozenset(entry.get("resourceNames") or ()),
            )
            for entry in rule.get("resources") or ()
        ),
        paths=tuple(rule.get("nonResourceURLs") or ()),
    )


def _rule_errors(rule: Any, path: str) -> Iterable[FieldError]:
    if not isinstance(rule, dict):
        yield invalid(path, rule, "must be an object")
        return
    level = rule.get("level") or ""
    if not level:
        yield required(f"{path}.level", "")
    elif level not in _LEVELS:
        yield not_supported(f"{path}.level", level, tuple(_LEVELS))
    yield from _path_errors(rule.get("nonResourceURLs") or (), f"{path}.nonResourceURLs")
    yield from _resource_errors(rule.get("resources") or (), f"{path}.resources")
    yield from _stage_errors(rule.get("omitStages") or (), f"{path}.omitStages")
    if rule.get("nonResourceURLs") and (rule.get("resources") or rule.get("namespaces")):
        detail = "rules cannot apply to both regular resources and non-resource URLs"
        yield invalid(f"{path}.nonResourceURLs", rule["nonResourceURLs"], detail)


def _path_errors(urls: Iterable[str], path: str) -> Iterable[FieldError]:
    for number, url in enumerate(urls):
        if url == "*":
            continue
        if not url.startswith("/"):
            yield invalid(f"{path}[{number}]", url, "non-resource URL rules must begin with a '/' character")
        if "*" in url[:-1]:
            detail = "non-resource URL wildcards '*' must be the final character of the rule"
            yield invalid(f"{path}[{number}]", url, detail)


def _resource_errors(resources: Iterable[Object], path: str) -> Iterable[FieldError]:
    for entry in resources:
        group = entry.get("group") or ""
        if group not in ("", "*") and (problems := names.dns1123_subdomain(group)):
            yield invalid(f"{path}.group", group, ",".join(problems))
        if entry.get("resourceNames") and not entry.get("resources"):
            detail = "using resourceNames requires at least one resource"
            yield invalid(f"{path}.resourceNames", entry["resourceNames"], detail)


def _stage_errors(stages: Iterable[str], path: str) -> Iterable[FieldError]:
    for number, stage in enumerate(stages):
        if stage not in STAGES:
            yield invalid(f"{path}[{number}]", stage, f"allowed stages are {','.join(STAGES)}")
