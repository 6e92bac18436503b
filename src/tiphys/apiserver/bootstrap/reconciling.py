"""Default roles and bindings that exist: what a server finds missing in them when it starts, it adds.

Nothing is taken away but an aggregation that the role is not to have. Who wants one of them as it is sets its
annotation ``rbac.authorization.kubernetes.io/autoupdate`` to ``false``. Source:
https://kubernetes.io/docs/reference/access-authn-authz/rbac/#auto-reconciliation
"""

from __future__ import annotations

import logging

from tiphys.api import errors
from tiphys.api.meta.copying import copy
from tiphys.api.object import Object
from tiphys.apiserver.authz.rules import read_rules, uncovered
from tiphys.apiserver.registry import updating
from tiphys.apiserver.registry.making import delete_own, make, make_if_missing, owned, prepared
from tiphys.apiserver.registry.registry import Registry

log = logging.getLogger(__name__)

_UPDATED = "rbac.authorization.kubernetes.io/autoupdate"


def reconciled(existing: Object, expected: Object) -> Object:
    """The role or binding with what it lacks of the default one, in an object of its own. Pure."""
    new = copy(existing)
    meta = new["metadata"]
    for key in ("annotations", "labels"):
        if wanted := expected["metadata"].get(key):
            meta[key] = {**wanted, **(meta.get(key) or {})}
    if "roleRef" in expected:
        subjects = expected.get("subjects") or []
        known = {_subject(subject) for subject in existing.get("subjects") or ()}
        if missing := [subject for subject in subjects if _subject(subject) not in known]:
            new["subjects"] = [*(existing.get("subjects") or ()), *copy(missing)]
        return new
    owned_rules, rules = existing.get("rules") or [], expected.get("rules") or []
    if owned_rules != rules and (missing := uncovered(read_rules(owned_rules), rules)):
        new["rules"] = [*owned_rules, *missing]
    selectors = _selectors(expected)
    if expected.get("aggregationRule") is None:
        new.pop("aggregationRule", None)
    elif missing := [selector for selector in selectors if selector not in _selectors(existing)]:
        new["aggregationRule"] = {"clusterRoleSelectors": [*_selectors(existing), *copy(missing)]}
    return new


def _selectors(role: Object) -> list[Object]:
    return (role.get("aggregationRule") or {}).get("clusterRoleSelectors") or []


def _subject(subject: Object) -> tuple[str, ...]:
    return tuple(subject.get(name) or "" for name in ("kind", "apiGroup", "name", "namespace"))


async def reconcile(registry: Registry, expected: Object) -> None:
    """Make a default role or binding, or add to the one that exists what it lacks."""
    meta = expected["metadata"]
    namespace, name = meta.get("namespace", ""), meta["name"]
    await registry.store.cacher.ready()
    entry = registry.store.cacher.get(registry.store.key(namespace, name))
    if entry is None:
        await make_if_missing(registry, expected)
        return
    existing = registry.shared_object(entry)
    leads_elsewhere = existing.get("roleRef") != expected.get("roleRef")
    if not leads_elsewhere and reconciled(existing, expected) == existing:
        return
    what = f"{registry.resource.plural}.{registry.strategy.gvk.group}/{name}"
    if (existing["metadata"].get("annotations") or {}).get(_UPDATED) == "false":
        log.warning("skipped reconcile-protected %s, which lacks some of what it has by default", what)
        return
    try:
        if leads_elsewhere:
            await delete_own(registry, namespace, name)
            await make(registry, expected)
        else:
            await _add(registry, namespace, name, expected)
    except errors.StatusError as error:
        log.error("unable to reconcile %s: %s", what, error)
    else:
        log.info("reconciled %s with what it lacked of its default", what)


async def _add(registry: Registry, namespace: str, name: str, expected: Object) -> None:
    write = registry.write_context(namespace=namespace)

    async def transform(stored: Object | None) -> Object:
        if stored is None:
            raise errors.not_found(registry.strategy.gvk.group, registry.resource.plural, name)
        return owned(registry, stored, prepared(registry, reconciled(stored, expected)), write)

    await updating.update(registry, updating.Update(namespace, name, transform, updating.ObjectRules(registry)), write)
