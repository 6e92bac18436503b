"""What pods use of their CSI volumes, as the drivers say: for the summary API and ``kubelet_volume_stats_…``.

Source: https://github.com/container-storage-interface/spec/blob/master/spec.md#nodegetvolumestats
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tiphys.kubelet.node.storage import DiskUse, Filesystem, VolumeUse
from tiphys.kubelet.volumes.csi.drivers import CSIDriver, DriverMissing
from tiphys.kubelet.volumes.csi.requests import CSIVolume
from tiphys.wire.grpc.stream import GrpcError

_PATIENCE = 5.0
_BYTES, _INODES = 1, 2


@dataclass(frozen=True, slots=True)
class PodClaim:
    """A CSI volume of a pod, under the pod's name for it. ``claim`` is (namespace, name); None for an inline volume."""

    volume_name: str
    volume: CSIVolume
    path: Path
    claim: tuple[str, str] | None


@dataclass(frozen=True, slots=True)
class ClaimUse:
    of: PodClaim
    use: VolumeUse


async def measure(volumes: Iterable[tuple[CSIDriver, PodClaim]]) -> list[ClaimUse]:
    """Those that drivers can and do measure within a few seconds."""
    tasks = [asyncio.ensure_future(_measure(driver, each)) for driver, each in volumes]
    if not tasks:
        return []
    done, late = await asyncio.wait(tasks, timeout=_PATIENCE)
    for task in late:
        task.cancel()
    await asyncio.gather(*late, return_exceptions=True)
    return [result for task in tasks if task in done and (result := task.result()) is not None]


async def _measure(driver: CSIDriver, each: PodClaim) -> ClaimUse | None:
    try:
        if not await driver.can("GET_VOLUME_STATS"):
            return None
        answer = await driver.call("NodeGetVolumeStats", volume_id=each.volume.handle, volume_path=str(each.path))
    except (GrpcError, DriverMissing):
        return None
    by_unit = {usage.unit: usage for usage in answer.usage}
    return ClaimUse(each, volume_use(by_unit.get(_BYTES), by_unit.get(_INODES))) if _BYTES in by_unit else None


def volume_use(size: Any, inodes: Any) -> VolumeUse:
    """From two ``VolumeUsage`` messages; the second may be missing."""
    files, files_used, files_free = (inodes.total, inodes.used, inodes.available) if inodes is not None else (0, 0, 0)
    return VolumeUse(DiskUse(size.used, files_used), Filesystem(size.total, size.available, files, files_free))
