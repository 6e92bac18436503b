"""The default RBAC policy, read from ``rbac.txt`` beside this file.

The text names a role or binding per line, and below each role its rules: ``VERBS GROUPS RESOURCES [= NAMES]``,
``VERBS @ PATHS`` or ``+ LABEL`` for an aggregation. ``controller`` lines are a cluster role with the service account of
the same name bound to it. Source: https://kubernetes.io/docs/reference/access-authn-authz/rbac/#default-roles-and-role-bindings
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.resources import files

from tiphys.api.object import Object

_API = "rbac.authorization.k8s.io"
_CONTROLLER = "system:controller:"


@dataclass(slots=True)
class BootstrapPolicy:
    """Objects by plural, in order."""

    clusterroles: list[Object] = field(default_factory=list)
    clusterrolebindings: list[Object] = field(default_factory=list)
    roles: list[Object] = field(default_factory=list)
    rolebindings: list[Object] = field(default_factory=list)


@lru_cache(maxsize=1)
def bootstrap_policy() -> BootstrapPolicy:
    """The default policy. Shared: do not change it."""
    policy = BootstrapPolicy()
    for header, rules in _paragraphs():
        _add(policy, header.split(" "), rules)
    return policy


def node_rules() -> list[Object]:
    """The rules of ``system:node``, which the node authorizer uses too."""
    node_role = next(role for role in bootstrap_policy().clusterroles if role["metadata"]["name"] == "system:node")
    rules: list[Object] = node_role["rules"]
    return rules


def _paragraphs() -> Iterator[tuple[str, list[str]]]:
    text = files("tiphys.apiserver.bootstrap").joinpath("rbac.txt").read_text(encoding="utf-8")
    header, rules = "", []
    for line in text.splitlines():
        if line.startswith("  "):
            rules.append(line[2:])
            continue
        if header:
            yield header, rules
        header, rules = line, []
    yield header, rules


def _add(policy: BootstrapPolicy, words: list[str], rules: list[str]) -> None:
    kind, name, *rest = words
    labels = {f"rbac.authorization.k8s.io/{word[1:]}": "true" for word in rest if word.startswith(":")}
    match kind:
        case "clusterrole":
            policy.clusterroles.append(_role("ClusterRole", name, labels, rules))
        case "controller":
            full = _CONTROLLER + name
            policy.clusterroles.append(_role("ClusterRole", full, labels, rules))
            subject = f"ServiceAccount:kube-system/{name}"
            policy.clusterrolebindings.append(_binding("ClusterRoleBinding", full, full, [subject]))
        case "clusterrolebinding":
            policy.clusterrolebindings.append(_binding("ClusterRoleBinding", name, rest[0], rest[1:]))
        case "role":
            policy.roles.append(_role("Role", name, labels, rules))
        case "rolebinding":
            policy.rolebindings.append(_binding("RoleBinding", name, rest[0], rest[1:]))
        case _:
            raise ValueError(f"rbac.txt: unknown line {' '.join(words)!r}")


def _object(kind: str, name: str, labels: dict[str, str]) -> Object:
    namespace, slash, own = name.partition("/")
    meta: Object = {"name": own if slash else name}
    if slash:
        meta["namespace"] = namespace
    meta["labels"] = {"kubernetes.io/bootstrapping": "rbac-defaults", **labels}
    meta["annotations"] = {"rbac.authorization.kubernetes.io/autoupdate": "true"}
    return {"kind": kind, "apiVersion": f"{_API}/v1", "metadata": meta}


def _role(kind: str, name: str, labels: dict[str, str], lines: list[str]) -> Object:
    rules = [_rule(line) for line in lines if not line.startswith("+ ")]
    role = _object(kind, name, labels) | {"rules": rules or None}
    selectors = [{"matchLabels": {f"{_API}/{line[2:]}": "true"}} for line in lines if line.startswith("+ ")]
    if selectors:
        role["aggregationRule"] = {"clusterRoleSelectors": selectors}
    return role


def _rule(line: str) -> Object:
    verbs, second, *rest = line.split(" ")
    if second == "@":
        return {"verbs": verbs.split(","), "nonResourceURLs": rest}
    groups = ["" if group == "core" else group for group in second.split(",")]
    rule: Object = {"verbs": verbs.split(","), "apiGroups": groups, "resources": rest[0].split(",")}
    if rest[1:2] == ["="]:
        rule["resourceNames"] = rest[2:]
    return rule


def _binding(kind: str, name: str, role: str, subjects: list[str]) -> Object:
    binding = _object(kind, name, {})
    if subjects and any(subjects):
        binding["subjects"] = [_subject(text) for text in subjects if text]
    role_kind = "ClusterRole" if kind == "ClusterRoleBinding" else "Role"
    return binding | {"roleRef": {"apiGroup": _API, "kind": role_kind, "name": role}}


def _subject(text: str) -> Object:
    kind, _, name = text.partition(":")
    if kind == "ServiceAccount":
        namespace, _, own = name.partition("/")
        return {"kind": kind, "name": own, "namespace": namespace}
    return {"kind": kind, "apiGroup": _API, "name": name}
