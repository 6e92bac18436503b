"""What is mounted into a container: volumes and parts of them, /etc/hosts, the file for its last words.

Everything a container can write to is reached through ``Folder``: see runtime/system/folders.py.

Source: https://kubernetes.io/docs/concepts/storage/volumes/
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tiphys.api.object import Object
from tiphys.kubelet.container import environment
from tiphys.kubelet.container.envfile import EnvFileError, find_variable
from tiphys.kubelet.container.environment import EnvironmentFailure
from tiphys.kubelet.container.runtime_config import DevicePoint, MountPoint
from tiphys.kubelet.node.network import hostname_and_domain, hosts_file
from tiphys.kubelet.pod import pods
from tiphys.kubelet.pod.pods import ContainerSpec, Pod
from tiphys.kubelet.settings import NodeSettings
from tiphys.kubelet.volumes.claims import MountedVolume
from tiphys.kubelet.volumes.failures import MountFailure
from tiphys.kubelet.volumes.subpath import SubPathNotMade, bind_subpath, check_subpath
from tiphys.runtime.system.folders import Folder

_MAX_ENV_FILE = 1 << 20


@dataclass(frozen=True, slots=True)
class MountSources:
    """What a pod's mounts are made of. ``recursive_read_only`` is whether its runtime can do that."""

    volumes: Mapping[str, MountedVolume]
    variables: Mapping[str, str]
    ips: Sequence[str]
    recursive_read_only: bool = False


def container_mounts(
    settings: NodeSettings, pod: Pod, container: ContainerSpec, sources: MountSources
) -> list[MountPoint]:
    """Every mount of a container, made ready on the host. Raises ``MountFailure`` with upstream's message."""
    mounts = [
        _mount(settings, pod, container, index, mount, sources)
        for index, mount in enumerate(container.get("volumeMounts") or [])
    ]
    taken = {mount.container_path for mount in mounts}
    if "/etc/hosts" not in taken and (sources.ips or pods.host_network(pod)):
        mounts.append(MountPoint("/etc/hosts", str(_write_hosts(settings, pod, sources.ips))))
    if path := container.get("terminationMessagePath"):
        mounts.append(MountPoint(path, str(_termination_file(settings, pod, container["name"]))))
    return mounts


def _mount(
    settings: NodeSettings, pod: Pod, container: ContainerSpec, index: int, mount: Object, sources: MountSources
) -> MountPoint:
    name = mount["name"]
    if name not in sources.volumes:
        raise MountFailure(f'cannot find volume "{name}" to mount into container "{container["name"]}"')
    volume = sources.volumes[name]
    if volume.block:
        raise MountFailure(f'cannot mount volume "{name}": it is a block device, and belongs into volumeDevices')
    path = volume.path
    if part := _sub_path(mount, sources.variables):
        path = _bind(settings, pod, container, index, name, path, part)
    inside = mount["mountPath"]
    return MountPoint(
        inside if inside.startswith("/") else f"/{inside}",
        str(path),
        bool(mount.get("readOnly")) or volume.read_only,
        mount.get("mountPropagation"),
        recursive_read_only(mount, supported=sources.recursive_read_only),
    )


def container_devices(container: ContainerSpec, volumes: Mapping[str, MountedVolume]) -> list[DevicePoint]:
    """Every block volume of a container. Raises ``MountFailure``."""
    devices = []
    for wanted in container.get("volumeDevices") or []:
        volume = volumes.get(wanted["name"])
        if volume is None or not volume.block:
            raise MountFailure(f'cannot find block volume "{wanted["name"]}" for container "{container["name"]}"')
        devices.append(DevicePoint(wanted["devicePath"], str(volume.path), "r" if volume.read_only else "mrw"))
    return devices


def _sub_path(mount: Object, variables: Mapping[str, str]) -> str:
    part = str(mount.get("subPath") or "")
    if expression := mount.get("subPathExpr"):
        part = environment.expand(expression, environment.Lookup(variables))
        if "$(" in part:
            raise MountFailure(f'missing value for "{part.partition("$(")[2].partition(")")[0]}"')
    check_subpath(part)
    return part


def _bind(
    settings: NodeSettings, pod: Pod, container: ContainerSpec, index: int, name: str, volume: Path, part: str
) -> Path:
    target = settings.pod_dir(pods.uid_of(pod)) / "volume-subpaths" / name / container["name"] / str(index)
    where = f'for volumeMount "{name}" of container "{container["name"]}"'
    try:
        return bind_subpath(volume, part, target)
    except SubPathNotMade as error:
        raise MountFailure(f"failed to create subPath directory {where}") from error
    except MountFailure as error:
        raise MountFailure(f"failed to prepare subPath {where}") from error


def recursive_read_only(mount: Object, *, supported: bool) -> bool:
    """Whether a mount is to be read-only with all that is mounted below it. Raises ``MountFailure`` if it cannot be."""
    wanted = mount.get("recursiveReadOnly") or "Disabled"
    if wanted == "Disabled":
        return False
    asked = f'failed to resolve recursive read-only mode: volume "{mount["name"]}" requested recursive read-only mode'
    if not mount.get("readOnly"):
        raise MountFailure(f"{asked}, but it is not read-only")
    propagation = mount.get("mountPropagation")
    if propagation not in (None, "None"):
        raise MountFailure(f'{asked}, but it is not compatible with propagation "{propagation}"')
    if wanted == "Enabled" and not supported:
        raise MountFailure(f"{asked}, but it is not supported by the runtime")
    return supported


def _write_hosts(settings: NodeSettings, pod: Pod, ips: Sequence[str]) -> Path:
    """The pod's /etc/hosts; containers write to it, but it stays the file that it is."""
    hostname, domain = hostname_and_domain(pod, settings.dns.domain)
    node_hosts = ""
    if pods.host_network(pod):
        with contextlib.suppress(FileNotFoundError):
            node_hosts = Path("/etc/hosts").read_text()
    folder = settings.pod_dir(pods.uid_of(pod))
    folder.mkdir(mode=0o750, parents=True, exist_ok=True)
    text = hosts_file(pod, ips, hostname, domain, node_hosts)
    with Folder.at(folder) as place:
        file = place.open("etc-hosts", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o644)
        with os.fdopen(file, "w") as stream:
            os.fchmod(file, 0o644)
            stream.write(text)
    return folder / "etc-hosts"


def _termination_file(settings: NodeSettings, pod: Pod, container: str) -> Path:
    """A file of this run's own, that the container writes its last words to."""
    folder = settings.pod_dir(pods.uid_of(pod))
    folder.mkdir(mode=0o750, parents=True, exist_ok=True)
    name = secrets.token_hex(4)
    with Folder.at(folder) as place, place.make_folders(f"containers/{container}", 0o750) as own:
        os.close(own.make_file(name, 0o666))
    return folder / "containers" / container / name


def read_env_file(volumes: Mapping[str, MountedVolume], volume: str, path: str, key: str) -> str:
    """The value of ``key`` in a file of a volume; empty if it is not there. Raises ``EnvironmentFailure``."""
    if volume not in volumes:
        raise EnvironmentFailure(f'cannot find the volume "{volume}" referenced by FileKeyRef')
    try:
        with Folder.at(volumes[volume].path) as base, os.fdopen(base.open_regular(path, follow=True), "rb") as file:
            return find_variable(file.read(_MAX_ENV_FILE).decode(), key)
    except (OSError, EnvFileError, UnicodeDecodeError) as error:
        raise EnvironmentFailure("couldn't parse env file") from error
