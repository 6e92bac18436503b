"""What a new volume begins as a copy of: another claim's volume, or a snapshot.

Source: https://kubernetes-csi.github.io/docs/volume-cloning.html and
https://kubernetes.io/docs/concepts/storage/persistent-volumes/#data-source-references
"""

from __future__ import annotations

from typing import Any

from tiphys.api.object import Object
from tiphys.api.volumes.matching import capacity, request
from tiphys.client import errors
from tiphys.client.informer import Informer
from tiphys.controlkit.objects import is_deleting, namespace_of, status_of
from tiphys.csi.context import DriverContext
from tiphys.csi.snapshots.resources import SNAPSHOT_GROUP, VOLUME_SNAPSHOT_CONTENTS, VOLUME_SNAPSHOTS


class SourceTrouble(Exception):
    """The source cannot be used, or not yet; the message is for the event."""


class Sources:
    def __init__(self, context: DriverContext, claims: Informer, volumes: Informer) -> None:
        self._client = context.client
        self._facts = context.facts
        self._claims = claims
        self._volumes = volumes

    async def source(self, claim: Object) -> dict[str, Any] | None:
        """``volume_content_source``. Raises ``SourceTrouble``."""
        spec = claim["spec"]
        reference = spec.get("dataSourceRef") or spec.get("dataSource")
        if not reference:
            return None
        if reference.get("namespace") not in (None, "", namespace_of(claim)):
            raise SourceTrouble("a dataSourceRef to another namespace is not supported; copy within the namespace")
        group, kind, name = reference.get("apiGroup") or "", reference["kind"], reference["name"]
        if (group, kind) == ("", "PersistentVolumeClaim"):
            return {"volume": {"volume_id": self._clone(claim, name)}}
        if (group, kind) == (SNAPSHOT_GROUP, "VolumeSnapshot"):
            return {"snapshot": {"snapshot_id": await self._snapshot(claim, name)}}
        raise SourceTrouble(f"dataSource {kind} of group {group or 'core'} is for a volume populator to fill")

    def _clone(self, claim: Object, name: str) -> str:
        """The handle of another claim's volume."""
        if "CLONE_VOLUME" not in self._facts.controller:
            raise SourceTrouble(
                "CSI driver does not support clone operations: plugin CLONE_VOLUME capability is missing"
            )
        origin = self._claims.store.get(namespace_of(claim), name)
        if origin is None or is_deleting(origin):
            raise SourceTrouble(f"the source PVC {name} does not exist or is being deleted")
        if status_of(origin).get("phase") != "Bound":
            raise SourceTrouble(f"the source PVC not in bound state, can't clone from source PVC {name}")
        volume = self._volumes.store.get("", origin["spec"].get("volumeName") or "")
        source = ((volume or {}).get("spec") or {}).get("csi") or {}
        if volume is None or source.get("driver") != self._facts.name:
            raise SourceTrouble(f"the source PVC {name} is not of driver {self._facts.name}")
        if request(claim) < capacity(volume):
            raise SourceTrouble(f"the new PVC request must be greater than or equal in size to the source {name}")
        if (claim["spec"].get("volumeMode") or "Filesystem") != (origin["spec"].get("volumeMode") or "Filesystem"):
            raise SourceTrouble(f"the source PVC {name} has another volumeMode")
        return str(source["volumeHandle"])

    async def _snapshot(self, claim: Object, name: str) -> str:
        """The handle of a snapshot that is ready."""
        if "CREATE_DELETE_SNAPSHOT" not in self._facts.controller:
            raise SourceTrouble(
                "CSI driver does not support snapshot restore: plugin CREATE_DELETE_SNAPSHOT is missing"
            )
        try:
            snapshot = await self._client.get(VOLUME_SNAPSHOTS, name, namespace_of(claim))
            status = status_of(snapshot)
            content_name = status.get("boundVolumeSnapshotContentName")
            if is_deleting(snapshot) or not status.get("readyToUse") or not content_name:
                raise SourceTrouble(f"snapshot {name} is not Ready")
            content = await self._client.get(VOLUME_SNAPSHOT_CONTENTS, content_name)
        except errors.NotFound as error:
            raise SourceTrouble(f"error getting snapshot {name} from api server: {error.message}") from error
        if content["spec"]["driver"] != self._facts.name:
            raise SourceTrouble(f"snapshot {name} is of driver {content['spec']['driver']}")
        if not (handle := status_of(content).get("snapshotHandle")):
            raise SourceTrouble(f"snapshot handle of {name} is not known yet")
        restored = status_of(content).get("restoreSize")
        if restored is not None and request(claim).value() < int(restored):
            raise SourceTrouble(f"requested volume size is less than the size {restored} of snapshot {name}")
        return str(handle)
