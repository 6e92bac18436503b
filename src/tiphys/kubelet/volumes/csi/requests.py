"""A CSI volume as a pod asks for it, and what its driver hears of it. Pure.

Source: https://kubernetes-csi.github.io/docs/ and https://kubernetes.io/docs/concepts/storage/volumes/#csi
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from tiphys.api.object import Object
from tiphys.kubelet.pod import pods
from tiphys.kubelet.pod.pods import Pod

READ_WRITE_ONCE = "ReadWriteOnce"
_PREFIX = "csi.storage.k8s.io"
TOKENS = f"{_PREFIX}/serviceAccount.tokens"


@dataclass(frozen=True, slots=True)
class SecretName:
    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class CSIVolume:
    """``name`` is the persistent volume's, or the pod's name for an inline volume."""

    name: str
    driver: str
    handle: str
    ephemeral: bool = False
    block: bool = False
    read_only: bool = False
    fs_type: str = ""
    mount_options: tuple[str, ...] = ()
    access_modes: tuple[str, ...] = ()
    attributes: Mapping[str, str] = field(default_factory=dict)
    stage_secret: SecretName | None = None
    publish_secret: SecretName | None = None
    expand_secret: SecretName | None = None
    label: str = ""
    """The SELinux label that its pod's containers want for it."""

    @property
    def access_mode(self) -> str:
        return self.access_modes[0] if self.access_modes else READ_WRITE_ONCE


def inline_volume(pod: Pod, volume: Object) -> CSIVolume:
    """An ephemeral volume that stands in the pod itself."""
    source = volume["csi"]
    secret = (source.get("nodePublishSecretRef") or {}).get("name")
    digest = hashlib.sha256(f"{pods.uid_of(pod)}{volume['name']}".encode()).hexdigest()
    return CSIVolume(
        name=volume["name"],
        driver=source["driver"],
        handle=f"csi-{digest}",
        ephemeral=True,
        read_only=bool(source.get("readOnly")),
        fs_type=source.get("fsType") or "",
        attributes=source.get("volumeAttributes") or {},
        publish_secret=SecretName(pods.namespace_of(pod), secret) if secret else None,
    )


def persistent_volume(volume: Object, *, read_only: bool, label: str = "") -> CSIVolume:
    """``read_only`` is what the pod asks for; the volume may insist on it too."""
    spec = volume["spec"]
    source = spec["csi"]
    return CSIVolume(
        name=volume["metadata"]["name"],
        driver=source["driver"],
        handle=source["volumeHandle"],
        block=spec.get("volumeMode") == "Block",
        read_only=read_only or bool(source.get("readOnly")),
        fs_type=source.get("fsType") or "",
        mount_options=tuple(spec.get("mountOptions") or ()),
        access_modes=tuple(spec.get("accessModes") or ()),
        attributes=source.get("volumeAttributes") or {},
        stage_secret=_secret(source.get("nodeStageSecretRef")),
        publish_secret=_secret(source.get("nodePublishSecretRef")),
        expand_secret=_secret(source.get("nodeExpandSecretRef")),
        label=label,
    )


def _secret(reference: Object | None) -> SecretName | None:
    return SecretName(reference.get("namespace") or "", reference["name"]) if reference else None


def pod_attributes(pod: Pod, *, ephemeral: bool) -> dict[str, str]:
    """What a driver with ``podInfoOnMount`` hears of the pod."""
    return {
        f"{_PREFIX}/pod.name": pods.name_of(pod),
        f"{_PREFIX}/pod.namespace": pods.namespace_of(pod),
        f"{_PREFIX}/pod.uid": pods.uid_of(pod),
        f"{_PREFIX}/serviceAccount.name": pod["spec"].get("serviceAccountName") or "",
        f"{_PREFIX}/ephemeral": "true" if ephemeral else "false",
    }


def is_attachable(about: Object | None) -> bool:
    """``about`` is the CSIDriver object; a driver without one is taken to need attachments."""
    return about is None or about["spec"].get("attachRequired") is not False


def labelled(volume: CSIVolume, about: Object | None) -> CSIVolume:
    """The volume with the option that mounts it with its label, if its driver can, and one pod alone has it."""
    driver_can = ((about or {}).get("spec") or {}).get("seLinuxMount")
    if not volume.label or not driver_can or volume.block or volume.access_modes != ("ReadWriteOncePod",):
        return volume
    return replace(volume, mount_options=(*volume.mount_options, f'context="{volume.label}"'))


def lifecycle_problem(volume: CSIVolume, about: Object | None) -> str:
    """Why the driver cannot serve this kind of volume; empty if it can."""
    kind = "Ephemeral" if volume.ephemeral else "Persistent"
    modes: Sequence[str] = ((about or {}).get("spec") or {}).get("volumeLifecycleModes") or ("Persistent",)
    if about is None and volume.ephemeral:
        return f'volume mode "Ephemeral" not supported by driver {volume.driver} (no CSIDriver object)'
    if kind not in modes:
        supported = " ".join(f'"{mode}"' for mode in modes)
        return f'volume mode "{kind}" not supported by driver {volume.driver} (only supports [{supported}])'
    return ""


def kubelet_gives_group(volume: CSIVolume, about: Object | None, group: int | None) -> bool:
    """Whether files of the volume are to be given to the pod's group by the kubelet (fsGroupPolicy)."""
    policy = ((about or {}).get("spec") or {}).get("fsGroupPolicy") or "ReadWriteOnceWithFSType"
    if group is None or policy == "None" or volume.read_only or volume.block:
        return False
    if policy == "File":
        return True
    return bool(volume.fs_type) and (volume.ephemeral or READ_WRITE_ONCE in volume.access_modes)


def token_audiences(about: Object | None) -> list[tuple[str, int]]:
    """(audience, seconds) of each token that the driver asks for."""
    requests = ((about or {}).get("spec") or {}).get("tokenRequests") or []
    return [(each.get("audience") or "", int(each.get("expirationSeconds") or 3600)) for each in requests]
