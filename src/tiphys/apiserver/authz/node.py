"""The node authorizer: a node reads what its pods need, and writes what is about itself and its pods.

What concerns a node follows from the pods that are bound to it (``relations``), as the caches show them. Source:
https://kubernetes.io/docs/reference/access-authn-authz/node/
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from tiphys.api.meta.selectors import FieldTerm, SelectorError, parse_field_selector
from tiphys.apiserver.authz.authorizer import ALLOWED, NO_OPINION, Access, Decision, UserRules, Verdict
from tiphys.apiserver.authz.relations import ClaimsOfSecrets, PodsOfNodes, claim_of
from tiphys.apiserver.authz.rules import Rule
from tiphys.apiserver.call import User
from tiphys.apiserver.registry.registries import Registries

NODES, NODE_PREFIX = "system:nodes", "system:node:"
_SLICE_VERBS = "get, watch, list, create, update, patch, delete, deletecollection"
_OWN_VERBS = frozenset(("get", "create", "update", "patch", "delete"))


def node_of(user: User) -> str | None:
    """The name of the node that a user is; None for everybody else."""
    if user.name.startswith(NODE_PREFIX) and NODES in user.groups:
        return user.name[len(NODE_PREFIX) :]
    return None


def no(reason: str = "") -> Decision:
    return Decision(Verdict.NO_OPINION, reason)


class NodeAuthorizer:
    """``rules`` is what every node may do with resources that are not divided by node."""

    def __init__(self, registries: Registries, rules: tuple[Rule, ...]) -> None:
        self._registries = registries
        self._rules = rules
        self._pods = PodsOfNodes(registries.get("", "pods"))
        self._secrets = ClaimsOfSecrets(registries.get("", "persistentvolumes"))
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

    async def rules_of(self, user: User, namespace: str) -> UserRules:
        if node_of(user) is None:
            return UserRules([])
        return UserRules([], "node authorizer does not support user rule resolution", incomplete=True)

    # -- kinds that a node reads if its pods refer to them

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
        if await self._is_related(node, access):
            return ALLOWED
        return no(f"no relationship found between node '{node}' and this object")

    async def _is_related(self, node: str, access: Access) -> bool:
        match access.resource:
            case "persistentvolumes":
                volume = await self._registries.get("", "persistentvolumes").find("", access.name)
                claim = None if volume is None else claim_of(volume["spec"])
                return claim is not None and await self._pods.refer(node, ("persistentvolumeclaims", *claim))
            case "volumeattachments":
                attachment = await self._registries.get(access.group, access.resource).find("", access.name)
                return attachment is not None and attachment["spec"].get("nodeName") == node
            case "resourceslices":
                entry = await self._registries.get(access.group, access.resource).store.cached("", access.name)
                return entry is not None and entry.fields[:1] == (node,)
        if await self._pods.refer(node, (access.resource, access.namespace, access.name)):
            return True
        return access.resource == "secrets" and await self._mounts(node, (access.namespace, access.name))

    async def _mounts(self, node: str, secret: tuple[str, str]) -> bool:
        """Whether a pod of the node uses a volume that is mounted with a secret."""
        for claim in await self._secrets.claims_of(secret):
            if await self._pods.refer(node, ("persistentvolumeclaims", *claim)):
                return True
        return False

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
            return await self._related(node, access)
        if access.verb not in ("list", "watch", "deletecollection"):
            return no(f"only the following verbs are allowed for a ResourceSlice: {_SLICE_VERBS}")
        if _selects(access, "spec.nodeName", node):
            return ALLOWED
        return no("can only list/watch/deletecollection resourceslices with nodeName field selector")

    async def _node(self, node: str, access: Access) -> Decision:
        """Writes are limited further by the NodeRestriction admission plugin."""
        match access.subresource, access.verb:
            case ("", "create" | "update" | "patch") | ("status", "update" | "patch"):
                return ALLOWED
            case "", "get" | "list" | "watch":
                return self._read_node(node, access)
        return NO_OPINION

    def _read_node(self, node: str, access: Access) -> Decision:
        if access.name == node:
            return ALLOWED
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


def _selects(access: Access, field: str, value: str) -> bool:
    """Whether the request is limited to objects with this value by its field selector."""
    if not access.field_selector:
        return False
    try:
        terms = parse_field_selector(access.field_selector).terms
    except SelectorError:
        return False
    return FieldTerm(field, value, equal=True) in terms
