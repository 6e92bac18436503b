"""ABAC: a file of policies, one JSON object a line; what one of them allows is allowed.

Source: https://kubernetes.io/docs/reference/access-authn-authz/abac/
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson

from tiphys.api.object import Object
from tiphys.apiserver.authn.authenticator import AUTHENTICATED
from tiphys.apiserver.authz.authorizer import ALLOWED, Access, Decision, UserRules, Verdict
from tiphys.apiserver.call import User
from tiphys.apiserver.configfile import ConfigFileError

log = logging.getLogger(__name__)

_VERSION = "abac.authorization.kubernetes.io/v1beta1"
_OLDEST = "abac.authorization.kubernetes.io/v0"
_NO_POLICY = Decision(Verdict.NO_OPINION, "No policy matched.")


@dataclass(frozen=True, slots=True)
class AbacPolicy:
    """``*`` stands for every one, but for ``user`` and ``group``, where ``read_policies`` puts those that it means; an
    empty field matches nothing but what is empty."""

    user: str = ""
    group: str = ""
    readonly: bool = False
    api_group: str = ""
    resource: str = ""
    namespace: str = ""
    path: str = ""

    def allows(self, access: Access) -> bool:
        if not self.is_about(access.user) or (self.readonly and not access.is_read_only):
            return False
        return self._covers_resource(access) if access.is_resource else self._covers_path(access.path)

    def is_about(self, user: User) -> bool:
        if self.user not in ("", user.name):
            return False
        if self.group and self.group not in user.groups:
            return False
        return bool(self.user or self.group)

    def _covers_resource(self, access: Access) -> bool:
        return (
            self.namespace in ("*", access.namespace)
            and self.resource in ("*", access.resource)
            and self.api_group in ("*", access.group)
        )

    def _covers_path(self, path: str) -> bool:
        if self.path in ("*", path):
            return True
        return self.path.endswith("*") and path.startswith(self.path.rstrip("*"))


class AbacAuthorizer:
    def __init__(self, policies: Sequence[AbacPolicy]) -> None:
        self._policies = tuple(policies)

    async def authorize(self, access: Access) -> Decision:
        return ALLOWED if any(policy.allows(access) for policy in self._policies) else _NO_POLICY

    async def rules_of(self, user: User, namespace: str) -> UserRules:
        rules: list[Object] = []
        for policy in self._policies:
            if not policy.is_about(user) or policy.namespace not in ("*", namespace):
                continue
            verbs = ["get", "list", "watch"] if policy.readonly else ["*"]
            if policy.resource:
                rules.append({"verbs": verbs, "apiGroups": [policy.api_group], "resources": [policy.resource]})
            if policy.path:
                rules.append({"verbs": verbs, "nonResourceURLs": [policy.path]})
        return UserRules(rules)


def read_policies(path: Path) -> list[AbacPolicy]:
    """Raises ``ConfigFileError``, which names the line."""
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise ConfigFileError(f"{path}: {error.strerror}") from error
    policies, unversioned = [], False
    for number, line in enumerate(lines, 1):
        if line.strip() and not line.strip().startswith(b"#"):
            try:
                row = orjson.loads(line)
                unversioned |= isinstance(row, dict) and not row.get("apiVersion")
                policies.append(_policy(row))
            except ValueError as error:
                text = line.decode("utf-8", "replace")
                raise ConfigFileError(f"error reading policy file {path}, line {number}: {text}: {error}") from error
    if unversioned:
        log.warning("Policy file %s contained unversioned rules; write each as a Policy of %s", path, _VERSION)
    return policies


def _policy(row: Any) -> AbacPolicy:
    if not isinstance(row, dict):
        raise ValueError("a policy is an object")
    version, kind = row.get("apiVersion") or _OLDEST, row.get("kind") or ("" if row.get("apiVersion") else "Policy")
    if (version, kind) == (_OLDEST, "Policy"):
        return _oldest(row)
    if (version, kind) != (_VERSION, "Policy"):
        raise ValueError(f"it is no Policy of {_VERSION}")
    spec = row.get("spec")
    return _for_known(_read({} if spec is None else spec))


def _read(spec: Any) -> AbacPolicy:
    if not isinstance(spec, dict):
        raise ValueError("spec is an object")
    given = {name: value for name, value in spec.items() if value is not None}
    names = ("user", "group", "apiGroup", "resource", "namespace", "nonResourcePath")
    if wrong := [name for name in names if not isinstance(given.get(name, ""), str)]:
        raise ValueError(f"{wrong[0]} is a text")
    if not isinstance(given.get("readonly", False), bool):
        raise ValueError("readonly is true or false")
    user, group, api_group, resource, namespace, path = (given.get(name, "") for name in names)
    return AbacPolicy(user, group, given.get("readonly", False), api_group, resource, namespace, path)


def _for_known(policy: AbacPolicy) -> AbacPolicy:
    """``*`` for a user or a group means all users that are known, whatever the other of the two says."""
    return replace(policy, user="", group=AUTHENTICATED) if "*" in (policy.user, policy.group) else policy


def _oldest(row: Object) -> AbacPolicy:
    """A line without a version: what it leaves out means everything, for every user that is known."""
    given = _read({name: row[name] for name in ("user", "group", "namespace", "resource", "readonly") if name in row})
    return replace(
        _for_known(given if given.user or given.group else replace(given, user="*")),
        api_group="*",
        resource=given.resource or "*",
        namespace=given.namespace or "*",
        path="" if given.namespace or given.resource else "*",
    )
