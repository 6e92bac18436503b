"""Which objects a node has to do with, through the pods that are bound to it: kept up with the caches change by change.

Source: https://kubernetes.io/docs/reference/access-authn-authz/node/
"""

from __future__ import annotations

from collections.abc import Iterator

from tiphys.api.object import Object
from tiphys.api.pods.references import Reference, references_of
from tiphys.apiserver.authz.following import Follower
from tiphys.apiserver.registry.registry import Registry
from tiphys.apiserver.storage.entry import Entry

Name = tuple[str, str]
"""Namespace and name."""


class PodsOfNodes(Follower):
    """The pods of each node. What a pod refers to is read when it is first requested."""

    def __init__(self, registry: Registry) -> None:
        super().__init__(registry)
        self._pods: dict[str, dict[str, Entry]] = {}
        self._references: dict[str, tuple[int, frozenset[Reference]]] = {}

    async def refer(self, node: str, wanted: Reference) -> bool:
        """Whether one of the node's pods is, or refers to, an object."""
        await self.refresh()
        return any(wanted in self._of(entry) for entry in self._pods.get(node, {}).values())

    def _of(self, entry: Entry) -> frozenset[Reference]:
        known = self._references.get(entry.key)
        if known is None or known[0] != entry.revision:
            references = frozenset((("pods", entry.namespace, entry.name), *references_of(self.registry.object(entry))))
            known = self._references[entry.key] = (entry.revision, references)
        return known[1]

    def clear(self) -> None:
        self._pods.clear()
        self._references.clear()

    def put(self, entry: Entry) -> None:
        if node := entry.fields[0]:
            self._pods.setdefault(node, {})[entry.key] = entry

    def drop(self, entry: Entry) -> None:
        self._references.pop(entry.key, None)
        node = entry.fields[0]
        pods = self._pods.get(node, {})
        pods.pop(entry.key, None)
        if not pods:
            self._pods.pop(node, None)


class ClaimsOfSecrets(Follower):
    """By secret, the claims that are bound to a volume that needs it."""

    def __init__(self, registry: Registry) -> None:
        super().__init__(registry)
        self._secrets: dict[str, tuple[Name, frozenset[Name]]] = {}
        """By key of the volume: its claim, and the secrets that it needs."""
        self._volumes: dict[Name, set[str]] = {}

    async def claims_of(self, secret: Name) -> set[Name]:
        await self.refresh()
        return {self._secrets[key][0] for key in self._volumes.get(secret, ())}

    def clear(self) -> None:
        self._secrets.clear()
        self._volumes.clear()

    def put(self, entry: Entry) -> None:
        if b'ecretRef":' not in entry.body and b'"secretName":' not in entry.body:
            return
        spec = self.registry.object(entry)["spec"]
        claim = claim_of(spec)
        secrets = frozenset(secrets_of_volume(spec, claim[0])) if claim is not None else frozenset()
        if claim is None or not secrets:
            return
        self._secrets[entry.key] = (claim, secrets)
        for secret in secrets:
            self._volumes.setdefault(secret, set()).add(entry.key)

    def drop(self, entry: Entry) -> None:
        known = self._secrets.pop(entry.key, None)
        for secret in () if known is None else known[1]:
            volumes = self._volumes[secret]
            volumes.discard(entry.key)
            if not volumes:
                del self._volumes[secret]


def claim_of(volume_spec: Object) -> Name | None:
    """The claim that a volume is bound to, as the volume says: claims may name volumes that are not theirs."""
    reference = volume_spec.get("claimRef")
    return None if reference is None else (reference.get("namespace", ""), reference.get("name", ""))


_WITH_SECRET = ("cephfs", "cinder", "flexVolume", "rbd", "scaleIO", "iscsi", "storageos")
_IN_OWN_NAMESPACE_ONLY = frozenset(("cinder", "storageos"))
_NODE_SECRETS = ("nodePublishSecretRef", "nodeStageSecretRef", "nodeExpandSecretRef")


def secrets_of_volume(spec: Object, claim_namespace: str) -> Iterator[Name]:
    """The secrets with which a node mounts a volume; those of the controller are not among them."""
    if (file := spec.get("azureFile")) is not None:
        if file.get("secretName"):
            yield file.get("secretNamespace") or claim_namespace, file["secretName"]
        return
    for source in _WITH_SECRET:
        reference = (spec.get(source) or {}).get("secretRef") or {}
        namespace = reference.get("namespace", "") or ("" if source in _IN_OWN_NAMESPACE_ONLY else claim_namespace)
        if reference.get("name"):
            yield namespace, reference["name"]
    for key in _NODE_SECRETS:
        reference = (spec.get("csi") or {}).get(key) or {}
        if reference.get("name"):
            yield reference.get("namespace", ""), reference["name"]
