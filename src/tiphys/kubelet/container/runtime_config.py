"""``PodSandboxConfig`` and ``ContainerConfig``: a pod in the runtime's words. Pure.

Source: https://github.com/kubernetes/cri-api
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tiphys.kubelet import labels
from tiphys.kubelet.container.security import NAMESPACE_CONTAINER, NAMESPACE_TARGET, sandbox_security
from tiphys.kubelet.node.resolver import Resolver
from tiphys.kubelet.pod import pods
from tiphys.kubelet.pod.pods import ContainerKind, ContainerSpec, Pod
from tiphys.kubelet.runtime.stop_signals import SIGNALS

_PROTOCOLS = {"TCP": 0, "UDP": 1, "SCTP": 2}
_PROPAGATION = {None: 0, "None": 0, "HostToContainer": 1, "Bidirectional": 2}


@dataclass(frozen=True, slots=True)
class MountPoint:
    """One mount of a container: a place on the host and a place in the container."""

    container_path: str
    host_path: str
    read_only: bool = False
    propagation: str | None = None
    recursive_read_only: bool = False


@dataclass(frozen=True, slots=True)
class DevicePoint:
    """A device of a container; ``permissions`` of r (read), w (write) and m (make)."""

    container_path: str
    host_path: str
    permissions: str


def log_folder(pod: Pod) -> str:
    """The name of the folder of a pod's logs: ``<namespace>_<name>_<uid>``."""
    return f"{pods.namespace_of(pod)}_{pods.name_of(pod)}_{pods.uid_of(pod)}"


def log_directory(root: str, pod: Pod) -> str:
    """Where the logs of a pod are."""
    return f"{root}/{log_folder(pod)}"


def log_path(container: str, restarts: int) -> str:
    """Where the log of one run of a container is, under the pod's directory."""
    return f"{container}/{restarts}.log"


def sandbox_config(
    pod: Pod, attempt: int, *, hostname: str, resolver: Resolver, log_root: str, cgroup_parent: str
) -> dict[str, Any]:
    """The ``PodSandboxConfig`` of a pod; ``attempt`` counts its sandboxes."""
    config: dict[str, Any] = {
        "metadata": {
            "name": pods.name_of(pod),
            "namespace": pods.namespace_of(pod),
            "uid": pods.uid_of(pod),
            "attempt": attempt,
        },
        "labels": labels.sandbox_labels(pod),
        "annotations": dict(pod["metadata"].get("annotations") or {}),
        "log_directory": log_directory(log_root, pod),
        "dns_config": {
            "servers": list(resolver.servers),
            "searches": list(resolver.searches),
            "options": list(resolver.options),
        },
        "port_mappings": _port_mappings(pod),
        "linux": {
            "cgroup_parent": cgroup_parent,
            "security_context": sandbox_security(pod),
            "sysctls": _sysctls(pod),
        },
    }
    if not pods.host_network(pod):
        config["hostname"] = hostname
    return config


def _port_mappings(pod: Pod) -> list[dict[str, Any]]:
    if pods.host_network(pod):
        return []
    sidecars = [c for c in pods.init_containers(pod) if pods.is_sidecar(c)]
    return [
        {
            "protocol": _PROTOCOLS[port.get("protocol") or "TCP"],
            "container_port": port["containerPort"],
            "host_port": port["hostPort"],
            "host_ip": port.get("hostIP") or "",
        }
        for container in (*pods.containers(pod), *sidecars)
        for port in container.get("ports") or []
        if port.get("hostPort")
    ]


def _sysctls(pod: Pod) -> dict[str, str]:
    wanted = (pod["spec"].get("securityContext") or {}).get("sysctls") or []
    return {dotted_sysctl(item["name"]): item.get("value", "") for item in wanted}


def dotted_sysctl(name: str) -> str:
    """A sysctl's name with dots for separators: ``net/ipv4/x.y`` is ``net.ipv4.x/y``."""
    first = next((c for c in name if c in "./"), ".")
    return name if first == "." else name.translate(str.maketrans("./", "/."))


def container_config(
    pod: Pod,
    kind: ContainerKind,
    container: ContainerSpec,
    *,
    restarts: int,
    image_ref: str,
    environment: Mapping[str, str],
    command: Sequence[str],
    arguments: Sequence[str],
    mounts: Sequence[MountPoint],
    resources: dict[str, Any],
    security: dict[str, Any],
    target_id: str = "",
    devices: Sequence[DevicePoint] = (),
    annotations: Mapping[str, str] | None = None,
    cdi: Sequence[str] = (),
) -> dict[str, Any]:
    """``target_id`` is the container whose processes an ephemeral container is to see; ``cdi`` names CDI devices."""
    if target_id and security["namespace_options"]["pid"] == NAMESPACE_CONTAINER:
        options = {**security["namespace_options"], "pid": NAMESPACE_TARGET, "target_id": target_id}
        security = {**security, "namespace_options": options}
    config: dict[str, Any] = {
        "metadata": {"name": container["name"], "attempt": restarts},
        "image": {"image": image_ref, "user_specified_image": container.get("image", "")},
        "command": list(command),
        "args": list(arguments),
        "working_dir": container.get("workingDir") or "",
        "envs": [{"key": key, "value": text.encode()} for key, text in environment.items()],
        "mounts": [_mount(mount) for mount in mounts],
        "devices": [asdict(device) for device in devices],
        "labels": labels.container_labels(pod, container),
        "annotations": {**(annotations or {}), **labels.container_annotations(pod, container, restarts)},
        "log_path": log_path(container["name"], restarts),
        "stdin": bool(container.get("stdin")),
        "stdin_once": bool(container.get("stdinOnce")),
        "tty": bool(container.get("tty")),
        "linux": {"resources": resources, "security_context": security},
    }
    if cdi:
        config["CDI_devices"] = [{"name": name} for name in cdi]
    if signal := (container.get("lifecycle") or {}).get("stopSignal"):
        config["stop_signal"] = SIGNALS[signal]
    return config


def _mount(mount: MountPoint) -> dict[str, Any]:
    return {
        "container_path": mount.container_path,
        "host_path": mount.host_path,
        "readonly": mount.read_only,
        "propagation": _PROPAGATION[mount.propagation],
        "recursive_read_only": mount.recursive_read_only,
    }
