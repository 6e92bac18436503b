"""Admission of storage: the default class, protection of what is in use, and growth.

Source: https://kubernetes.io/docs/concepts/storage/persistent-volumes/
"""

from __future__ import annotations

from tiphys.api.meta.quantity import parse
from tiphys.api.meta.timestamps import parse_seconds
from tiphys.api.object import Object
from tiphys.apiserver.admission.attributes import CREATE, UPDATE, Attributes
from tiphys.apiserver.admission.plugin import Plugin, forbid
from tiphys.apiserver.registry.registries import Registries

_DEFAULT_CLASS = ("storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class")
_BETA_CLASS = "volume.beta.kubernetes.io/storage-class"
_PROTECTION = {
    ("", "persistentvolumeclaims"): "kubernetes.io/pvc-protection",
    ("", "persistentvolumes"): "kubernetes.io/pv-protection",
    ("storage.k8s.io", "volumeattributesclasses"): "kubernetes.io/vac-protection",
}


class DefaultStorageClass(Plugin):
    """A claim that names no class gets the newest of those that are marked as default."""

    resources = frozenset((("", "persistentvolumeclaims"),))
    operations = frozenset((CREATE,))

    def __init__(self, registries: Registries) -> None:
        self._classes = registries.get("storage.k8s.io", "storageclasses")

    async def admit(self, attributes: Attributes) -> None:
        claim = attributes.new()
        if claim["spec"].get("storageClassName") is not None:
            return
        if _BETA_CLASS in (claim["metadata"].get("annotations") or {}):
            return
        default = await self._default()
        if default is not None:
            claim["spec"]["storageClassName"] = default["metadata"]["name"]

    async def _default(self) -> Object | None:
        classes = [self._classes.shared_object(entry) for entry in await self._classes.all()]
        marked = [candidate for candidate in classes if _is_marked(candidate)]
        if not marked:
            return None
        return min(marked, key=lambda c: (-parse_seconds(c["metadata"]["creationTimestamp"]), c["metadata"]["name"]))


def _is_marked(storage_class: Object) -> bool:
    annotations = storage_class["metadata"].get("annotations") or {}
    return any(annotations.get(name) == "true" for name in _DEFAULT_CLASS)


class StorageObjectInUseProtection(Plugin):
    """Claims, volumes and attributes classes are not removed while in use."""

    resources = frozenset(_PROTECTION)
    operations = frozenset((CREATE,))

    async def admit(self, attributes: Attributes) -> None:
        meta = attributes.new()["metadata"]
        finalizers = meta.get("finalizers") or []
        protection = _PROTECTION[attributes.resource.group, attributes.plural]
        if protection not in finalizers:
            meta["finalizers"] = [*finalizers, protection]


class PersistentVolumeClaimResize(Plugin):
    """A claim grows only if its class allows it."""

    resources = frozenset((("", "persistentvolumeclaims"),))
    operations = frozenset((UPDATE,))

    def __init__(self, registries: Registries) -> None:
        self._classes = registries.get("storage.k8s.io", "storageclasses")

    async def validate(self, attributes: Attributes) -> None:
        new, old = attributes.new(), attributes.old or {}
        if not _grows(new, old):
            return
        if (old.get("status") or {}).get("phase") != "Bound":
            raise forbid(attributes, "Only bound persistent volume claims can be expanded")
        name = old["spec"].get("storageClassName")
        storage_class = await self._classes.shared("", name) if name else None
        if storage_class is None or not storage_class.get("allowVolumeExpansion"):
            reason = (
                "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc"
                " must support resize"
            )
            raise forbid(attributes, reason)


def _grows(new: Object, old: Object) -> bool:
    after, before = _storage(new), _storage(old)
    return after is not None and before is not None and parse(before) < parse(after)


def _storage(claim: Object) -> str | None:
    requests = ((claim.get("spec") or {}).get("resources") or {}).get("requests") or {}
    return requests.get("storage")
