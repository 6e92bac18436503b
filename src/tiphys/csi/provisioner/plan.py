"""What a claim asks of the driver, and the persistent volume that comes of the answer. Pure.

Source: https://kubernetes-csi.github.io/docs/external-provisioner.html
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tiphys.api.csi.capabilities import capability
from tiphys.api.meta.objects import annotations_of, name_of, namespace_of, uid_of
from tiphys.api.meta.quantity import Format, Quantity
from tiphys.api.object import Object
from tiphys.api.volumes.claims import SELECTED_NODE
from tiphys.api.volumes.matching import class_of, request
from tiphys.csi.provisioner import parameters, topology
from tiphys.csi.provisioner.parameters import SecretName

PROVISIONERS = ("volume.kubernetes.io/storage-provisioner", "volume.beta.kubernetes.io/storage-provisioner")
PROVISIONED_BY = "pv.kubernetes.io/provisioned-by"
FINALIZER = "external-provisioner.volume.kubernetes.io/finalizer"
_DELETION_SECRET = "volume.kubernetes.io/provisioner-deletion-secret"
_SECRET_FIELDS = {
    "controller-publish": "controllerPublishSecretRef",
    "node-stage": "nodeStageSecretRef",
    "node-publish": "nodePublishSecretRef",
    "controller-expand": "controllerExpandSecretRef",
    "node-expand": "nodeExpandSecretRef",
}


def is_asked_for(claim: Object, driver: str) -> bool:
    """Whether the claim has no volume, and the binder wants one from this driver for it."""
    if claim["spec"].get("volumeName") or claim["metadata"].get("deletionTimestamp"):
        return False
    annotations = annotations_of(claim)
    asked = [annotations[key] for key in PROVISIONERS if key in annotations]
    return bool(asked and asked[0] == driver)


def waits_for_consumer(storage_class: Object) -> bool:
    return bool(storage_class.get("volumeBindingMode") == "WaitForFirstConsumer")


def volume_name(claim: Object) -> str:
    """Of the persistent volume, and for the driver."""
    return f"pvc-{uid_of(claim)}"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Everything that decides how a claim's volume is made."""

    claim: Object
    storage_class: Object
    driver: str
    requirement: dict[str, Any] | None = None
    source: dict[str, Any] | None = None
    mutable: dict[str, str] | None = None
    single_node: bool = False
    default_fs_type: str = ""
    extra_metadata: bool = False

    @property
    def name(self) -> str:
        return volume_name(self.claim)

    @property
    def parameters(self) -> dict[str, str]:
        return self.storage_class.get("parameters") or {}

    @property
    def block(self) -> bool:
        return bool(self.claim["spec"].get("volumeMode") == "Block")

    @property
    def fs_type(self) -> str:
        return "" if self.block else parameters.fs_type(self.parameters, self.default_fs_type)

    def secret(self, purpose: str) -> SecretName | None:
        return parameters.secret(purpose, self.parameters, self.name, self.claim)


def create_request(wanted: Wanted) -> dict[str, Any]:
    """The fields of ``CreateVolumeRequest``, without secrets. Raises ``ParameterError``."""
    claim = wanted.claim
    given = parameters.for_driver(wanted.parameters)
    if wanted.extra_metadata:
        given |= {
            f"{parameters.PREFIX}pvc/name": name_of(claim),
            f"{parameters.PREFIX}pvc/namespace": namespace_of(claim),
            f"{parameters.PREFIX}pv/name": wanted.name,
        }
    options = wanted.storage_class.get("mountOptions") or ()
    fields: dict[str, Any] = {
        "name": wanted.name,
        "capacity_range": {"required_bytes": request(claim).value()},
        "parameters": given,
        "volume_capabilities": [
            capability(
                mode,
                block=wanted.block,
                fs_type=wanted.fs_type,
                mount_options=options,
                single_node=wanted.single_node,
            )
            for mode in claim["spec"].get("accessModes") or ()
        ],
    }
    if limit := ((claim["spec"].get("resources") or {}).get("limits") or {}).get("storage"):
        fields["capacity_range"]["limit_bytes"] = Quantity(limit).value()
    optional = {
        "accessibility_requirements": wanted.requirement,
        "volume_content_source": wanted.source,
        "mutable_parameters": wanted.mutable,
    }
    return fields | {name: value for name, value in optional.items() if value}


def persistent_volume(wanted: Wanted, made: Any, identity: str) -> Object:
    """The PersistentVolume of a claim, from the driver's ``Volume``. ``identity`` is the provisioner's."""
    claim, storage_class = wanted.claim, wanted.storage_class
    deletion = wanted.secret("provisioner")
    annotations = {
        PROVISIONED_BY: wanted.driver,
        f"{_DELETION_SECRET}-name": deletion[1] if deletion else "",
        f"{_DELETION_SECRET}-namespace": deletion[0] if deletion else "",
    }
    policy = storage_class.get("reclaimPolicy") or "Delete"
    meta: Object = {"name": wanted.name, "annotations": annotations, "finalizers": [FINALIZER]}
    if policy != "Delete":
        del meta["finalizers"]
    spec: Object = {
        "accessModes": claim["spec"].get("accessModes"),
        "capacity": {"storage": str(Quantity.of(made.capacity_bytes or request(claim).value(), Format.BINARY_SI))},
        "claimRef": _reference(claim),
        "csi": _source(wanted, made, identity),
        "persistentVolumeReclaimPolicy": policy,
        "storageClassName": class_of(claim),
        "volumeMode": claim["spec"].get("volumeMode") or "Filesystem",
    }
    if options := storage_class.get("mountOptions"):
        spec["mountOptions"] = options
    if attributes := claim["spec"].get("volumeAttributesClassName"):
        spec["volumeAttributesClassName"] = attributes
    if affinity := topology.node_affinity(made.accessible_topology):
        spec["nodeAffinity"] = affinity
    return {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": meta, "spec": spec}


def _source(wanted: Wanted, made: Any, identity: str) -> Object:
    attributes = {**made.volume_context, "storage.kubernetes.io/csiProvisionerIdentity": identity}
    source: Object = {"driver": wanted.driver, "volumeHandle": made.volume_id, "volumeAttributes": attributes}
    if wanted.fs_type:
        source["fsType"] = wanted.fs_type
    for purpose, field in _SECRET_FIELDS.items():
        if name := wanted.secret(purpose):
            source[field] = {"namespace": name[0], "name": name[1]}
    return source


def _reference(claim: Object) -> Object:
    meta = claim["metadata"]
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "namespace": meta["namespace"],
        "name": meta["name"],
        "uid": meta["uid"],
        "resourceVersion": meta.get("resourceVersion", ""),
    }


def deletion_secret(volume: Object) -> SecretName | None:
    annotations = annotations_of(volume)
    name, namespace = (annotations.get(f"{_DELETION_SECRET}-{part}") for part in ("name", "namespace"))
    return (namespace, name) if name and namespace else None


def selected_node(claim: Object) -> str:
    return annotations_of(claim).get(SELECTED_NODE, "")
