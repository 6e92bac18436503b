"""The node authorizer: a node reads what its pods need, and writes what is about itself and its pods.

What a node's pods refer to is found when a node asks: from the pods that are bound to it, in the cache. Source:
https://kubernetes.io/docs/reference/access-authn-authz/node/
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any

from tiphys.apiserver.authz.authorizer import ALLOWED, NO_OPINION, Access, Decision, Verdict
from tiphys.apiserver.authz.references import references_of
from tiphys.apiserver.authz.rules import Rule
from tiphys.apiserver.call import User
from tiphys.apiserver.registry.registries import Registries

Object = dict[str, Any]

NODES, NODE_PREFIX = "system:nodes", "system:node:"
_OWN_VERBS = frozenset(("get", "create", "update", "patch", "delete"))


def node_of(user: User) -> str | None:
    """The name of the node that a user is; None for everybody else."""
    if user.name.startswith(NODE_PREFIX) and NODES in user.groups:
        return user.name[len(NODE_PREFIX) :]
    return None


def no(reason: str = "") -> Decision:
    return Decision(Verdict.NO_OPINION, reason)


@dataclass(frozen=True, slots=True)
class _Known:
    pods: tuple[int, ...]
    references: frozenset[tuple[str, str, str]]


class NodeAuthorizer:
    """``rules`` is what every node may do with resources that are not told apart by node."""

    def __init__(self, registries: Registries, rules: tuple[Rule, ...]) -> None:
        self._registries = registries
        self._rules = rules
        self._known: dict[str, _Known] = {}
        self._special: dict[tuple[str, str], Callable[[str, Access], Awaitable[Decision]]] = {
            ("", "secrets"): self._read,
            ("", "configmaps"): self._read,
            ("", "persistentvolumeclaims"): self._claim,
            ("", "persistentvolumes"): self._get,
            ("resource.k8s.io", "resourceclaims"): self._get,
            ("storage.k8s.io", "volumeattachments"): self._get,
            ("", "serviceaccounts"): self._account,
            ("coordination.k8s.io", "leases"): self._lease,
            ("storage.k8s.io", "csinodes"): self._csinode,
            ("resource.k8s.io", "resourceslices"): self._slice,
            ("", "nodes"): self._node,
            ("", "pods"): self._pod,
        }

    async def authorize(self, access: Access) -> Decision:
        node = node_of(access.user)
        if node is None:
            return NO_OPINION
        if not node:
            return no(f'unknown node for user "{access.user.name}"')
        special = self._special.get((access.group, access.resource))
        if special is not None:
            return await special(node, access)
        return ALLOWED if any(rule.allows(access) for rule in self._rules) else NO_OPINION

    # -- kinds that a node reads where its pods refer to them

    async def _read(self, node: str, access: Access) -> Decision:
        if access.verb not in ("get", "list", "watch"):
            return no("can only read resources of this type")
        if access.subresource:
            return no("cannot read subresource")
        if not access.namespace:
            return no("can only read namespaced object of this type")
        return await self._related(node, access)

    async def _get(self, node: str, access: Access) -> Decision:
        if access.verb != "get":
            return no("can only get individual resources of this type")
        if access.subresource:
            return no("cannot get subresource")
        return await self._related(node, access)

    async def _claim(self, node: str, access: Access) -> Decision:
        if access.subresource != "status":
            return await self._get(node, access)
        if access.verb not in ("update", "patch"):
            return no("can only get/update/patch this type")
        return await self._related(node, access)

    async def _account(self, node: str, access: Access) -> Decision:
        if access.verb == "get" and not access.subresource:
            return await self._read(node, access)
        if access.verb != "create" or not access.name:
            return no("can only create tokens for individual service accounts")
        if access.subresource != "token":
            return no("can only create token subresource of serviceaccount")
        return await self._related(node, access)

    async def _related(self, node: str, access: Access) -> Decision:
        if not access.name:
            return no("No Object name found")
        if (access.resource, access.namespace, access.name) in await self._references(node):
            return ALLOWED
        return no(f"no relationship found between node '{node}' and this object")

    # -- kinds that a node has one of

    async def _lease(self, node: str, access: Access) -> Decision:
        if access.verb not in _OWN_VERBS:
            return no("can only get, create, update, patch, or delete a node lease")
        if access.namespace != "kube-node-lease":
            return no('can only access leases in the "kube-node-lease" system namespace')
        if access.verb != "create" and access.name != node:
            return no("can only access node lease with the same name as the requesting node")
        return ALLOWED

    async def _csinode(self, node: str, access: Access) -> Decision:
        if access.verb not in _OWN_VERBS:
            return no("can only get, create, update, patch, or delete a CSINode")
        if access.subresource:
            return no("cannot authorize CSINode subresources")
        if access.verb != "create" and access.name != node:
            return no("can only access CSINode with the same name as the requesting node")
        return ALLOWED

    async def _slice(self, node: str, access: Access) -> Decision:
        if access.subresource:
            return no("cannot authorize ResourceSlice subresources")
        if access.verb == "create":
            return ALLOWED
        if access.verb in ("get", "update", "patch", "delete"):
            entry = await self._registries.get(access.group, access.resource).store.cached("", access.name)
            own = entry is not None and entry.fields[:1] == (node,)
            return ALLOWED if own else no(f"no relationship found between node '{node}' and this object")
        if _selects(access, "spec.nodeName", node):
            return ALLOWED
        return no("can only list/watch/deletecollection resourceslices with nodeName field selector")

    async def _node(self, node: str, access: Access) -> Decision:
        if access.subresource == "status":
            return ALLOWED if access.verb in ("update", "patch") else NO_OPINION
        if access.subresource:
            return NO_OPINION
        if access.verb in ("create", "update", "patch") or access.name == node:
            return ALLOWED if access.verb in ("create", "update", "patch", "get", "list", "watch") else NO_OPINION
        if access.verb not in ("get", "list", "watch"):
            return NO_OPINION
        if not access.name:
            return no(f"node '{node}' cannot read all nodes, only its own Node object")
        return no(f"node '{node}' cannot read '{access.name}', only its own Node object")

    async def _pod(self, node: str, access: Access) -> Decision:
        """Writes are limited further by the NodeRestriction admission plugin."""
        match access.subresource, access.verb:
            case "", "get":
                return await self._related(node, access)
            case "", "list" | "watch":
                if _selects(access, "spec.nodeName", node):
                    return ALLOWED
                if access.name:
                    return await self._related(node, access)
                return no("can only list/watch pods with spec.nodeName field selector")
            case ("", "create" | "delete") | ("status", "update" | "patch") | ("eviction", "create"):
                return ALLOWED
        return NO_OPINION

    # -- what pods refer to

    async def _references(self, node: str) -> frozenset[tuple[str, str, str]]:
        """(resource, namespace, name) of everything that the pods of a node refer to."""
        registry = self._registries.get("", "pods")
        entries = [entry for entry in await registry.all() if entry.fields[0] == node]
        revisions = tuple(entry.revision for entry in entries)
        known = self._known.get(node)
        if known is None or known.pods != revisions:
            found: set[tuple[str, str, str]] = set()
            for entry in entries:
                found.update(references_of(registry.object(entry)))
                found.add(("pods", entry.namespace, entry.name))
            known = self._known[node] = _Known(revisions, frozenset(found))
        return known.references | frozenset([found async for found in self._through_volumes(node, known)])

    async def _through_volumes(self, node: str, known: _Known) -> Any:
        """Volumes behind claims, secrets behind volumes, and attachments to the node."""
        for resource, namespace, name in known.references:
            if resource != "persistentvolumeclaims":
                continue
            claim = await self._registries.get("", "persistentvolumeclaims").find(namespace, name)
            volume_name = (claim or {}).get("spec", {}).get("volumeName", "")
            if volume_name:
                yield ("persistentvolumes", "", volume_name)
                volume = await self._registries.get("", "persistentvolumes").find("", volume_name)
                for found in _volume_secrets((volume or {}).get("spec", {}), namespace):
                    yield found
        attachments = self._registries.get("storage.k8s.io", "volumeattachments")
        for entry in await attachments.all():
            if attachments.object(entry)["spec"].get("nodeName") == node:
                yield ("volumeattachments", "", entry.name)


def _volume_secrets(spec: Object, namespace: str) -> Iterator[tuple[str, str, str]]:
    csi = spec.get("csi") or {}
    for key in ("nodePublishSecretRef", "nodeStageSecretRef", "nodeExpandSecretRef"):
        if reference := csi.get(key):
            yield ("secrets", reference.get("namespace") or namespace, reference.get("name", ""))
    for source in ("azureFile", "cephfs", "flexVolume", "rbd", "scaleIO", "iscsi", "storageos"):
        if reference := (spec.get(source) or {}).get("secretRef"):
            yield ("secrets", reference.get("namespace") or namespace, reference.get("name", ""))


def _selects(access: Access, field: str, value: str) -> bool:
    wanted = (f"{field}={value}", f"{field}=={value}")
    return any(term.strip() in wanted for term in access.field_selector.split(","))
