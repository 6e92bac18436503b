"""Security contexts, from the pod's and the container's to what the runtime takes. Pure.

Source: https://kubernetes.io/docs/tasks/configure-pod-container/security-context/
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tiphys.api.gotext import quote
from tiphys.kubelet.pod import pods
from tiphys.kubelet.pod.pods import ContainerSpec, Pod

NAMESPACE_POD, NAMESPACE_CONTAINER, NAMESPACE_NODE, NAMESPACE_TARGET = 0, 1, 2, 3
_PROFILE_TYPES = {"RuntimeDefault": 0, "Unconfined": 1, "Localhost": 2}
_MASKED = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
]
_READ_ONLY = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
_INHERITED = ("seLinuxOptions", "runAsUser", "runAsGroup", "runAsNonRoot")


class SecurityError(Exception):
    """The security context cannot be honoured; the message is upstream's."""


@dataclass(frozen=True, slots=True)
class ImageUser:
    """Who the image says its process runs as: a number, or a name that only the container can look up."""

    uid: int | None = 0
    username: str = ""


@dataclass(frozen=True, slots=True)
class HostSecurity:
    """What the machine offers."""

    apparmor: bool = False
    seccomp_default: bool = False
    seccomp_root: str = "/var/lib/kubelet/seccomp"


def effective(pod: Pod, container: ContainerSpec) -> dict[str, Any]:
    """The container's security context, with the pod's if it says nothing."""
    of_pod = pod["spec"].get("securityContext") or {}
    inherited = {name: of_pod[name] for name in _INHERITED if of_pod.get(name) is not None}
    return inherited | {k: v for k, v in (container.get("securityContext") or {}).items() if v is not None}


def namespaces(pod: Pod) -> dict[str, Any]:
    """Which namespaces a pod's containers share with each other or the node."""
    spec = pod["spec"]
    if spec.get("hostUsers") is False:
        # No handler of containerd 1.6 says that it can; nor would this kubelet give out ranges of ids if one did.
        raise SecurityError("can't set `spec.hostUsers: false`, runtime does not support user namespaces")
    pid = NAMESPACE_NODE if spec.get("hostPID") else NAMESPACE_CONTAINER
    if spec.get("shareProcessNamespace"):
        pid = NAMESPACE_POD
    return {
        "network": NAMESPACE_NODE if spec.get("hostNetwork") else NAMESPACE_POD,
        "pid": pid,
        "ipc": NAMESPACE_NODE if spec.get("hostIPC") else NAMESPACE_POD,
    }


def verify_non_root(pod: Pod, container: ContainerSpec, user: ImageUser) -> None:
    """Refuse a container that must not run as root and would, or might."""
    context = effective(pod, container)
    if not context.get("runAsNonRoot"):
        return
    who = f"(pod: {quote(pods.describe(pod))}, container: {container['name']})"
    if (uid := context.get("runAsUser")) is not None:
        if uid == 0:
            raise SecurityError(f"container's runAsUser breaks non-root policy {who}")
        return
    if user.uid is None and user.username:
        raise SecurityError(
            f"container has runAsNonRoot and image has non-numeric user ({user.username}), "
            f"cannot verify user is non-root {who}"
        )
    if user.uid == 0:
        raise SecurityError(f"container has runAsNonRoot and image will run as root {who}")


def container_security(pod: Pod, container: ContainerSpec, user: ImageUser, host: HostSecurity) -> dict[str, Any]:
    """``LinuxContainerSecurityContext``."""
    context = effective(pod, container)
    of_pod = pod["spec"].get("securityContext") or {}
    unmasked = context.get("procMount") == "Unmasked"
    security: dict[str, Any] = {
        "privileged": bool(context.get("privileged")),
        "readonly_rootfs": bool(context.get("readOnlyRootFilesystem")),
        "no_new_privs": context.get("allowPrivilegeEscalation") is False,
        "namespace_options": namespaces(pod),
        "supplemental_groups": _groups(of_pod),
        "masked_paths": [] if unmasked else _MASKED,
        "readonly_paths": [] if unmasked else _READ_ONLY,
    }
    if capabilities := context.get("capabilities"):
        security["capabilities"] = {
            "add_capabilities": capabilities.get("add") or [],
            "drop_capabilities": capabilities.get("drop") or [],
        }
    if selinux := context.get("seLinuxOptions"):
        security["selinux_options"] = {key: selinux.get(key, "") for key in ("user", "role", "type", "level")}
    if (uid := context.get("runAsUser")) is not None:
        security["run_as_user"] = {"value": uid}
    elif user.uid is not None:
        security["run_as_user"] = {"value": user.uid}
    else:
        security["run_as_username"] = user.username
    if (gid := context.get("runAsGroup")) is not None:
        security["run_as_group"] = {"value": gid}
    if policy := of_pod.get("supplementalGroupsPolicy"):
        security["supplemental_groups_policy"] = {"Merge": 0, "Strict": 1}[policy]
    security |= _profiles(context, of_pod, host)
    return security


def _groups(of_pod: dict[str, Any]) -> list[int]:
    groups = [of_pod["fsGroup"]] if of_pod.get("fsGroup") is not None else []
    return groups + list(of_pod.get("supplementalGroups") or [])


def _profiles(context: dict[str, Any], of_pod: dict[str, Any], host: HostSecurity) -> dict[str, Any]:
    profiles: dict[str, Any] = {}
    seccomp = context.get("seccompProfile") or of_pod.get("seccompProfile")
    if seccomp:
        profiles["seccomp"] = _seccomp(seccomp, host)
    elif host.seccomp_default and not context.get("privileged"):
        profiles["seccomp"] = {"profile_type": _PROFILE_TYPES["RuntimeDefault"]}
    else:
        profiles["seccomp"] = {"profile_type": _PROFILE_TYPES["Unconfined"]}
    apparmor = context.get("appArmorProfile") or of_pod.get("appArmorProfile")
    if not apparmor or not host.apparmor or context.get("privileged"):
        return profiles  # what is not asked for is the runtime's choice: it may lack the program that loads profiles
    local = apparmor.get("localhostProfile", "")
    profiles["apparmor"] = {"profile_type": _PROFILE_TYPES[apparmor["type"]], "localhost_ref": local}
    profiles["apparmor_profile"] = {
        "RuntimeDefault": "runtime/default",
        "Unconfined": "unconfined",
        "Localhost": f"localhost/{local}",
    }[apparmor["type"]]
    return profiles


def _seccomp(profile: dict[str, Any], host: HostSecurity) -> dict[str, Any]:
    fields: dict[str, Any] = {"profile_type": _PROFILE_TYPES[profile["type"]]}
    if profile["type"] == "Localhost":
        if not profile.get("localhostProfile"):
            raise SecurityError("localhostProfile must be set if seccompProfile type is Localhost.")
        fields["localhost_ref"] = str(Path(host.seccomp_root) / profile["localhostProfile"])
    return fields


def sandbox_security(pod: Pod) -> dict[str, Any]:
    """``LinuxSandboxSecurityContext``: the sandbox itself always runs confined."""
    of_pod = pod["spec"].get("securityContext") or {}
    context: dict[str, Any] = {
        "privileged": any((c.get("securityContext") or {}).get("privileged") for _, c in pods.all_containers(pod)),
        "seccomp": {"profile_type": _PROFILE_TYPES["RuntimeDefault"]},
        "namespace_options": namespaces(pod),
        "supplemental_groups": _groups(of_pod),
    }
    if of_pod.get("runAsUser") is not None:
        context["run_as_user"] = {"value": of_pod["runAsUser"]}
    if of_pod.get("runAsGroup") is not None:
        context["run_as_group"] = {"value": of_pod["runAsGroup"]}
    if selinux := of_pod.get("seLinuxOptions"):
        context["selinux_options"] = {key: selinux.get(key, "") for key in ("user", "role", "type", "level")}
    return context


def apparmor_enabled() -> bool:
    """Whether the kernel has AppArmor, and it is on."""
    try:
        with open("/sys/module/apparmor/parameters/enabled") as file:
            return file.read(1) == "Y"
    except OSError:
        return False
