"""Which flow schema a request belongs to, and what distinguishes its flow from others of the same schema.

Source: https://kubernetes.io/docs/reference/kubernetes-api/extend-resources/flow-schema-v1/
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from tiphys.api.object import Object
from tiphys.apiserver.call import User
from tiphys.apiserver.requestinfo import RequestInfo

_ACCOUNT = "system:serviceaccount:"


class FlowSchema(NamedTuple):
    name: str
    uid: str
    level: str
    precedence: int
    method: str
    """``ByUser``, ``ByNamespace``, or empty: all requests are one flow."""
    rules: tuple[FlowRule, ...]

    def matches(self, user: User, info: RequestInfo) -> bool:
        return any(rule.matches(user, info) for rule in self.rules)

    def flow(self, user: User, info: RequestInfo) -> str:
        """The flow distinguisher."""
        if self.method == "ByUser":
            return user.name
        return info.namespace if self.method == "ByNamespace" else ""


class FlowRule(NamedTuple):
    subjects: tuple[Callable[[User], bool], ...]
    resources: tuple[ResourceRule, ...]
    paths: tuple[PathRule, ...]

    def matches(self, user: User, info: RequestInfo) -> bool:
        if not any(subject(user) for subject in self.subjects):
            return False
        if info.is_resource:
            return any(rule.matches(info) for rule in self.resources)
        return any(rule.matches(info) for rule in self.paths)


class Words:
    """A list in which a lone ``*`` stands for everything."""

    def __init__(self, words: list[str]) -> None:
        self._all = words == ["*"]
        self._words = frozenset(words)

    def __contains__(self, word: str) -> bool:
        return self._all or word in self._words


class ResourceRule(NamedTuple):
    verbs: Words
    groups: Words
    resources: Words
    namespaces: Words
    cluster: bool

    def matches(self, info: RequestInfo) -> bool:
        resource = f"{info.resource}/{info.subresource}" if info.subresource else info.resource
        if info.verb not in self.verbs or resource not in self.resources or info.group not in self.groups:
            return False
        return info.namespace in self.namespaces if info.namespace else self.cluster


class PathRule(NamedTuple):
    verbs: Words
    paths: tuple[str, ...]

    def matches(self, info: RequestInfo) -> bool:
        return info.verb in self.verbs and any(_covers(path, info.path) for path in self.paths)


def _covers(pattern: str, path: str) -> bool:
    if pattern in ("*", path):
        return True
    prefix = pattern.removesuffix("*")
    return path.startswith(prefix if prefix.endswith("/") else f"{prefix}/")


def read_schema(obj: Object) -> FlowSchema:
    """A FlowSchema of flowcontrol.apiserver.k8s.io/v1."""
    meta, spec = obj["metadata"], obj["spec"]
    return FlowSchema(
        name=meta["name"],
        uid=meta.get("uid", ""),
        level=spec["priorityLevelConfiguration"]["name"],
        precedence=spec.get("matchingPrecedence", 1000),
        method=(spec.get("distinguisherMethod") or {}).get("type", ""),
        rules=tuple(map(_rule, spec.get("rules") or ())),
    )


def _rule(rule: Object) -> FlowRule:
    return FlowRule(
        subjects=tuple(map(_subject, rule.get("subjects") or ())),
        resources=tuple(
            ResourceRule(
                Words(row.get("verbs") or []),
                Words(row.get("apiGroups") or []),
                Words(row.get("resources") or []),
                Words(row.get("namespaces") or []),
                bool(row.get("clusterScope")),
            )
            for row in rule.get("resourceRules") or ()
        ),
        paths=tuple(
            PathRule(Words(row.get("verbs") or []), tuple(row.get("nonResourceURLs") or ()))
            for row in rule.get("nonResourceRules") or ()
        ),
    )


def _subject(subject: Object) -> Callable[[User], bool]:
    match subject.get("kind"):
        case "User":
            name = (subject.get("user") or {}).get("name")
            return lambda user: name in ("*", user.name)
        case "Group":
            group = (subject.get("group") or {}).get("name")
            return lambda user: group == "*" or group in user.groups
        case "ServiceAccount":
            account = subject.get("serviceAccount") or {}
            prefix = f"{_ACCOUNT}{account.get('namespace', '')}:"
            if account.get("name") == "*":
                return lambda user: user.name.startswith(prefix)
            full = prefix + account.get("name", "")
            return lambda user: user.name == full
    return lambda user: False
