"""The graph of owners and dependents over all objects of the cluster: pure.

It is fed with what watches see, and answers which objects are worth a look: those that may have lost an owner, and
those that wait for their dependents. A node for an owner that is only known by reference is *virtual* until a watch
shows the owner or the API denies it; references can be wrong in kind, name or namespace, so identities are compared
as a whole. Source: https://kubernetes.io/docs/concepts/architecture/garbage-collection/ and
https://github.com/kubernetes/design-proposals-archive/blob/main/api-machinery/garbage-collection.md
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from tiphys.api.object import Object
from tiphys.controlkit.objects import (
    finalizers_of,
    is_deleting,
    name_of,
    namespace_of,
    uid_of,
)

FOREGROUND = "foregroundDeletion"
ORPHAN = "orphan"


@dataclass(frozen=True, slots=True, order=True)
class Identity:
    """What an object is, as a reference names it; ``namespace`` is empty for cluster-scoped ones."""

    kind: str
    api_version: str
    namespace: str
    name: str
    uid: str

    def __str__(self) -> str:
        return f"[{self.api_version}/{self.kind}, namespace: {self.namespace}, name: {self.name}, uid: {self.uid}]"


@dataclass(frozen=True, slots=True)
class Reference:
    """One owner reference."""

    api_version: str
    kind: str
    name: str
    uid: str
    blocks: bool

    def matches(self, identity: Identity) -> bool:
        return (self.uid, self.name, self.kind, self.api_version) == (
            identity.uid,
            identity.name,
            identity.kind,
            identity.api_version,
        )


def references_of(obj: Object) -> tuple[Reference, ...]:
    return tuple(
        Reference(r["apiVersion"], r["kind"], r["name"], r["uid"], bool(r.get("blockOwnerDeletion")))
        for r in obj["metadata"].get("ownerReferences") or ()
    )


@dataclass(slots=True, eq=False)
class ObjectNode:
    """One object. ``dependents`` are the uids of those that refer to it."""

    identity: Identity
    owners: tuple[Reference, ...] = ()
    dependents: dict[str, None] = field(default_factory=dict)
    virtual: bool = False
    being_deleted: bool = False
    deleting_dependents: bool = False


@dataclass(slots=True)
class CollectorWork:
    """Uids to look at:

    whether they can be deleted, or must orphan their dependents; and references to complain about.
    """

    delete: list[str] = field(default_factory=list)
    delete_later: list[str] = field(default_factory=list)
    orphan: list[str] = field(default_factory=list)
    wrong_namespace: list[tuple[ObjectNode, Reference]] = field(default_factory=list)


class Absent:
    """The last few hundred identities that the API said do not exist."""

    def __init__(self, size: int = 500) -> None:
        self._size = size
        self._known: dict[Identity, None] = {}

    def add(self, identity: Identity) -> None:
        self._known.pop(identity, None)
        self._known[identity] = None
        if len(self._known) > self._size:
            del self._known[next(iter(self._known))]

    def __contains__(self, identity: Identity) -> bool:
        return identity in self._known


class Graph:
    def __init__(self) -> None:
        self.nodes: dict[str, ObjectNode] = {}
        self.absent = Absent()

    # Queries

    def dependents(self, node: ObjectNode) -> list[ObjectNode]:
        return [self.nodes[uid] for uid in node.dependents if uid in self.nodes]

    def blocking_dependents(self, node: ObjectNode) -> list[ObjectNode]:
        """Dependents that must be deleted before ``node`` is, in foreground deletion."""
        uid = node.identity.uid
        return [dep for dep in self.dependents(node) if any(r.uid == uid and r.blocks for r in dep.owners)]

    # What watches see

    def observe(self, obj: Object, api_version: str, kind: str, old: Object | None = None) -> CollectorWork:
        """An object was added or changed."""
        work = CollectorWork()
        identity = Identity(kind, api_version, namespace_of(obj), name_of(obj), uid_of(obj))
        node = self.nodes.get(identity.uid)
        if node is not None and node.virtual:
            self._realize(node, identity, work)
        owners = references_of(obj)
        if node is None:
            node = ObjectNode(identity, owners, being_deleted=is_deleting(obj))
            node.deleting_dependents = node.being_deleted and FOREGROUND in finalizers_of(obj)
            self.nodes[identity.uid] = node
            self._add_to_owners(node, owners, work)
        else:
            if owners != node.owners:
                self._change_owners(node, owners, work)
            node.being_deleted = node.being_deleted or is_deleting(obj)
        self._transition(node, obj, old, work)
        return work

    def delete(self, uid: str) -> CollectorWork:
        """A watch saw that an object is gone."""
        node = self.nodes.get(uid)
        return self._remove(node) if node is not None else CollectorWork()

    def deny(self, identity: Identity) -> CollectorWork:
        """The API says that no such object exists, though something refers to it."""
        node = self.nodes.get(identity.uid)
        if node is None:
            return CollectorWork()
        if node.virtual:
            return self._deny_virtual(node, identity)
        if node.identity != identity:
            matching, _ = self._partition(self.dependents(node), identity)
            return self._lost_owner(identity, matching)
        return self._remove(node)

    # Steps

    def _realize(self, node: ObjectNode, identity: Identity, work: CollectorWork) -> None:
        """A virtual node's object was seen; dependents that named it wrongly must be looked at."""
        if node.identity != identity:
            _, wrong = self._partition(self.dependents(node), identity)
            for dependent in wrong:
                if identity.namespace and dependent.identity.namespace != identity.namespace:
                    self._complain(dependent, identity.uid, work)
                work.delete.append(dependent.identity.uid)
            node.identity = identity
        node.virtual = False

    def _add_to_owners(self, node: ObjectNode, owners: Iterable[Reference], work: CollectorWork) -> None:
        doubtful = False
        own = node.identity
        for reference in owners:
            owner = self.nodes.get(reference.uid)
            if owner is None:
                identity = Identity(reference.kind, reference.api_version, own.namespace, reference.name, reference.uid)
                owner = self.nodes[reference.uid] = ObjectNode(identity, virtual=True)
                work.delete.append(reference.uid)
            else:
                doubtful |= self._is_doubtful(node, owner, reference, work)
            owner.dependents[own.uid] = None
        if doubtful:
            work.delete.append(own.uid)

    def _is_doubtful(self, node: ObjectNode, owner: ObjectNode, reference: Reference, work: CollectorWork) -> bool:
        """Whether a reference does not name its owner's node exactly."""
        namespace = owner.identity.namespace
        if namespace and namespace != node.identity.namespace:
            if not owner.virtual:
                self._complain(node, reference.uid, work)
            return True
        if not reference.matches(owner.identity):
            return True
        return not namespace and namespace != node.identity.namespace and owner.virtual

    def _complain(self, node: ObjectNode, owner_uid: str, work: CollectorWork) -> None:
        wrong = next((reference for reference in node.owners if reference.uid == owner_uid), None)
        if wrong is not None:
            work.wrong_namespace.append((node, wrong))

    def _change_owners(self, node: ObjectNode, owners: tuple[Reference, ...], work: CollectorWork) -> None:
        before = {reference.uid: reference for reference in node.owners}
        after = {reference.uid: reference for reference in owners}
        for uid, reference in before.items():
            changed = after.get(uid)
            if reference.blocks and (changed is None or not changed.blocks) and uid in self.nodes:
                work.delete.append(uid)  # the owner may be deletable now
            if changed is None and uid in self.nodes:
                self.nodes[uid].dependents.pop(node.identity.uid, None)
        node.owners = owners
        self._add_to_owners(node, [r for r in owners if r.uid not in before], work)

    def _transition(self, node: ObjectNode, obj: Object, old: Object | None, work: CollectorWork) -> None:
        if _begins(old, obj, ORPHAN):
            work.orphan.append(node.identity.uid)
        elif _begins(old, obj, FOREGROUND):
            node.deleting_dependents = True
            work.delete += [*node.dependents, node.identity.uid]

    def _remove(self, node: ObjectNode) -> CollectorWork:
        self.nodes.pop(node.identity.uid, None)
        for reference in node.owners:
            if (owner := self.nodes.get(reference.uid)) is not None:
                owner.dependents.pop(node.identity.uid, None)
        work = self._lost_owner(node.identity, self.dependents(node))
        for reference in node.owners:
            owner = self.nodes.get(reference.uid)
            if owner is not None and owner.deleting_dependents:
                work.delete.append(reference.uid)
        return work

    def _lost_owner(self, identity: Identity, dependents: Iterable[ObjectNode]) -> CollectorWork:
        uids = [dependent.identity.uid for dependent in dependents]
        if uids:
            self.absent.add(identity)
        return CollectorWork(delete=uids)

    def _deny_virtual(self, node: ObjectNode, identity: Identity) -> CollectorWork:
        matching, others = self._partition(self.dependents(node), identity)
        if not others:
            return self._remove(node)
        work = self._lost_owner(identity, matching)
        if node.identity == identity:
            alternate = _alternate(others, identity)
            if alternate is not None:
                node.identity = alternate
                work.delete_later.append(node.identity.uid)
        return work

    @staticmethod
    def _partition(dependents: Iterable[ObjectNode], owner: Identity) -> tuple[list[ObjectNode], list[ObjectNode]]:
        """Dependents whose references name ``owner`` exactly, and those that name its uid otherwise."""
        matching, others = [], []
        for dependent in dependents:
            if owner.namespace and owner.namespace != dependent.identity.namespace:
                others.append(dependent)
                continue
            named = [reference for reference in dependent.owners if reference.uid == owner.uid]
            if any(reference.matches(owner) for reference in named):
                matching.append(dependent)
            if any(not reference.matches(owner) for reference in named):
                others.append(dependent)
        return matching, others


def _begins(old: Object | None, new: Object, finalizer: str) -> bool:
    """Whether the object is now being deleted with this finalizer, and was not before."""
    if not is_deleting(new) or finalizer not in finalizers_of(new):
        return False
    return old is None or not is_deleting(old) or finalizer not in finalizers_of(old)


def _alternate(dependents: Iterable[ObjectNode], denied: Identity) -> Identity | None:
    """Another identity by which dependents name the same uid:

    the next in order after the one denied, else the first.
    """
    owners: set[Identity] = set()
    for dependent in dependents:
        for reference in dependent.owners:
            if reference.uid != denied.uid:
                continue
            namespace = dependent.identity.namespace
            if reference.matches(denied) and denied.namespace in ("", namespace):
                continue
            same_kind = (reference.api_version, reference.kind) == (denied.api_version, denied.kind)
            if not denied.namespace and same_kind:
                namespace = ""
            owners.add(Identity(reference.kind, reference.api_version, namespace, reference.name, reference.uid))
    owners.discard(denied)
    following = [identity for identity in owners if identity > denied]
    return min(following, default=None) or min(owners, default=None)
