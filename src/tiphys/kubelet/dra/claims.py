"""Claims that are prepared on the node, or are about to be, and the file in which the kubelet keeps them. Pure.

The file ``dra_manager_state`` has upstream's form. Source:
https://kubernetes.io/docs/concepts/scheduling-eviction/dynamic-resource-allocation/
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from tiphys.api.meta.objects import name_of, namespace_of, status_of, uid_of
from tiphys.api.object import Object
from tiphys.kubelet.checkpoints import CheckpointCorrupt

_KIND = {"kind": "DRACheckpoint", "apiVersion": "checkpoint.dra.kubelet.k8s.io/v1"}


@dataclass(frozen=True, slots=True)
class PreparedDevice:
    """A device as its driver has prepared it."""

    pool: str
    device: str
    share: str = ""
    requests: tuple[str, ...] = ()
    """The claim's requests that it is for; none: for all of them."""
    cdi: tuple[str, ...] = ()

    def is_for(self, requests: Collection[str]) -> bool:
        """Whether it is for one of some requests; an empty name among them stands for all."""
        return not self.requests or "" in requests or not set(self.requests).isdisjoint(requests)


@dataclass(slots=True)
class ClaimInfo:
    uid: str
    name: str
    namespace: str
    pods: set[str] = field(default_factory=set)
    """Uids of the pods that use it here."""
    drivers: dict[str, list[PreparedDevice]] = field(default_factory=dict)
    """Every driver that the claim has devices of; filled in when they are prepared."""
    prepared: bool = False
    """Known in this life of the kubelet only: after a restart drivers are asked again when a sandbox is made."""

    @property
    def key(self) -> tuple[str, str]:
        return self.namespace, self.name

    def cdi_of(self, request: str) -> Iterator[str]:
        """CDI names of the devices for one request, or for all if ``request`` is empty."""
        for devices in self.drivers.values():
            for device in devices:
                if device.is_for((request,)):
                    yield from device.cdi


def claim_info(claim: Object) -> ClaimInfo:
    """What is known of an allocated claim before it is prepared."""
    results = ((status_of(claim).get("allocation") or {}).get("devices") or {}).get("results") or ()
    drivers: dict[str, list[PreparedDevice]] = {result["driver"]: [] for result in results}
    return ClaimInfo(uid_of(claim), name_of(claim), namespace_of(claim), drivers=drivers)


def to_checkpoint(claims: Iterable[ClaimInfo]) -> dict[str, Any]:
    """The document to write: the claims as a JSON text, and its checksum."""
    listed = [
        {
            "ClaimUID": info.uid,
            "ClaimName": info.name,
            "Namespace": info.namespace,
            "PodUIDs": {uid: {} for uid in sorted(info.pods)},
            "DriverState": {
                driver: {"Devices": [_written(device) for device in devices]}
                for driver, devices in sorted(info.drivers.items())
            },
        }
        for info in claims
    ]
    data = json.dumps({**_KIND, "ClaimInfoStateList": listed}, separators=(",", ":"))
    return {"Data": data, "Checksum": zlib.crc32(data.encode())}


def _written(device: PreparedDevice) -> dict[str, Any]:
    return {
        "PoolName": device.pool,
        "DeviceName": device.device,
        "ShareID": device.share or None,
        "RequestNames": list(device.requests),
        "CDIDeviceIDs": list(device.cdi),
    }


def from_checkpoint(document: Any) -> list[ClaimInfo]:
    """Raises ``CheckpointCorrupt``."""
    try:
        data = document["Data"]
        if zlib.crc32(data.encode()) != document["Checksum"]:
            raise CheckpointCorrupt("checkpoint is corrupted")
        return [
            ClaimInfo(
                entry["ClaimUID"],
                entry["ClaimName"],
                entry["Namespace"],
                set(entry["PodUIDs"] or ()),
                {
                    name: list(map(_read, state["Devices"] or ()))
                    for name, state in (entry["DriverState"] or {}).items()
                },
            )
            for entry in json.loads(data)["ClaimInfoStateList"] or ()
        ]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointCorrupt(f"the checkpoint has another form: {error!r}") from error


def _read(device: dict[str, Any]) -> PreparedDevice:
    return PreparedDevice(
        device["PoolName"],
        device["DeviceName"],
        device.get("ShareID") or "",
        tuple(device.get("RequestNames") or ()),
        tuple(device.get("CDIDeviceIDs") or ()),
    )
