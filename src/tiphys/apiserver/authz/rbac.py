"""The RBAC authorizer: roles and bindings from the cache, indexed by subject.

The index is rebuilt when one of the four resources has changed since, and decisions are remembered until then.
Source: https://kubernetes.io/docs/reference/access-authn-authz/rbac/
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from tiphys.api.gotext import quote
from tiphys.api.meta.fingerprints import fingerprint
from tiphys.api.object import Object
from tiphys.apiserver.authn.serviceaccounts import PREFIX
from tiphys.apiserver.authz.authorizer import NO_OPINION, Access, Decision, Verdict
from tiphys.apiserver.authz.rules import Rule, read_rules
from tiphys.apiserver.call import User
from tiphys.apiserver.registry.registries import Registries
from tiphys.apiserver.registry.registry import Registry
from tiphys.runtime.tasks import contain

GROUP = "rbac.authorization.k8s.io"
_PLURALS = ("clusterrolebindings", "clusterroles", "rolebindings", "roles")
_MAX_REMEMBERED = 20_000


@dataclass(slots=True)
class Grant:
    """One subject of one binding. ``rules`` is None if the role is missing; ``about`` describes the grant."""

    order: int
    rules: tuple[Rule, ...] | None
    objects: list[Object]
    about: str
    missing: str


@dataclass(slots=True)
class RoleGrants:
    """Grants by subject; those of role bindings by namespace first."""

    cluster: dict[str, list[Grant]] = field(default_factory=dict)
    spaces: dict[str, dict[str, list[Grant]]] = field(default_factory=dict)

    def grants(self, user: User, namespace: str) -> list[Grant]:
        """What applies to a user: of the whole cluster first, then of the namespace."""
        subjects = list(subjects_of(user))
        matching = [grant for subject in subjects for grant in self.cluster.get(subject, ())]
        matching.sort(key=lambda grant: grant.order)
        if namespace and (space := self.spaces.get(namespace)):
            local = [grant for subject in subjects for grant in space.get(subject, ())]
            matching += sorted(local, key=lambda grant: grant.order)
        return matching


def subjects_of(user: User) -> Iterator[str]:
    yield f"User:{user.name}"
    for group in user.groups:
        yield f"Group:{group}"
    if user.name.startswith(PREFIX):
        yield f"ServiceAccount:{user.name[len(PREFIX) :]}"


class RBAC:
    def __init__(self, registries: Registries) -> None:
        self._registries = registries
        self._sources: list[Registry] = []
        self._policy = RoleGrants()
        self._generations: tuple[int, ...] = ()
        self._decisions: dict[Access, Decision] = {}
        self._read: dict[str, tuple[int, Object]] = {}

    async def authorize(self, access: Access) -> Decision:
        await self.refresh()
        decision = self._decisions.get(access)
        if decision is None:
            if len(self._decisions) > _MAX_REMEMBERED:
                self._decisions.clear()
            decision = self._decisions[access] = self._decide(access)
        return decision

    def _decide(self, access: Access) -> Decision:
        missing: list[str] = []
        for grant in self._policy.grants(access.user, access.namespace):
            if grant.rules is None:
                missing.append(grant.missing)
            elif any(rule.allows(access) for rule in grant.rules):
                return Decision(Verdict.ALLOW, f"RBAC: allowed by {grant.about}")
        if not missing:
            return NO_OPINION
        text = missing[0] if len(missing) == 1 else f"[{', '.join(dict.fromkeys(missing))}]"
        return Decision(Verdict.NO_OPINION, f"RBAC: {text}")

    async def rules_of(self, user: User, namespace: str) -> list[Object]:
        """All rules that apply to a user in a namespace, as objects, each once."""
        await self.refresh()
        once: dict[str, Object] = {}
        for grant in self._policy.grants(user, namespace):
            for rule in grant.objects:
                once.setdefault(fingerprint(rule), rule)
        return list(once.values())

    # -- the index

    async def refresh(self) -> None:
        """Rebuild the index if its sources have changed."""
        if not self._sources:
            self._sources = [self._registries.get(GROUP, plural) for plural in _PLURALS]
        for registry in self._sources:
            await registry.store.cacher.ready()
        generations = tuple([registry.store.cacher.generation for registry in self._sources])
        if generations != self._generations:
            self._policy = self._build()
            self._decisions.clear()
            self._generations = generations

    def _build(self) -> RoleGrants:
        cluster_bindings, cluster_roles, bindings, roles = (self._objects(registry) for registry in self._sources)
        by_role = {("", role["metadata"]["name"]): role.get("rules") or [] for role in cluster_roles}
        for role in roles:
            meta = role["metadata"]
            by_role[meta["namespace"], meta["name"]] = role.get("rules") or []
        rules: dict[tuple[str, str], tuple[Rule, ...]] = {}

        def read(key: tuple[str, str], role_rules: list[Object]) -> None:
            rules[key] = read_rules(role_rules)

        for key, role_rules in by_role.items():
            contain(f"reading role {key}", read, key, role_rules)
        policy = RoleGrants()
        for order, binding in enumerate(cluster_bindings + bindings):
            contain("reading a binding", self._index, policy, order, binding, by_role, rules)
        return policy

    def _index(
        self,
        policy: RoleGrants,
        order: int,
        binding: Object,
        by_role: dict[tuple[str, str], list[Object]],
        rules: dict[tuple[str, str], tuple[Rule, ...]],
    ) -> None:
        reference, namespace = binding["roleRef"], binding["metadata"].get("namespace", "")
        place = namespace if reference["kind"] == "Role" else ""
        key = (place, reference["name"])
        missing = f"{reference['kind'].lower()}.rbac.authorization.k8s.io {quote(reference['name'])} not found"
        table = policy.spaces.setdefault(namespace, {}) if namespace else policy.cluster
        for subject in binding.get("subjects") or ():
            about = _describe(binding, subject)
            grant = Grant(order, rules.get(key), by_role.get(key, []), about, missing)
            table.setdefault(_subject_key(subject, namespace), []).append(grant)

    def _objects(self, registry: Registry) -> list[Object]:
        """The objects of a resource; one that has not changed is not read again."""
        objects = []
        for entry in registry.store.cacher.under(registry.store.prefix):
            known = self._read.get(entry.key)
            if known is None or known[0] != entry.revision:
                known = self._read[entry.key] = (entry.revision, registry.object(entry))
            objects.append(known[1])
        return objects


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
