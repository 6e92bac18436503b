"""NodeRestriction: a node writes only what is about itself and the pods that are bound to it.

Source: https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/#noderestriction
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from tiphys.api.gotext import quote
from tiphys.apiserver.admission.attributes import CREATE, DELETE, UPDATE, Attributes
from tiphys.apiserver.admission.certificates import subject
from tiphys.apiserver.admission.plugin import Plugin, forbid
from tiphys.apiserver.admission.serviceaccount import MIRROR
from tiphys.apiserver.authz.node import NODE_PREFIX, node_of
from tiphys.apiserver.authz.references import references_of
from tiphys.apiserver.registry.registries import Registries

Object = dict[str, Any]

_RESTRICTED = "node-restriction.kubernetes.io"
_KUBELET_LABELS = frozenset(
    (
        "kubernetes.io/hostname",
        "topology.kubernetes.io/zone",
        "topology.kubernetes.io/region",
        "failure-domain.beta.kubernetes.io/zone",
        "failure-domain.beta.kubernetes.io/region",
        "node.kubernetes.io/instance-type",
        "beta.kubernetes.io/instance-type",
        "kubernetes.io/os",
        "kubernetes.io/arch",
        "beta.kubernetes.io/os",
        "beta.kubernetes.io/arch",
        "node.kubernetes.io/windows-build",
    )
)
_NODE_SIGNERS = ("kubernetes.io/kubelet-serving", "kubernetes.io/kube-apiserver-client-kubelet")
_KUBELET_PREFIXES = ("kubelet.kubernetes.io", "node.kubernetes.io")


class NodeRestriction(Plugin):
    resources = frozenset(
        (
            ("", "pods"),
            ("", "nodes"),
            ("", "persistentvolumeclaims"),
            ("", "serviceaccounts"),
            ("coordination.k8s.io", "leases"),
            ("storage.k8s.io", "csinodes"),
            ("resource.k8s.io", "resourceslices"),
            ("certificates.k8s.io", "certificatesigningrequests"),
        )
    )
    operations = frozenset((CREATE, UPDATE, DELETE))
    subresources = None

    def __init__(self, registries: Registries) -> None:
        self._registries = registries
        self._checks: dict[str, Callable[[str, Attributes], Awaitable[None]]] = {
            "pods": self._pod,
            "nodes": self._node,
            "persistentvolumeclaims": self._claim,
            "serviceaccounts": self._account,
            "leases": self._lease,
            "csinodes": self._csinode,
            "resourceslices": self._slice,
            "certificatesigningrequests": self._certificate,
        }

    async def admit(self, attributes: Attributes) -> None:
        node = node_of(attributes.user)
        if node is None:
            return
        if not node:
            raise forbid(attributes, f"could not determine node from user {quote(attributes.user.name)}")
        await self._checks[attributes.plural](node, attributes)

    # -- pods

    async def _pod(self, node: str, attributes: Attributes) -> None:
        operation, who = attributes.operation, f"node {quote(node)}"
        match attributes.subresource:
            case "":
                if operation == CREATE:
                    await self._mirror_pod(node, attributes)
                elif operation == DELETE:
                    if _node_name(attributes.old) != node:
                        raise forbid(attributes, f"{who} can only delete pods with spec.nodeName set to itself")
                else:
                    reason = f"unexpected operation {quote(operation)}, {who} can only create and delete mirror pods"
                    raise forbid(attributes, reason)
            case "status":
                if _node_name(attributes.old) != node:
                    reason = f"{who} can only update pod status for pods with spec.nodeName set to itself"
                    raise forbid(attributes, reason)
                if _labels(attributes.object) != _labels(attributes.old):
                    raise forbid(attributes, f"{who} cannot update labels through pod status")
            case "eviction":
                pod = await self._registries.get("", "pods").find(attributes.namespace, attributes.name)
                if pod is not None and _node_name(pod) != node:
                    raise forbid(attributes, f"node {node} can only evict pods with spec.nodeName set to itself")
            case other:
                reason = f"unexpected pod subresource {quote(other)}, only 'status' and 'eviction' are allowed"
                raise forbid(attributes, reason)

    async def _mirror_pod(self, node: str, attributes: Attributes) -> None:
        """A node makes pods only to show what it runs from files."""
        pod, who = attributes.new(), f"node {quote(node)}"
        meta = pod["metadata"]
        if MIRROR not in (meta.get("annotations") or {}):
            reason = f"pod does not have {quote(MIRROR)} annotation, {who} can only create mirror pods"
            raise forbid(attributes, reason)
        if _node_name(pod) != node:
            raise forbid(attributes, f"{who} can only create pods with spec.nodeName set to itself")
        await self._check_owner(node, attributes, meta.get("ownerReferences") or [])
        place = {**pod, "metadata": {**meta, "namespace": attributes.namespace}}
        for resource, _, _ in references_of(place):
            raise forbid(attributes, f"{who} can not create pods that reference {resource}")

    async def _check_owner(self, node: str, attributes: Attributes, owners: list[Object]) -> None:
        who = f"node {quote(node)}"
        if len(owners) > 1:
            raise forbid(attributes, f"{who} can only create pods with a single owner reference set to itself")
        owner = owners[0] if owners else {}
        if (owner.get("apiVersion"), owner.get("kind"), owner.get("name")) != ("v1", "Node", node):
            raise forbid(attributes, f"{who} can only create pods with an owner reference set to itself")
        if not owner.get("controller"):
            reason = f"{who} can only create pods with a controller owner reference set to itself"
            raise forbid(attributes, reason)
        if owner.get("blockOwnerDeletion"):
            raise forbid(attributes, f"{who} must not set blockOwnerDeletion on an owner reference")
        nodes = self._registries.get("", "nodes")
        uid = nodes.object(await nodes.get("", node))["metadata"]["uid"]
        if owner.get("uid") != uid:
            raise forbid(attributes, f"node {node} UID mismatch: expected {owner.get('uid')} got {uid}")

    # -- the node itself

    async def _node(self, node: str, attributes: Attributes) -> None:
        who = f"node {quote(node)}"
        if attributes.name != node:
            raise forbid(attributes, f"{who} is not allowed to modify node {quote(attributes.name)}")
        if attributes.operation == CREATE:
            if found := _forbidden(_labels(attributes.object), {}):
                raise forbid(attributes, f"{who} is not allowed to set the following labels: {', '.join(found)}")
        elif attributes.operation == UPDATE:
            new, old = attributes.new(), attributes.old or {}
            if (new.get("spec") or {}).get("taints") != (old.get("spec") or {}).get("taints"):
                raise forbid(attributes, f"{who} is not allowed to modify taints")
            if new["metadata"].get("ownerReferences") != old["metadata"].get("ownerReferences"):
                raise forbid(attributes, f"{who} is not allowed to modify ownerReferences")
            if found := _forbidden(_labels(new), _labels(old)):
                raise forbid(attributes, f"is not allowed to modify labels: {', '.join(found)}")

    async def _lease(self, node: str, attributes: Attributes) -> None:
        if attributes.name != node and attributes.operation != DELETE:
            reason = "can only access node lease with the same name as the requesting node"
            raise forbid(attributes, reason)

    async def _csinode(self, node: str, attributes: Attributes) -> None:
        if attributes.name != node and attributes.operation != DELETE:
            raise forbid(attributes, "can only access CSINode with the same name as the requesting node")

    async def _slice(self, node: str, attributes: Attributes) -> None:
        found = attributes.object if attributes.operation == CREATE else attributes.old
        if ((found or {}).get("spec") or {}).get("nodeName", "") != node:
            verb = {CREATE: "create", DELETE: "delete"}.get(attributes.operation, "update")
            reason = f"can only {verb} ResourceSlice with the same NodeName as the requesting node"
            raise forbid(attributes, reason)

    async def _certificate(self, node: str, attributes: Attributes) -> None:
        """A node asks for certificates in its own name."""
        spec = attributes.new().get("spec") or {} if attributes.operation == CREATE else {}
        if spec.get("signerName") not in _NODE_SIGNERS:
            return
        if subject(attributes, spec.get("request", "")).common_names != (f"{NODE_PREFIX}{node}",):
            raise forbid(attributes, f"can only create a node CSR with CN={NODE_PREFIX}{node}")

    # -- what its pods use

    async def _claim(self, node: str, attributes: Attributes) -> None:
        if attributes.subresource != "status":
            raise forbid(attributes, "may only update PVC status")
        new, old = _without_volume_status(attributes.new()), _without_volume_status(attributes.old or {})
        if new != old:
            reason = (
                f"node {quote(node)} is not allowed to update fields other than status.quantity and status.conditions"
            )
            raise forbid(attributes, reason)

    async def _account(self, node: str, attributes: Attributes) -> None:
        """Tokens are for pods that run on the node."""
        if attributes.operation != CREATE or attributes.subresource != "token":
            return
        reference = attributes.new()["spec"].get("boundObjectRef") or {}
        bound = (reference.get("apiVersion"), reference.get("kind")) == ("v1", "Pod")
        if not bound or not reference.get("name"):
            raise forbid(attributes, "node requested token not bound to a pod")
        if not reference.get("uid"):
            raise forbid(attributes, "node requested token with a pod binding without a uid")
        pods = self._registries.get("", "pods")
        pod = pods.object(await pods.get(attributes.namespace, reference["name"]))
        if pod["metadata"]["uid"] != reference["uid"]:
            raise forbid(
                attributes,
                f"the UID in the bound object reference ({reference['uid']}) does not match the UID in record."
                " The object might have been deleted and then recreated",
            )
        if _node_name(pod) != node:
            raise forbid(attributes, "node requested token bound to a pod scheduled on a different node")


def _node_name(pod: Object | None) -> str:
    return str(((pod or {}).get("spec") or {}).get("nodeName", ""))


def _labels(obj: Object | None) -> dict[str, str]:
    return ((obj or {}).get("metadata") or {}).get("labels") or {}


def _without_volume_status(claim: Object) -> Object:
    meta = {k: v for k, v in claim["metadata"].items() if k not in ("resourceVersion", "managedFields")}
    changing = ("capacity", "conditions", "allocatedResources", "allocatedResourceStatuses")
    status = {k: v for k, v in (claim.get("status") or {}).items() if k not in changing}
    return {**claim, "metadata": meta, "status": status}


def _forbidden(new: dict[str, str], old: dict[str, str]) -> list[str]:
    """The labels that changed and that are not a node's to change."""
    changed = {key for key in new.keys() | old.keys() if new.get(key) != old.get(key)}
    return sorted(key for key in changed if _is_forbidden(key))


def _is_forbidden(key: str) -> bool:
    namespace = key.rpartition("/")[0]
    if _in_domain(namespace, _RESTRICTED):
        return True
    if not (_in_domain(namespace, "kubernetes.io") or _in_domain(namespace, "k8s.io")):
        return False
    return key not in _KUBELET_LABELS and not any(_in_domain(namespace, prefix) for prefix in _KUBELET_PREFIXES)


def _in_domain(namespace: str, domain: str) -> bool:
    return namespace == domain or namespace.endswith(f".{domain}")
