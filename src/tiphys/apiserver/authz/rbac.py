"""The RBAC authorizer: roles and bindings from the cache, indexed by subject.

The index follows the four resources change by change; decisions are remembered until the next change of any of them.
Source: https://kubernetes.io/docs/reference/access-authn-authz/rbac/
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from tiphys.api.fielderrors import aggregate
from tiphys.api.gotext import quote
from tiphys.api.meta.fingerprints import fingerprint
from tiphys.api.object import Object
from tiphys.apiserver.authn.serviceaccounts import PREFIX
from tiphys.apiserver.authz.authorizer import NO_OPINION, Access, Decision, UserRules, Verdict
from tiphys.apiserver.authz.following import Follower
from tiphys.apiserver.authz.rules import Rule, read_rules
from tiphys.apiserver.call import User
from tiphys.apiserver.registry.registries import Registries
from tiphys.apiserver.registry.registry import Registry
from tiphys.apiserver.storage.entry import Entry

GROUP = "rbac.authorization.k8s.io"
_MAX_REMEMBERED = 20_000
_MAX_REMEMBERED_SIZE = 512
"""Characters of a question; longer ones are decided each time."""


class RoleRules(NamedTuple):
    objects: list[Object]
    rules: tuple[Rule, ...]


@dataclass(slots=True)
class Grant:
    """One subject of one binding, which is named by its key; ``role`` is the role's namespace and name."""

    binding: str
    place: int
    """Which of the binding's subjects."""
    role: tuple[str, str]
    about: str
    """Describes the grant."""
    missing: str
    """What is said if there is no such role."""


class FollowedRoles(Follower):
    """Roles or cluster roles by namespace, which is empty for the latter, and name."""

    def __init__(self, registry: Registry) -> None:
        super().__init__(registry)
        self.by_name: dict[tuple[str, str], RoleRules] = {}

    def clear(self) -> None:
        self.by_name.clear()

    def put(self, entry: Entry) -> None:
        rules = self.registry.object(entry).get("rules") or []
        self.by_name[entry.namespace, entry.name] = RoleRules(rules, read_rules(rules))

    def drop(self, entry: Entry) -> None:
        self.by_name.pop((entry.namespace, entry.name), None)


class FollowedBindings(Follower):
    """The grants of role bindings or cluster role bindings, by the binding's namespace and the subject."""

    def __init__(self, registry: Registry) -> None:
        super().__init__(registry)
        self._grants: dict[tuple[str, str], dict[str, Grant]] = {}
        """By namespace and subject, the grant of each binding."""
        self._subjects: dict[str, set[tuple[str, str]]] = {}
        """By binding, where its grants are."""

    def of(self, user: User, namespace: str) -> list[Grant]:
        """The grants that apply to a user, in the order of the bindings' keys: of each binding its first."""
        first: dict[str, Grant] = {}
        for subject in subjects_of(user):
            for binding, grant in self._grants.get((namespace, subject), {}).items():
                known = first.get(binding)
                if known is None or grant.place < known.place:
                    first[binding] = grant
        return [first[binding] for binding in sorted(first)]

    def clear(self) -> None:
        self._grants.clear()
        self._subjects.clear()

    def put(self, entry: Entry) -> None:
        binding = self.registry.object(entry)
        reference, namespace = binding["roleRef"], entry.namespace
        role = (namespace if reference["kind"] == "Role" else "", reference["name"])
        missing = f"{reference['kind'].lower()}.rbac.authorization.k8s.io {quote(reference['name'])} not found"
        for number, subject in enumerate(binding.get("subjects") or ()):
            place = (namespace, _subject_key(subject, namespace))
            grant = Grant(entry.key, number, role, _describe(binding, subject), missing)
            self._grants.setdefault(place, {}).setdefault(entry.key, grant)
            self._subjects.setdefault(entry.key, set()).add(place)

    def drop(self, entry: Entry) -> None:
        for place in self._subjects.pop(entry.key, ()):
            of_subject = self._grants[place]
            del of_subject[entry.key]
            if not of_subject:
                del self._grants[place]


def subjects_of(user: User) -> Iterator[str]:
    yield f"User:{user.name}"
    for group in user.groups:
        yield f"Group:{group}"
    if user.name.startswith(PREFIX):
        yield f"ServiceAccount:{user.name[len(PREFIX) :]}"


class RbacSources:
    """What the four resources say."""

    def __init__(self, registries: Registries) -> None:
        self._cluster_roles = FollowedRoles(registries.get(GROUP, "clusterroles"))
        self._roles = FollowedRoles(registries.get(GROUP, "roles"))
        self._cluster_bindings = FollowedBindings(registries.get(GROUP, "clusterrolebindings"))
        self._bindings = FollowedBindings(registries.get(GROUP, "rolebindings"))
        self.followers = (self._cluster_roles, self._roles, self._cluster_bindings, self._bindings)

    def grants(self, user: User, namespace: str) -> Iterator[tuple[Grant, RoleRules | None]]:
        """What applies to a user, with its role: of the whole cluster first, then of the namespace."""
        grants = self._cluster_bindings.of(user, "")
        if namespace:
            grants += self._bindings.of(user, namespace)
        for grant in grants:
            table = self._roles if grant.role[0] else self._cluster_roles
            yield grant, table.by_name.get(grant.role)


class RBAC:
    def __init__(self, registries: Registries) -> None:
        self._registries = registries
        self._sources: RbacSources | None = None
        self._decisions: dict[Access, Decision] = {}

    async def authorize(self, access: Access) -> Decision:
        sources = await self._refreshed()
        decision = self._decisions.get(access)
        if decision is None:
            decision = _decide(sources, access)
            if access.size <= _MAX_REMEMBERED_SIZE:
                if len(self._decisions) >= _MAX_REMEMBERED:
                    self._decisions.clear()
                self._decisions[access] = decision
        return decision

    async def rules_of(self, user: User, namespace: str) -> UserRules:
        """All rules that apply to a user in a namespace, each once; the error names roles that do not exist."""
        sources = await self._refreshed()
        once: dict[str, Object] = {}
        missing: list[str] = []
        for grant, role in sources.grants(user, namespace):
            if role is None:
                missing.append(grant.missing)
                continue
            for rule in role.objects:
                once.setdefault(fingerprint(rule), rule)
        return UserRules(list(once.values()), aggregate(missing) if missing else "")

    async def _refreshed(self) -> RbacSources:
        """Read what has changed since; no decision outlives a change that anybody has read."""
        if self._sources is None:
            self._sources = RbacSources(self._registries)
        for follower in self._sources.followers:
            if await follower.refresh():
                self._decisions.clear()
        return self._sources


def _decide(sources: RbacSources, access: Access) -> Decision:
    missing: list[str] = []
    for grant, role in sources.grants(access.user, access.namespace):
        if role is None:
            missing.append(grant.missing)
        elif any(rule.allows(access) for rule in role.rules):
            return Decision(Verdict.ALLOW, f"RBAC: allowed by {grant.about}")
    return Decision(Verdict.NO_OPINION, f"RBAC: {aggregate(missing)}") if missing else NO_OPINION


def _subject_key(subject: Object, namespace: str) -> str:
    if subject["kind"] == "ServiceAccount":
        return f"ServiceAccount:{subject.get('namespace') or namespace}:{subject['name']}"
    return f"{subject['kind']}:{subject['name']}"


def _describe(binding: Object, subject: Object) -> str:
    meta, reference = binding["metadata"], binding["roleRef"]
    namespace = meta.get("namespace", "")
    name = f"{meta['name']}/{namespace}" if namespace else meta["name"]
    kind = "RoleBinding" if namespace else "ClusterRoleBinding"
    who = subject["name"]
    if subject["kind"] == "ServiceAccount":
        who = f"{who}/{subject.get('namespace') or namespace}"
    return f"{kind} {quote(name)} of {reference['kind']} {quote(reference['name'])} to {subject['kind']} {quote(who)}"
