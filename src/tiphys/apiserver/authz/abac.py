"""ABAC: a file of policies, one JSON object a line; what one of them allows is allowed.

Source: https://kubernetes.io/docs/reference/access-authn-authz/abac/
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from tiphys.api.object import Object
from tiphys.apiserver.authz.authorizer import ALLOWED, Access, Decision, Verdict
from tiphys.apiserver.call import User
from tiphys.apiserver.configfile import ConfigFileError

_VERSION = "abac.authorization.kubernetes.io/v1beta1"
_AUTHENTICATED = "system:authenticated"
_NO_POLICY = Decision(Verdict.NO_OPINION, "No policy matched.")


@dataclass(frozen=True, slots=True)
class AbacPolicy:
    """``*`` stands for every one; an empty field matches nothing but what is empty."""

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
        return self._covers_resource(access) if access.resource else self._covers_path(access.path)

    def is_about(self, user: User) -> bool:
        if self.user not in ("", "*", user.name):
            return False
        if self.group not in ("", "*") and self.group not in user.groups:
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

    def rules_of(self, user: User, namespace: str) -> list[Object]:
        """What the user may do in a namespace, as RBAC rules."""
        rules: list[Object] = []
        for policy in self._policies:
            if not policy.is_about(user) or policy.namespace not in ("*", namespace):
                continue
            verbs = ["get", "list", "watch"] if policy.readonly else ["*"]
            if policy.resource:
                rules.append({"verbs": verbs, "apiGroups": [policy.api_group], "resources": [policy.resource]})
            if policy.path:
                rules.append({"verbs": verbs, "nonResourceURLs": [policy.path]})
        return rules


def read_policies(path: Path) -> list[AbacPolicy]:
    """Raises ``ConfigFileError``, which names the line."""
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise ConfigFileError(f"{path}: {error.strerror}") from error
    policies = []
    for number, line in enumerate(lines, 1):
        if line.strip() and not line.strip().startswith(b"#"):
            try:
                policies.append(_policy(orjson.loads(line)))
            except ValueError as error:
                text = line.decode("utf-8", "replace")
                raise ConfigFileError(f"error reading policy file {path}, line {number}: {text}: {error}") from error
    return policies


def _policy(row: Any) -> AbacPolicy:
    if not isinstance(row, dict):
        raise ValueError("a policy is an object")
    if "kind" not in row and "apiVersion" not in row:
        return _oldest(row)
    if (row.get("apiVersion"), row.get("kind")) != (_VERSION, "Policy"):
        raise ValueError(f"it is no Policy of {_VERSION}")
    return _read(row.get("spec") or {})


def _read(spec: Any) -> AbacPolicy:
    if not isinstance(spec, dict):
        raise ValueError("spec is an object")
    names = ("user", "group", "apiGroup", "resource", "namespace", "nonResourcePath")
    if wrong := [name for name in names if not isinstance(spec.get(name, ""), str)]:
        raise ValueError(f"{wrong[0]} is a text")
    if not isinstance(spec.get("readonly", False), bool):
        raise ValueError("readonly is true or false")
    user, group, api_group, resource, namespace, path = (spec.get(name, "") for name in names)
    return AbacPolicy(user, group, spec.get("readonly", False), api_group, resource, namespace, path)


def _oldest(row: Object) -> AbacPolicy:
    """A line without a version: what it leaves out means everything, for every user that is known."""
    given = _read({name: row[name] for name in ("user", "group", "namespace", "resource", "readonly") if name in row})
    user, group = given.user, given.group
    if not (user or group) or "*" in (user, group):
        user, group = "", _AUTHENTICATED
    path = "" if given.namespace or given.resource else "*"
    return AbacPolicy(user, group, given.readonly, "*", given.resource or "*", given.namespace or "*", path)
