"""CDI: what a device of a vendor adds to a container, from the vendor's files. For runtimes that cannot read them.

containerd reads them itself from 1.7 on; the one of Debian 12 is older, and would leave out without a word what a
device needs. Hooks of the runtime, and what belongs to processes (groups, RDT), cannot be given by CRI: a device that
wants them is refused. Source: https://github.com/cncf-tags/container-device-interface/blob/main/SPEC.md
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tiphys.kubelet.container.extras import ContainerExtras
from tiphys.kubelet.container.runtime_config import DevicePoint, MountPoint
from tiphys.kubelet.runtime.service import RuntimeVersion
from tiphys.kubelet.topology.failures import AssignmentFailure

log = logging.getLogger(__name__)

FOLDERS = (Path("/etc/cdi"), Path("/var/run/cdi"))
"""A file of a later folder goes before one of the same vendor and class in an earlier one."""
_MAX_FILE = 4 << 20
_VERSION = re.compile(r"v?(\d+)\.(\d+)")
_BEYOND_CRI = ("hooks", "additionalGids", "intelRdt", "netDevices")


def reads_cdi(version: RuntimeVersion) -> bool:
    """Whether a runtime makes devices of CDI names itself."""
    match = _VERSION.match(version.version)
    return version.name != "containerd" or match is None or (int(match[1]), int(match[2])) >= (1, 7)


def applied(extras: ContainerExtras, folders: Sequence[Path] = FOLDERS) -> ContainerExtras:
    """The same with what the CDI devices add, and without their names. Raises ``AssignmentFailure``."""
    whole = ContainerExtras()
    whole.add(extras)
    whole.cdi = []
    specs = list(_specs(folders))
    used: list[int] = []
    for name in extras.cdi:
        index, device = _device(name, specs)
        whole.add(_edits(name, device.get("containerEdits") or {}))
        if index not in used:
            used.append(index)
            whole.add(_edits(name, specs[index].get("containerEdits") or {}))
    return whole


def _specs(folders: Sequence[Path]) -> Iterator[dict[str, Any]]:
    """The documents that can be read, the most important first."""
    for folder in reversed(folders):
        for path in sorted(folder.glob("*")) if folder.is_dir() else ():
            if path.suffix not in (".json", ".yaml", ".yml") or not path.is_file() or path.stat().st_size > _MAX_FILE:
                continue
            try:
                document = _read(path)
            except (OSError, ValueError) as error:
                log.warning("%s: %s", path, error)
                continue
            if isinstance(document, dict) and isinstance(document.get("kind"), str):
                yield document


def _read(path: Path) -> Any:
    """Raises ``OSError``, ``ValueError``."""
    text = path.read_text()
    if path.suffix == ".json":
        return json.loads(text)
    import yaml  # a megabyte, for files that most nodes do not have

    try:
        return yaml.load(text, yaml.CSafeLoader)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error


def _device(name: str, specs: Sequence[dict[str, Any]]) -> tuple[int, dict[str, Any]]:
    kind, _, device = name.partition("=")
    for index, spec in enumerate(specs):
        if spec["kind"] == kind:
            for entry in spec.get("devices") or ():
                if entry.get("name") == device:
                    return index, entry
    raise AssignmentFailure(f"CDI device injection failed: unresolvable CDI devices {name}")


def _edits(name: str, edits: dict[str, Any]) -> ContainerExtras:
    for field in _BEYOND_CRI:
        if edits.get(field):
            raise AssignmentFailure(f"CDI device {name}: {field} need a runtime with CDI, such as containerd 1.7")
    extras = ContainerExtras()
    try:
        for variable in edits.get("env") or ():
            key, _, text = variable.partition("=")
            extras.environment[key] = text
        for node in edits.get("deviceNodes") or ():
            inside = node["path"]
            extras.devices[inside] = DevicePoint(
                inside, node.get("hostPath") or inside, node.get("permissions") or "rwm"
            )
        for mount in edits.get("mounts") or ():
            inside, options = mount["containerPath"], mount.get("options") or ()
            extras.mounts[inside] = MountPoint(inside, mount["hostPath"], "ro" in options)
    except (KeyError, TypeError, AttributeError) as error:
        raise AssignmentFailure(f"CDI device {name}: its description has another form: {error!r}") from error
    return extras
