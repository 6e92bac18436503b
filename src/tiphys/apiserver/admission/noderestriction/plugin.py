"""NodeRestriction: a node writes only what is about itself and the pods that are bound to it.

Source: https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/#noderestriction
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from tiphys.api import errors
from tiphys.api.gotext import quote
from tiphys.api.object import Object
from tiphys.api.pods.references import MIRROR
from tiphys.apiserver.admission.attributes import CREATE, DELETE, UPDATE, Attributes
from tiphys.apiserver.admission.certificates import subject
from tiphys.apiserver.admission.noderestriction.audiences import Audiences
from tiphys.apiserver.admission.noderestriction.labels import forbidden_labels
from tiphys.apiserver.admission.noderestriction.mirrorpods import UnknownSource, api_objects
from tiphys.apiserver.admission.plugin import Plugin, forbid
from tiphys.apiserver.authz.authorizer import Authorizer
from tiphys.apiserver.authz.node import NODE_PREFIX, node_of
from tiphys.apiserver.registry.registries import Registries
from tiphys.validation.shared.common import equal

_NODE_SIGNERS = ("kubernetes.io/kubelet-serving", "kubernetes.io/kube-apiserver-client-kubelet")


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

    def __init__(self, registries: Registries, authorizer: Authorizer) -> None:
        self._registries = registries
        self._audiences = Audiences(registries, authorizer)
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
        """Refuse what a node may not do to pods. Raises 403."""
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
                if operation != UPDATE:
                    raise forbid(attributes, f"unexpected operation {quote(operation)}")
                if _node_name(attributes.old) != node:
                    reason = f"{who} can only update pod status for pods with spec.nodeName set to itself"
                    raise forbid(attributes, reason)
                if _labels(attributes.object) != _labels(attributes.old):
                    raise forbid(attributes, f"{who} cannot update labels through pod status")
                if _status(attributes.object, "resourceClaimStatuses") != _status(
                    attributes.old, "resourceClaimStatuses"
                ):
                    raise forbid(attributes, f"{who} cannot update resource claim statues")
                if _status(attributes.object, "extendedResourceClaimStatus") != _status(
                    attributes.old, "extendedResourceClaimStatus"
                ):
                    raise forbid(attributes, f"{who} cannot update extended resource claim status")
            case "eviction":
                pod = await self._find("pods", attributes.namespace, attributes.name)
                if _node_name(pod) != node:
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
        try:
            resource = api_objects(pod)
        except UnknownSource as error:
            raise forbid(attributes, f"error checking mirror pod for API references: {error}") from None
        if resource:
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
        uid = (await self._find("nodes", "", node))["metadata"]["uid"]
        if owner.get("uid") != uid:
            raise forbid(attributes, f"node {node} UID mismatch: expected {owner.get('uid')} got {uid}")

    # -- the node itself

    async def _node(self, node: str, attributes: Attributes) -> None:
        who = f"node {quote(node)}"
        if attributes.name != node:
            raise forbid(attributes, f"{who} is not allowed to modify node {quote(attributes.name)}")
        if attributes.operation == CREATE:
            if (attributes.new().get("spec") or {}).get("configSource") is not None:
                raise forbid(attributes, f"{who} is not allowed to create pods with a non-nil configSource")
            if labels := forbidden_labels(_labels(attributes.object), {}):
                raise forbid(attributes, f"{who} is not allowed to set the following labels: {', '.join(labels)}")
        elif attributes.operation == UPDATE:
            new, old = attributes.new(), attributes.old or {}
            source = (new.get("spec") or {}).get("configSource")
            if source is not None and source != (old.get("spec") or {}).get("configSource"):
                raise forbid(attributes, f"{who} is not allowed to update configSource to a new non-nil configSource")
            if (new.get("spec") or {}).get("taints") != (old.get("spec") or {}).get("taints"):
                raise forbid(attributes, f"{who} is not allowed to modify taints")
            if new["metadata"].get("ownerReferences") != old["metadata"].get("ownerReferences"):
                raise forbid(attributes, f"{who} is not allowed to modify ownerReferences")
            if labels := forbidden_labels(_labels(new), _labels(old)):
                raise forbid(attributes, f"is not allowed to modify labels: {', '.join(labels)}")

    async def _lease(self, node: str, attributes: Attributes) -> None:
        if attributes.namespace != "kube-node-lease":
            raise forbid(attributes, 'can only access leases in the "kube-node-lease" system namespace')
        if _object_name(attributes) != node:
            reason = "can only access node lease with the same name as the requesting node"
            raise forbid(attributes, reason)

    async def _csinode(self, node: str, attributes: Attributes) -> None:
        if _object_name(attributes) != node:
            raise forbid(attributes, "can only access CSINode with the same name as the requesting node")

    async def _slice(self, node: str, attributes: Attributes) -> None:
        if attributes.operation == UPDATE:
            return  # the authorizer has looked at the stored object
        obj = attributes.object if attributes.operation == CREATE else attributes.old
        if ((obj or {}).get("spec") or {}).get("nodeName", "") != node:
            verb = attributes.operation.lower()
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
        if attributes.operation != UPDATE:
            raise forbid(attributes, f"unexpected operation {quote(attributes.operation)}")
        new, old = _without_volume_status(attributes.new()), _without_volume_status(attributes.old or {})
        if not equal(new, old):
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
        pod = await self._find("pods", attributes.namespace, reference["name"])
        if pod["metadata"]["uid"] != reference["uid"]:
            raise forbid(
                attributes,
                f"the UID in the bound object reference ({reference['uid']}) does not match the UID in record."
                " The object might have been deleted and then recreated",
            )
        if _node_name(pod) != node:
            raise forbid(attributes, "node requested token bound to a pod scheduled on a different node")
        if problem := await self._audiences.problem(attributes.user, attributes.name, attributes.new(), pod):
            raise forbid(attributes, problem)

    async def _find(self, plural: str, namespace: str, name: str) -> Object:
        """Raises 404, which names the kind as upstream's caches do."""
        registry = self._registries.get("", plural)
        entry = await registry.store.get(namespace, name)
        if entry is None:
            raise errors.not_found("", plural.removesuffix("s"), name)
        return registry.object(entry)


def _node_name(pod: Object | None) -> str:
    return str(((pod or {}).get("spec") or {}).get("nodeName", ""))


def _object_name(attributes: Attributes) -> str:
    """The name of the object that is written; that of a new one is in the object itself."""
    if attributes.operation == CREATE and attributes.object is not None:
        return str(attributes.object["metadata"].get("name", ""))
    return attributes.name


def _status(pod: Object | None, field: str) -> Any:
    return ((pod or {}).get("status") or {}).get(field) or None


def _labels(obj: Object | None) -> dict[str, str]:
    return ((obj or {}).get("metadata") or {}).get("labels") or {}


def _without_volume_status(claim: Object) -> Object:
    meta = {k: v for k, v in claim["metadata"].items() if k not in ("resourceVersion", "managedFields")}
    changing = ("capacity", "conditions", "allocatedResources", "allocatedResourceStatuses")
    status = {k: v for k, v in (claim.get("status") or {}).items() if k not in changing}
    return {**claim, "metadata": meta, "status": status}
