"""Cluster role aggregation: a ClusterRole with an aggregation rule has the rules of all roles that it selects.

Source: https://kubernetes.io/docs/reference/access-authn-authz/rbac/#aggregated-clusterroles
"""

from __future__ import annotations

from collections.abc import Iterable

from tiphys.api.object import Object
from tiphys.client.informer import Callbacks
from tiphys.client.resources import CLUSTER_ROLES
from tiphys.controlkit.objects import (
    key_of,
    labels_of,
    name_of,
)
from tiphys.controlkit.selectors import label_selector
from tiphys.controllers.context import ControllerContext

MANAGER = "clusterrole-aggregation-controller"


def aggregated_rules(role: Object, roles: Iterable[Object]) -> list[Object]:
    """The rules of the selected roles, in order of the roles' names, each once."""
    rules: list[Object] = []
    others = sorted((other for other in roles if name_of(other) != name_of(role)), key=name_of)
    for selector in role["aggregationRule"].get("clusterRoleSelectors") or ():
        matches = label_selector(selector)
        for other in others:
            if matches(labels_of(other)):
                rules += [rule for rule in other.get("rules") or () if rule not in rules]
    return rules


class ClusterRoleAggregationController:
    def __init__(self, context: ControllerContext) -> None:
        self._client = context.client
        self._roles = context.informers.informer(CLUSTER_ROLES)
        self._controller = context.controller("ClusterRoleAggregator", self.reconcile, workers=5)
        self._controller.handles(self._roles, Callbacks(changed=self._changed))

    async def run(self) -> None:
        await self._controller.run()

    def _changed(self, role: Object) -> None:
        """Any role may be selected by any that aggregates."""
        for aggregating in self._roles.store.list():
            if aggregating.get("aggregationRule"):
                self._controller.queue.add(key_of(aggregating))

    async def reconcile(self, key: str) -> None:
        role = self._roles.store.get("", key)
        if role is None or not role.get("aggregationRule"):
            return
        rules = aggregated_rules(role, self._roles.store.list())
        if rules == (role.get("rules") or []):
            return
        wanted = {
            "kind": "ClusterRole",
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "metadata": {"name": name_of(role)},
            "rules": rules,
        }
        await self._client.apply(CLUSTER_ROLES, wanted, MANAGER, force=True)
