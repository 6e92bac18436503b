"""What is asked of a volume: access modes and file system, in the protocol's form. Pure.

Source: https://github.com/container-storage-interface/spec/blob/master/spec.md#createvolume and KEP-2485
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tiphys.api.csi.messages import access_modes

_MODES = {
    "ReadWriteOnce": "SINGLE_NODE_WRITER",
    "ReadOnlyMany": "MULTI_NODE_READER_ONLY",
    "ReadWriteMany": "MULTI_NODE_MULTI_WRITER",
    "ReadWriteOncePod": "SINGLE_NODE_WRITER",
}
_MODES_WITH_SINGLE_NODE = _MODES | {
    "ReadWriteOnce": "SINGLE_NODE_MULTI_WRITER",
    "ReadWriteOncePod": "SINGLE_NODE_SINGLE_WRITER",
}


def capability(
    access_mode: str,
    *,
    block: bool = False,
    fs_type: str = "",
    mount_options: Sequence[str] = (),
    group: int | None = None,
    single_node: bool = False,
) -> dict[str, Any]:
    """A ``VolumeCapability``. ``single_node``: the driver knows one writer on a node from several."""
    modes = _MODES_WITH_SINGLE_NODE if single_node else _MODES
    wanted: dict[str, Any] = {"access_mode": {"mode": access_modes()[modes.get(access_mode, "UNKNOWN")]}}
    if block:
        return {**wanted, "block": {}}
    mount: dict[str, Any] = {"fs_type": fs_type, "mount_flags": list(mount_options)}
    if group is not None:
        mount["volume_mount_group"] = str(group)
    return {**wanted, "mount": mount}
