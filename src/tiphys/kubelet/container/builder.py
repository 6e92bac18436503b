"""Gathers what a sandbox or a container needs, and has the pure parts make the runtime's configuration of it."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tiphys.client.resources import CONFIG_MAPS, SECRETS
from tiphys.kubelet.container import environment
from tiphys.kubelet.container.environment import EnvironmentFailure, EnvironmentSources
from tiphys.kubelet.container.resources import linux_resources
from tiphys.kubelet.container.runtime_config import MountPoint, container_config, log_directory, sandbox_config
from tiphys.kubelet.container.security import ImageUser, SecurityError, container_security, verify_non_root
from tiphys.kubelet.node.network import hostname_and_domain, hosts_file, kernel_hostname, pod_resolver, read_resolver
from tiphys.kubelet.pod import pods
from tiphys.kubelet.pod.pods import ContainerSpec, Kind, Pod
from tiphys.kubelet.runtime.service import ImageService
from tiphys.kubelet.settings import NodeSettings
from tiphys.kubelet.volumes.manager import MountedVolume, ObjectSource
from tiphys.kubelet.volumes.payloads import MountFailure
from tiphys.kubelet.volumes.subpath import bind_subpath, check_subpath

Object = dict[str, Any]
_LOG_NAME = re.compile(r"(\d+)\.log(\..*)?$")


class ConfigFailure(Exception):
    """A container's configuration cannot be made (CreateContainerConfigError)."""


class ConfigBuilder:
    """``services`` gives every Service that is known, for the pods' environment."""

    def __init__(
        self,
        settings: NodeSettings,
        objects: ObjectSource,
        images: ImageService,
        services: Callable[[], Iterable[Object]],
    ) -> None:
        self._settings = settings
        self._objects = objects
        self._images = images
        self._services = services

    def sandbox(self, pod: Pod, attempt: int) -> dict[str, Any]:
        """``PodSandboxConfig``; the pod's log folder is made. Raises ``ConfigFailure``."""
        settings = self._settings
        hostname, domain = hostname_and_domain(pod, settings.dns.domain)
        try:
            config = sandbox_config(
                pod,
                attempt,
                hostname=kernel_hostname(pod, hostname, domain),
                resolver=pod_resolver(pod, settings.dns, read_resolver(settings.dns.resolver_file)),
                log_root=settings.log_root,
                cgroup_parent=settings.cgroup_parent(pod),
            )
        except (ValueError, SecurityError) as error:
            raise ConfigFailure(str(error)) from error
        os.makedirs(config["log_directory"], 0o755, exist_ok=True)
        return config

    async def container(
        self,
        pod: Pod,
        kind: Kind,
        container: ContainerSpec,
        *,
        restarts: int,
        image_ref: str,
        ips: Sequence[str],
        volumes: Mapping[str, MountedVolume],
        target_id: str = "",
    ) -> dict[str, Any]:
        """``ContainerConfig``. Raises ``ConfigFailure`` with upstream's message."""
        settings = self._settings
        try:
            variables = await self._environment(pod, container, ips, volumes)
            user = await self._image_user(container)
            verify_non_root(pod, container, user)
            security = container_security(pod, container, user, settings.security)
            mounts = self._mounts(pod, container, variables, ips, volumes)
        except (EnvironmentFailure, SecurityError, MountFailure) as error:
            raise ConfigFailure(str(error)) from error
        command, arguments = environment.expand_command(container, variables)
        folder = Path(log_directory(settings.log_root, pod)) / container["name"]
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        return container_config(
            pod,
            kind,
            container,
            restarts=restarts,
            image_ref=image_ref,
            environment=variables,
            command=command,
            arguments=arguments,
            mounts=mounts,
            resources=self.resources(pod, container),
            security=security,
            target_id=target_id,
        )

    def resources(self, pod: Pod, container: ContainerSpec) -> dict[str, Any]:
        """``LinuxContainerResources`` of a container."""
        return linux_resources(pod, container, self._settings.memory_capacity, self._settings.enforce_cpu_limits)

    async def _environment(
        self, pod: Pod, container: ContainerSpec, ips: Sequence[str], volumes: Mapping[str, MountedVolume]
    ) -> dict[str, str]:
        namespace, uid = pods.namespace_of(pod), pods.uid_of(pod)
        config_names, secret_names = environment.referenced(container)
        found: list[dict[str, Object]] = []
        for resource, names in ((CONFIG_MAPS, config_names), (SECRETS, secret_names)):
            objects = {name: await self._objects.get(uid, resource, namespace, name) for name in sorted(names)}
            found.append({name: obj for name, obj in objects.items() if obj is not None})
        links = pod["spec"].get("enableServiceLinks") is not False
        sources = EnvironmentSources(
            config_maps=found[0],
            secrets=found[1],
            services=environment.service_variables(self._services(), namespace, links),
            pod_ips=ips,
            host_ips=self._settings.host_ips,
            allocatable=self._settings.allocatable,
            read_env_file=lambda volume, path, key: _read_env_file(volumes, volume, path, key),
        )
        return environment.make_environment(pod, container, sources)

    async def _image_user(self, container: ContainerSpec) -> ImageUser:
        image = await self._images.image_status(container.get("image", ""))
        if image is None:
            return ImageUser()
        return (
            ImageUser(image.uid if not image.username else None, image.username)
            if (image.uid is not None or image.username)
            else ImageUser()
        )

    def restarts_by_logs(self, pod: Pod, container: str) -> int:
        """The number of the next run, by the log files of those before: for a runtime that has forgotten them."""
        folder = Path(log_directory(self._settings.log_root, pod)) / container
        runs = [match for entry in folder.glob("*.log*") if (match := _LOG_NAME.match(entry.name))]
        return max((int(match[1]) + 1 for match in runs), default=0)

    def _mounts(
        self,
        pod: Pod,
        container: ContainerSpec,
        variables: Mapping[str, str],
        ips: Sequence[str],
        volumes: Mapping[str, MountedVolume],
    ) -> list[MountPoint]:
        found = [
            self._mount(pod, container, index, mount, variables, volumes)
            for index, mount in enumerate(container.get("volumeMounts") or [])
        ]
        taken = {mount.container_path for mount in found}
        if "/etc/hosts" not in taken and (ips or pods.host_network(pod)):
            found.append(MountPoint("/etc/hosts", str(self._write_hosts(pod, ips))))
        if path := container.get("terminationMessagePath"):
            found.append(MountPoint(path, str(self._termination_file(pod, container["name"]))))
        return found

    def _mount(
        self,
        pod: Pod,
        container: ContainerSpec,
        index: int,
        mount: Object,
        variables: Mapping[str, str],
        volumes: Mapping[str, MountedVolume],
    ) -> MountPoint:
        name = mount["name"]
        if name not in volumes:
            raise MountFailure(f'cannot find volume "{name}" to mount into container "{container["name"]}"')
        volume = volumes[name]
        path = volume.path
        part = mount.get("subPath") or ""
        if expression := mount.get("subPathExpr"):
            part = environment.expand(expression, environment.Lookup(variables))
            if "$(" in part:
                raise MountFailure(f'missing value for "{part.partition("$(")[2].partition(")")[0]}"')
        if part:
            check_subpath(part)
            target = (
                self._settings.pod_dir(pods.uid_of(pod)) / "volume-subpaths" / name / container["name"] / str(index)
            )
            try:
                path = bind_subpath(path, part, target, volume.read_only)
            except (MountFailure, OSError) as error:
                raise MountFailure(
                    f'failed to prepare subPath for volumeMount "{name}" of container "{container["name"]}"'
                ) from error
        inside = mount["mountPath"]
        return MountPoint(
            inside if inside.startswith("/") else f"/{inside}",
            str(path),
            bool(mount.get("readOnly")) or volume.read_only,
            mount.get("mountPropagation"),
        )

    def _write_hosts(self, pod: Pod, ips: Sequence[str]) -> Path:
        hostname, domain = hostname_and_domain(pod, self._settings.dns.domain)
        node_hosts = ""
        if pods.host_network(pod):
            with contextlib.suppress(FileNotFoundError):
                node_hosts = Path("/etc/hosts").read_text()
        path = self._settings.pod_dir(pods.uid_of(pod)) / "etc-hosts"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(hosts_file(pod, ips, hostname, domain, node_hosts))
        path.chmod(0o644)
        return path

    def _termination_file(self, pod: Pod, container: str) -> Path:
        """A file of this run's own, that the container writes its last words to."""
        folder = self._settings.pod_dir(pods.uid_of(pod)) / "containers" / container
        folder.mkdir(mode=0o750, parents=True, exist_ok=True)
        path = folder / secrets.token_hex(4)
        path.touch()
        path.chmod(0o666)
        return path


def _read_env_file(volumes: Mapping[str, MountedVolume], volume: str, path: str, key: str) -> str:
    """The value of ``key`` in a file of ``KEY='value'`` lines in a volume (KEP-3721); empty where it is not there."""
    if volume not in volumes:
        raise EnvironmentFailure(f'cannot find the volume "{volume}" referenced by FileKeyRef')
    base = volumes[volume].path.resolve()
    file = (base / path).resolve()
    if base not in file.parents or not file.is_file():
        raise EnvironmentFailure("couldn't parse env file")
    for line in file.read_text().splitlines():
        name, equals, text = line.partition("=")
        if equals and name.strip() == key and not line.lstrip().startswith("#"):
            text = text.strip()
            return text[1:-1] if len(text) > 1 and text[0] == text[-1] == "'" else text
    return ""
