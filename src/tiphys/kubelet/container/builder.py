"""Gathers what a sandbox or a container needs, and has the pure parts make the runtime's configuration of it.

Source: https://github.com/kubernetes/cri-api
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tiphys.api.object import Object
from tiphys.client.resources import CONFIG_MAPS, SECRETS
from tiphys.kubelet.container import environment
from tiphys.kubelet.container.cdi import applied
from tiphys.kubelet.container.environment import EnvironmentFailure, EnvironmentSources
from tiphys.kubelet.container.extras import ContainerExtras
from tiphys.kubelet.container.mounts import MountSources, container_devices, container_mounts, read_env_file
from tiphys.kubelet.container.resources import linux_resources
from tiphys.kubelet.container.runtime_classes import HandlerFailure, RuntimeClasses
from tiphys.kubelet.container.runtime_config import container_config, log_directory, log_folder, sandbox_config
from tiphys.kubelet.container.security import ImageUser, SecurityError, container_security, verify_non_root
from tiphys.kubelet.node.network import hostname_and_domain, kernel_hostname
from tiphys.kubelet.node.resolver import complaints, pod_resolver, read_resolver
from tiphys.kubelet.pod import pods
from tiphys.kubelet.pod.pods import ContainerKind, ContainerSpec, Pod
from tiphys.kubelet.runtime.service import ImageService
from tiphys.kubelet.settings import NodeSettings
from tiphys.kubelet.topology.cpu_manager import CpuManager
from tiphys.kubelet.topology.cpusets import text_of
from tiphys.kubelet.topology.failures import AssignmentFailure
from tiphys.kubelet.topology.memory_manager import MemoryManager
from tiphys.kubelet.volumes.claims import MountedVolume
from tiphys.kubelet.volumes.failures import MountFailure
from tiphys.kubelet.volumes.manager import ObjectSource
from tiphys.runtime.system.folders import Folder

_LOG_NAME = re.compile(r"(\d+)\.log(\..*)?$")


class ConfigFailure(Exception):
    """A container's configuration cannot be made (CreateContainerConfigError)."""


class ConfigBuilder:
    """``services`` gives every Service that is known, for the pods' environment.

    ``reads_cdi`` says whether the runtime makes devices of CDI names, ``recursive_handlers`` which of its handlers can
    mount read-only recursively. ``complain`` is called with a pod, and with the reason and the message of a warning
    about it.
    """

    def __init__(
        self,
        settings: NodeSettings,
        objects: ObjectSource,
        images: ImageService,
        services: Callable[[], Iterable[Object]],
        *,
        classes: RuntimeClasses,
        recursive_handlers: Callable[[], frozenset[str]],
        reads_cdi: Callable[[], bool],
        cpus: CpuManager | None = None,
        memory: MemoryManager | None = None,
        complain: Callable[[Pod, str, str], None] = lambda *_: None,
    ) -> None:
        self._reads_cdi = reads_cdi
        self._cpus = cpus
        self._memory = memory
        self._settings = settings
        self._objects = objects
        self._images = images
        self._services = services
        self._classes = classes
        self._recursive_handlers = recursive_handlers
        self._complain = complain

    def sandbox(self, pod: Pod, attempt: int) -> dict[str, Any]:
        """``PodSandboxConfig``; the pod's log folder is made. Raises ``ConfigFailure``.

        A resolver file that is not as the pod asked for is reported.
        """
        settings = self._settings
        hostname, domain = hostname_and_domain(pod, settings.dns.domain)
        host = read_resolver(settings.dns.resolver_file)
        for reason, message in complaints(pod, settings.dns, host):
            self._complain(pod, reason, message)
        try:
            config = sandbox_config(
                pod,
                attempt,
                hostname=kernel_hostname(pod, hostname, domain),
                resolver=pod_resolver(pod, settings.dns, host),
                log_root=settings.log_root,
                cgroup_parent=settings.cgroup_parent(pod),
            )
        except (ValueError, SecurityError) as error:
            raise ConfigFailure(str(error)) from error
        make_log_folder(settings.log_root, log_folder(pod))
        return config

    async def container(
        self,
        pod: Pod,
        kind: ContainerKind,
        container: ContainerSpec,
        *,
        restarts: int,
        image_ref: str,
        ips: Sequence[str],
        volumes: Mapping[str, MountedVolume],
        extras: ContainerExtras,
        target_id: str = "",
    ) -> dict[str, Any]:
        """``ContainerConfig``; ``extras`` is what the container's devices add. Raises ``ConfigFailure`` with upstream's
        message."""
        settings = self._settings
        try:
            extras = extras if not extras.cdi or self._reads_cdi() else applied(extras)
            variables = extras.environment | await self._environment(pod, container, ips, volumes)
            user = await self._image_user(container)
            verify_non_root(pod, container, user)
            security = container_security(pod, container, user, settings.security)
            sources = MountSources(volumes, variables, ips, await self._recursive_read_only(pod, container))
            mounts = [*extras.mounts.values(), *container_mounts(settings, pod, container, sources)]
            devices = [*extras.devices.values(), *container_devices(container, volumes)]
        except (EnvironmentFailure, SecurityError, MountFailure, HandlerFailure, AssignmentFailure) as error:
            raise ConfigFailure(str(error)) from error
        command, arguments = environment.expand_command(container, variables)
        make_log_folder(settings.log_root, f"{log_folder(pod)}/{container['name']}")
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
            devices=devices,
            resources=self.resources(pod, container),
            security=security,
            target_id=target_id,
            annotations=extras.annotations,
            cdi=extras.cdi,
        )

    def resources(self, pod: Pod, container: ContainerSpec) -> dict[str, Any]:
        """``LinuxContainerResources`` of a container."""
        settings = self._settings
        linux = linux_resources(
            *(pod, container, settings.memory_capacity),
            period=settings.cpu_period,
            swap=settings.swap,
        )
        if self._cpus is not None:
            uid, name = pods.uid_of(pod), container["name"]
            linux["cpuset_cpus"] = text_of(self._cpus.cpus_of(uid, name))
            if "cpu_quota" in linux and self._cpus.exclusive(uid, name):
                linux["cpu_quota"] = -1  # it has whole processors, and a quota would but hold it up
        if self._memory is not None and (nodes := self._memory.nodes_of(pods.uid_of(pod), container["name"])):
            linux["cpuset_mems"] = text_of(nodes)
        return linux

    async def _environment(
        self, pod: Pod, container: ContainerSpec, ips: Sequence[str], volumes: Mapping[str, MountedVolume]
    ) -> dict[str, str]:
        namespace, uid = pods.namespace_of(pod), pods.uid_of(pod)
        config_names, secret_names = environment.referenced(container)
        kinds: list[dict[str, Object]] = []
        for resource, names in ((CONFIG_MAPS, config_names), (SECRETS, secret_names)):
            objects = {name: await self._objects.get(uid, resource, namespace, name) for name in sorted(names)}
            kinds.append({name: obj for name, obj in objects.items() if obj is not None})
        links = pod["spec"].get("enableServiceLinks") is not False
        sources = EnvironmentSources(
            config_maps=kinds[0],
            secrets=kinds[1],
            services=environment.service_variables(self._services(), namespace, links=links),
            pod_ips=ips,
            host_ips=self._settings.host_ips,
            allocatable=self._settings.allocatable,
            read_env_file=lambda volume, path, key: read_env_file(volumes, volume, path, key),
        )
        return environment.make_environment(pod, container, sources)

    async def _recursive_read_only(self, pod: Pod, container: ContainerSpec) -> bool:
        """Whether the pod's runtime handler can mount read-only recursively; asked only if a mount needs to know."""
        if not any(mount.get("recursiveReadOnly") for mount in container.get("volumeMounts") or []):
            return False
        return await self._classes.handler(pod) in self._recursive_handlers()

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


def make_log_folder(log_root: str, path: str) -> None:
    """A pod's folder of logs: a pod may have the folder of all logs mounted, so no link in it is followed."""
    os.makedirs(log_root, 0o755, exist_ok=True)
    with Folder.at(log_root) as root, root.make_folders(path, 0o755):
        pass
