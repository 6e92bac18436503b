"""Nobody grants what they do not hold: who writes a role or a binding must have every right that it gives.

The verbs ``escalate`` (on roles) and ``bind`` (on the role that a binding names) lift this, and so does membership of
``system:masters``.
Source: https://kubernetes.io/docs/reference/access-authn-authz/rbac/#privilege-escalation-prevention-and-bootstrapping
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from tiphys.api import errors
from tiphys.api.gotext import quote
from tiphys.api.object import Object
from tiphys.apiserver.aside import aside
from tiphys.apiserver.authz.authorizer import EVERYTHING, MASTERS, Access, Authorizer
from tiphys.apiserver.authz.rbac import GROUP, RBAC
from tiphys.apiserver.authz.rules import Rule, count_parts, read_rules, uncovered, uncovered_rules
from tiphys.apiserver.call import User
from tiphys.apiserver.registry.registries import Registries
from tiphys.apiserver.registry.strategy import Write

_NO_AGGREGATION = "must have cluster-admin privileges to use the aggregationRule"
_PARTS_ON_LOOP = 500
_MOST_PARTS = 50_000
"""Of the rules that the writer does not hold whole; upstream has no bound, and compares for as long as it takes."""
_PLURALS = {"ClusterRole": "clusterroles", "Role": "roles"}


class EscalationGuard:
    def __init__(self, registries: Registries, authorizer: Authorizer, rbac: RBAC) -> None:
        self._registries = registries
        self._authorizer = authorizer
        self._rbac = rbac

    async def check_role(self, plural: str, new: Object, old: Object | None, write: Write) -> None:
        """Refuse a role that gives its writer's friends more than the writer has."""
        user, namespace = write.user, write.namespace
        if MASTERS in user.groups or (old is not None and only_collector_fields(new, old)):
            return
        meta = new["metadata"]
        # A POST names no object, so that a right to escalate by name is none to create.
        name = "" if write.verb == "create" else meta["name"]
        if await self._may(user, "escalate", plural, name, namespace):
            return
        if gained := await self._gained(user, namespace, new.get("rules") or []):
            raise errors.forbidden(GROUP, plural, meta.get("name", ""), gained)
        if any(_aggregates(role) for role in (new, old or {})) and await self._gained(user, namespace, EVERYTHING):
            raise errors.forbidden(GROUP, plural, meta.get("name", ""), _NO_AGGREGATION)

    async def check_binding(self, plural: str, new: Object, old: Object | None, write: Write) -> None:
        """Refuse a binding to a role that has more rights than the binding's writer."""
        user, namespace = write.user, write.namespace
        if MASTERS in user.groups or (old is not None and only_collector_fields(new, old)):
            return
        reference = new.get("roleRef") or {}
        kind, name = reference.get("kind", ""), reference.get("name", "")
        roles = _PLURALS.get(kind)
        if roles is None:
            raise errors.from_code(500, f"unsupported role reference kind: {quote(kind)}")
        if await self._may(user, "bind", roles, name, namespace):
            return
        entry = await self._role(roles, name, namespace)
        if entry is None:
            # Report the kind that the request is about, as upstream does.
            raise errors.not_found(GROUP, plural, name)
        if gained := await self._gained(user, namespace, entry.get("rules") or []):
            raise errors.forbidden(GROUP, plural, new["metadata"].get("name", ""), gained)

    async def _may(self, user: User, verb: str, plural: str, name: str, namespace: str) -> bool:
        access = Access(user, verb, GROUP, "*", plural, namespace=namespace, name=name)
        return (await self._authorizer.authorize(access)).allowed

    async def _role(self, roles: str, name: str, namespace: str) -> Object | None:
        if roles == "roles" and not namespace:
            raise errors.bad_request("Namespace parameter required.")
        registry = self._registries.get(GROUP, roles)
        entry = await registry.store.get(namespace if roles == "roles" else "", name)
        return None if entry is None else registry.object(entry)

    async def _gained(self, user: User, namespace: str, wanted: list[Object]) -> str:
        """What ``user`` would gain by these rules, in words; empty if that is nothing."""
        owned = await self._rbac.rules_of(user, namespace)
        rules, who = read_rules(owned.rules), f"user {quote(user.name)} (groups={_list(user.groups)})"
        if (parts := count_parts(uncovered_rules(rules, wanted))) > _MOST_PARTS:
            few = f"of which {_MOST_PARTS} can be compared"
            return f"{who} is attempting to grant {parts} single RBAC permissions, {few}"
        lines = await aside(lambda: _missing(rules, wanted)) if parts > _PARTS_ON_LOOP else _missing(rules, wanted)
        if not lines:
            return ""
        unknown = f"; resolution errors: [{owned.error}]" if owned.error else ""
        return f"{who} is attempting to grant RBAC permissions not currently held:\n{lines}{unknown}"


def _missing(owned: Sequence[Rule], wanted: Sequence[Object]) -> str:
    return "\n".join(sorted({describe(rule) for rule in compact(uncovered(owned, wanted))}))


def only_collector_fields(new: Object, old: Object) -> bool:
    """Whether an update changes nothing but what garbage collection needs to change."""
    return _without_collector_fields(new) == _without_collector_fields(old)


def _without_collector_fields(obj: Object) -> Object:
    ignored = ("ownerReferences", "finalizers", "managedFields", "selfLink")
    return {**obj, "metadata": {name: value for name, value in obj["metadata"].items() if name not in ignored}}


def _aggregates(role: Object) -> bool:
    return bool((role.get("aggregationRule") or {}).get("clusterRoleSelectors"))


def compact(rules: Iterable[Object]) -> list[Object]:
    """Rules that differ by their verbs only, as one each; rules about paths stay as they are."""
    merged: dict[Any, Object] = {}
    for rule in rules:
        key = tuple(tuple(rule.get(name, ())) for name in ("apiGroups", "resources", "resourceNames"))
        if "nonResourceURLs" in rule:
            key = (*rule["verbs"], *rule["nonResourceURLs"])
        known = merged.setdefault(key, {**rule, "verbs": []})
        known["verbs"] = known["verbs"] + rule["verbs"]
    return list(merged.values())


_DESCRIBED = {
    "APIGroups": "apiGroups",
    "Resources": "resources",
    "NonResourceURLs": "nonResourceURLs",
    "ResourceNames": "resourceNames",
    "Verbs": "verbs",
}


def describe(rule: Object) -> str:
    parts = [f"{title}:{_list(rule[name])}" for title, name in _DESCRIBED.items() if rule.get(name)]
    return "{" + ", ".join(parts) + "}"


def _list(items: Iterable[str]) -> str:
    return f"[{' '.join(quote(item) for item in items)}]"
