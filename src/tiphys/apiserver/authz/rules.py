"""RBAC rules, read once, and whether they cover a request or another rule.

Source: https://kubernetes.io/docs/reference/access-authn-authz/rbac/
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product

from tiphys.api.object import Object
from tiphys.apiserver.authz.authorizer import Access


@dataclass(frozen=True, slots=True)
class Rule:
    verbs: frozenset[str]
    groups: frozenset[str] = frozenset()
    resources: frozenset[str] = frozenset()
    names: frozenset[str] = frozenset()
    urls: frozenset[str] = frozenset()

    def allows(self, access: Access) -> bool:
        if access.verb not in self.verbs and "*" not in self.verbs:
            return False
        if not access.is_resource:
            return self._covers_path(access.path)
        return (
            (access.group in self.groups or "*" in self.groups)
            and covers_resource(self.resources, access.full_resource, access.subresource)
            and (not self.names or access.name in self.names)
        )

    def _covers_path(self, path: str) -> bool:
        return any(covers_path(pattern, path) for pattern in self.urls)


def covers_resource(resources: frozenset[str], full: str, subresource: str) -> bool:
    """Entries are ``*``, ``pods``, ``pods/log`` or ``*/scale``."""
    return full in resources or "*" in resources or (bool(subresource) and f"*/{subresource}" in resources)


def covers_path(pattern: str, path: str) -> bool:
    if pattern in ("*", path):
        return True
    return pattern.endswith("*") and path.startswith(pattern.rstrip("*"))


def read_rule(rule: Object) -> Rule:
    return Rule(
        frozenset(rule.get("verbs") or ()),
        frozenset(rule.get("apiGroups") or ()),
        frozenset(rule.get("resources") or ()),
        frozenset(rule.get("resourceNames") or ()),
        frozenset(rule.get("nonResourceURLs") or ()),
    )


def read_rules(rules: Iterable[Object] | None) -> tuple[Rule, ...]:
    return tuple(read_rule(rule) for rule in rules or ())


def uncovered(owned: Sequence[Rule], wanted: Sequence[Object]) -> list[Object]:
    """The smallest parts of ``wanted`` that ``owned`` does not cover: what somebody would gain by them."""
    open_rules = uncovered_rules(owned, wanted)
    return [part for rule in open_rules for part in _breakdown(rule) if not any(_covers(own, part) for own in owned)]


def uncovered_rules(owned: Sequence[Rule], wanted: Sequence[Object]) -> list[Object]:
    """Those of the rules that none of ``owned`` covers alone, in time that grows as their length."""
    return [rule for rule in wanted if not any(_covers_whole(own, rule) for own in owned)]


def count_parts(rules: Iterable[Object]) -> int:
    """How many parts rules have: a few lines may have billions."""
    total = 0
    for rule in rules:
        verbs, groups, resources, names, urls = (len(rule.get(name) or ()) for name in _LISTS)
        total += verbs * (groups * resources * max(names, 1) + urls)
    return total


_LISTS = ("verbs", "apiGroups", "resources", "resourceNames", "nonResourceURLs")


def _covers_whole(own: Rule, rule: Object) -> bool:
    verbs, groups, resources, names, urls = (rule.get(name) or () for name in _LISTS)
    if "*" not in own.verbs and not own.verbs.issuperset(verbs):
        return False
    if groups and resources:
        if "*" not in own.groups and not own.groups.issuperset(groups):
            return False
        if not all(covers_resource(own.resources, name, name.partition("/")[2]) for name in resources):
            return False
        if own.names and not (names and own.names.issuperset(names)):
            return False
    return all(any(_covers_pattern(pattern, url) for pattern in own.urls) for url in urls)


def _breakdown(rule: Object) -> list[Object]:
    """A rule as rules of one verb, group, resource and name, or one verb and path, each."""
    parts: list[Object] = []
    names = rule.get("resourceNames") or [None]
    groups, resources, verbs = (rule.get(name) or () for name in ("apiGroups", "resources", "verbs"))
    for group, resource, verb in product(groups, resources, verbs):
        for name in names:
            part: Object = {"verbs": [verb], "apiGroups": [group], "resources": [resource]}
            parts.append(part if name is None else {**part, "resourceNames": [name]})
    for verb, url in product(verbs, rule.get("nonResourceURLs") or ()):
        parts.append({"verbs": [verb], "nonResourceURLs": [url]})
    return parts


def _covers(own: Rule, part: Object) -> bool:
    verb = part["verbs"][0]
    if verb not in own.verbs and "*" not in own.verbs:
        return False
    if urls := part.get("nonResourceURLs"):
        return any(_covers_pattern(pattern, urls[0]) for pattern in own.urls)
    group, resource = part["apiGroups"][0], part["resources"][0]
    if group not in own.groups and "*" not in own.groups:
        return False
    if not covers_resource(own.resources, resource, resource.partition("/")[2]):
        return False
    names = part.get("resourceNames")
    return not own.names or (names is not None and names[0] in own.names)


def _covers_pattern(pattern: str, wanted: str) -> bool:
    if pattern == wanted:
        return True
    return pattern.endswith("*") and wanted.startswith(pattern.rstrip("*"))
