"""Security contexts of pods and containers, and the annotations that came before some of their fields.

Source: https://kubernetes.io/docs/tasks/configure-pod-container/security-context/
"""

from __future__ import annotations

import re
from typing import Any

from tiphys.api import fielderrors as field
from tiphys.api.gotext import json_text
from tiphys.api.meta import names
from tiphys.api.object import Object
from tiphys.validation.core.paths import local_descending
from tiphys.validation.pods.capabilities import ALLOWED
from tiphys.validation.pods.podoptions import PodOptions, all_containers
from tiphys.validation.shared.common import (
    Errors,
    invalid_all,
)

SECCOMP_POD = "seccomp.security.alpha.kubernetes.io/pod"
SECCOMP_CONTAINER = "container.seccomp.security.alpha.kubernetes.io/"
APPARMOR_CONTAINER = "container.apparmor.security.beta.kubernetes.io/"
_PROFILE_TYPES = ("Localhost", "RuntimeDefault", "Unconfined")
_APPARMOR_MAX = 4095
_GMSA_MAX = 64 * 1024
_DOMAIN_MAX = 256
_USER_MAX = 104
_SYSCTL_MAX = 253
_SYSCTL = r"([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?"
_SYSCTL_RE = re.compile(_SYSCTL)
_CONTROL_RE = re.compile("[\x00-\x1f\x7f]")
_NETBIOS_RE = re.compile(r'[^\\/:*?"<>|.][^\\/:*?"<>|]{0,14}')
_DNS_LABEL = "[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
_WINDOWS_DOMAIN_RE = re.compile(rf"{_DNS_LABEL}(?:\.{_DNS_LABEL})*")
_BAD_USER_RE = re.compile(r'["/\\:;|=,+*?<>@\[\]]')
_DOTS_RE = re.compile(r"[. ]+")
_IPC_SYSCTLS = frozenset(
    (
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
        "kernel.shm",
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.msg",
    )
)
_WINDOWS_POD = (
    ("securityContext", "appArmorProfile"),
    ("securityContext", "seLinuxOptions"),
    ("", "hostUsers"),
    ("", "hostPID"),
    ("", "hostIPC"),
    ("securityContext", "seccompProfile"),
    ("securityContext", "fsGroup"),
    ("securityContext", "fsGroupChangePolicy"),
    ("securityContext", "sysctls"),
    ("", "shareProcessNamespace"),
    ("securityContext", "runAsUser"),
    ("securityContext", "runAsGroup"),
    ("securityContext", "supplementalGroups"),
    ("securityContext", "supplementalGroupsPolicy"),
    ("securityContext", "seLinuxChangePolicy"),
)
_WINDOWS_CONTAINER = (
    "appArmorProfile",
    "seLinuxOptions",
    "seccompProfile",
    "capabilities",
    "readOnlyRootFilesystem",
    "privileged",
    "allowPrivilegeEscalation",
    "procMount",
    "runAsUser",
    "runAsGroup",
)


def pod_context(errs: Errors, spec: Object, path: str, options: PodOptions) -> None:
    """``path`` is the specification's: some fields of the context stand there."""
    context = spec.get("securityContext")
    if not context:
        if spec.get("shareProcessNamespace") and spec.get("hostPID"):
            _share_namespace(errs, path)
        return
    at = f"{path}.securityContext"
    for key in ("fsGroup", "runAsUser", "runAsGroup"):
        if context.get(key) is not None:
            invalid_all(errs, f"{at}.{key}", context[key], names.user_id(context[key]))
    for i, group in enumerate(context.get("supplementalGroups") or ()):
        invalid_all(errs, f"{at}.supplementalGroups[{i}]", group, names.group_id(group))
    if spec.get("shareProcessNamespace") and spec.get("hostPID"):
        _share_namespace(errs, path)
    if context.get("sysctls"):
        _sysctls(errs, context["sysctls"], spec, f"{at}.sysctls", options)
    _choice(errs, context, "fsGroupChangePolicy", at, ("Always", "OnRootMismatch"))
    seccomp(errs, context.get("seccompProfile"), f"{at}.seccompProfile")
    windows_options(errs, context.get("windowsOptions"), f"{at}.windowsOptions")
    apparmor(errs, context.get("appArmorProfile"), f"{at}.appArmorProfile")
    _choice(errs, context, "supplementalGroupsPolicy", at, ("Merge", "Strict"))
    policies = ("MountOption", "Recursive") if options.selinux_mount_option else ("Recursive",)
    _choice(errs, context, "seLinuxChangePolicy", at, policies)


def _share_namespace(errs: Errors, path: str) -> None:
    text = "ShareProcessNamespace and HostPID cannot both be enabled"
    errs.append(field.invalid(f"{path}.securityContext.shareProcessNamespace", True, text))


def _choice(errs: Errors, holder: Object, key: str, path: str, supported: tuple[str, ...]) -> None:
    if holder.get(key) is not None and holder[key] not in supported:
        errs.append(field.not_supported(f"{path}.{key}", holder[key], supported))


def container_context(errs: Errors, context: Object, path: str, *, host_users: bool) -> None:
    """Validate a container's security context; ``host_users`` is False in a user namespace. Appends to ``errs``."""
    if context.get("privileged") and not ALLOWED.privileged:
        errs.append(field.forbidden(f"{path}.privileged", "disallowed by cluster policy"))
    for key in ("runAsUser", "runAsGroup"):
        if context.get(key) is not None:
            invalid_all(errs, f"{path}.{key}", context[key], names.user_id(context[key]))
    mount = context.get("procMount")
    if mount is not None:
        if mount not in ("Default", "Unmasked"):
            errs.append(field.not_supported(f"{path}.procMount", mount, ("Default", "Unmasked")))
        if host_users and mount == "Unmasked":
            errs.append(field.invalid(f"{path}.procMount", mount, "`hostUsers` must be false to use `Unmasked`"))
    seccomp(errs, context.get("seccompProfile"), f"{path}.seccompProfile")
    if context.get("allowPrivilegeEscalation") is False:
        _escalation(errs, context, path)
    windows_options(errs, context.get("windowsOptions"), f"{path}.windowsOptions")
    apparmor(errs, context.get("appArmorProfile"), f"{path}.appArmorProfile")


def _escalation(errs: Errors, context: Object, path: str) -> None:
    from tiphys.validation.shared.internal import internal_value

    if context.get("privileged"):
        text = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true"
        errs.append(field.invalid(path, internal_value("SecurityContext", context), text))
    for capability in (context.get("capabilities") or {}).get("add") or ():
        if capability == "CAP_SYS_ADMIN":
            text = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN"
            errs.append(field.invalid(path, internal_value("SecurityContext", context), text))


def seccomp(errs: Errors, profile: Object | None, path: str) -> None:
    """Validate a seccomp profile: a file only, and always, with type Localhost. Appends to ``errs``."""
    if profile is None:
        return
    kind, local = profile.get("type") or "", profile.get("localhostProfile")
    if not kind:
        errs.append(field.required(f"{path}.type", "type is required when seccompProfile is set"))
    elif kind not in _PROFILE_TYPES:
        errs.append(field.not_supported(f"{path}.type", kind, _PROFILE_TYPES))
    at = f"{path}.localhostProfile"
    if kind != "Localhost":
        if local is not None:
            value = {"Type": kind, "LocalhostProfile": local}
            errs.append(field.invalid(at, value, "can only be set when seccomp type is Localhost"))
    elif local is None:
        errs.append(field.required(at, "must be set when seccomp type is Localhost"))
    else:
        local_descending(errs, local, at)


def apparmor(errs: Errors, profile: Object | None, path: str) -> None:
    """Validate an AppArmor profile: a name only, and always, with type Localhost. Appends to ``errs``."""
    if profile is None:
        return
    kind, local, at = profile.get("type") or "", profile.get("localhostProfile"), f"{path}.localhostProfile"
    if kind == "Localhost":
        if local is None:
            errs.append(field.required(at, "must be set when AppArmor type is Localhost"))
            return
        if local.strip() != local:
            errs.append(field.invalid(at, local, "must not be padded with whitespace"))
        elif not local:
            errs.append(field.required(at, "must be set when AppArmor type is Localhost"))
        if names.byte_length(local) > _APPARMOR_MAX:
            errs.append(field.too_long(at, _APPARMOR_MAX))
    elif kind in ("RuntimeDefault", "Unconfined"):
        if local is not None:
            errs.append(field.invalid(at, local, "can only be set when AppArmor type is Localhost"))
    elif not kind:
        errs.append(field.required(f"{path}.type", "type is required when appArmorProfile is set"))
    else:
        errs.append(field.not_supported(f"{path}.type", kind, _PROFILE_TYPES))


def _sysctls(errs: Errors, sysctls: list[Object], spec: Object, path: str, options: PodOptions) -> None:
    seen: set[str] = set()
    for i, sysctl in enumerate(sysctls):
        name, at = sysctl.get("name") or "", f"{path}[{i}].name"
        if not name:
            errs.append(field.required(at))
        elif len(name) > _SYSCTL_MAX or not _SYSCTL_RE.fullmatch(name):
            text = f"must have at most {_SYSCTL_MAX} characters and match regex ^{_SYSCTL}$"
            errs.append(field.invalid(at, name, text))
        elif name in seen:
            errs.append(field.duplicate(at, name))
        if not options.host_sysctls and (problem := host_sysctl(name, spec)):
            errs.append(field.invalid(at, name, problem))
        seen.add(name)


def host_sysctl(name: str, spec: Object) -> str:
    """A namespaced setting makes no sense if the pod is in the host's namespace."""
    plain = _normalize_sysctl(name).partition("*")[0]
    if spec.get("hostNetwork") and plain.startswith("net."):
        return "may not be specified when 'hostNetwork' is true"
    if spec.get("hostIPC") and (plain in _IPC_SYSCTLS or plain.startswith("fs.mqueue.")):
        return "may not be specified when 'hostIPC' is true"
    return ""


def _normalize_sysctl(name: str) -> str:
    """With slashes as separators, dots are part of a segment."""
    first = next((c for c in name if c in "./"), ".")
    return name if first == "." else name.translate({ord("."): "/", ord("/"): "."})


def windows_options(errs: Errors, options: Object | None, path: str) -> None:
    """Validate Windows options: names, the GMSA specification's size, and the user. Appends to ``errs``."""
    if options is None:
        return
    name = options.get("gmsaCredentialSpecName")
    if name is not None:
        invalid_all(errs, f"{path}.gmsaCredentialSpecName", name, names.dns1123_subdomain(name))
    spec = options.get("gmsaCredentialSpec")
    if spec is not None:
        if not spec:
            text = "gmsaCredentialSpec cannot be an empty string"
            errs.append(field.invalid(f"{path}.gmsaCredentialSpec", spec, text))
        elif names.byte_length(spec) > _GMSA_MAX:
            text = f"gmsaCredentialSpec size must be under {_GMSA_MAX // 1024} KiB"
            errs.append(field.invalid(f"{path}.gmsaCredentialSpec", spec, text))
    user = options.get("runAsUserName")
    if user is not None:
        # Upstream shows what a pointer points to as JSON.
        invalid_all(errs, f"{path}.runAsUserName", field.Rendered(json_text(user)), _user_name_problems(user))


def _user_name_problems(text: str) -> list[str]:
    """What is wrong with a Windows user name, as messages."""
    if not text:
        return ["runAsUserName cannot be an empty string"]
    if _CONTROL_RE.search(text):
        return ["runAsUserName cannot contain control characters"]
    parts = text.split("\\")
    if len(parts) > 2:
        return ["runAsUserName cannot contain more than one backslash"]
    domain, user = (parts[0], parts[1]) if len(parts) == 2 else (None, parts[0])
    problems = []
    if domain is not None and names.byte_length(domain) >= _DOMAIN_MAX:
        problems.append(f"runAsUserName's Domain length must be under {_DOMAIN_MAX} characters")
    if domain is not None and not (_NETBIOS_RE.fullmatch(domain) or _WINDOWS_DOMAIN_RE.fullmatch(domain)):
        problems.append("runAsUserName's Domain doesn't match the NetBios nor the DNS format")
    if not user:
        problems.append("runAsUserName's User cannot be empty")
    elif names.byte_length(user) > _USER_MAX:
        problems.append(f"runAsUserName's User length must not be longer than {_USER_MAX} characters")
    if _DOTS_RE.fullmatch(user):
        problems.append("runAsUserName's User cannot contain only periods or spaces")
    if _BAD_USER_RE.search(user):
        problems.append("runAsUserName's User cannot contain the following characters: \"/\\:;|=,+*?<>@[]")
    return problems


def host_process(errs: Errors, spec: Object, path: str) -> None:
    """Windows host process containers: all of a pod's containers, or none."""
    pod_wants = _host_process(spec)
    count = privileged = 0
    for container, at in all_containers(spec):
        count += 1
        wants = _host_process(container)
        if pod_wants is not None and wants is not None and pod_wants != wants:
            text = f"pod hostProcess value must be identical if both are specified, was {str(pod_wants).lower()}"
            errs.append(field.invalid(f"{path}.{at}.securityContext.windowsOptions.hostProcess", wants, text))
        if wants or (wants is None and pod_wants):
            privileged += 1
    if not privileged:
        return
    if privileged != count:
        text = "If pod contains any hostProcess containers then all containers must be HostProcess containers"
        errs.append(field.invalid(path, "", text))
    if not spec.get("hostNetwork"):
        text = "hostNetwork must be true if pod contains any hostProcess containers"
        errs.append(field.invalid(f"{path}.hostNetwork", False, text))
    if not ALLOWED.privileged:
        errs.append(field.forbidden(path, "hostProcess containers are disallowed by cluster policy"))


def _host_process(holder: Object) -> bool | None:
    context = holder.get("securityContext")
    if not context:
        return None
    options = context.get("windowsOptions")
    return options.get("hostProcess") if options else None


def host_users(errs: Errors, spec: Object, path: str, options: PodOptions) -> None:
    """A pod with its own user namespace may share no namespace of the host."""
    if spec.get("hostUsers") is not False:
        return
    text = "when `hostUsers` is false"
    if spec.get("hostNetwork") and not options.host_network_in_user_namespace:
        errs.append(field.forbidden(f"{path}.hostNetwork", text))
    if spec.get("hostPID"):
        errs.append(field.forbidden(f"{path}.HostPID", text))
    if spec.get("hostIPC"):
        errs.append(field.forbidden(f"{path}.HostIPC", text))
    if not options.devices_in_user_namespace:
        for container, at in all_containers(spec):
            if container.get("volumeDevices"):
                errs.append(field.forbidden(f"{path}.{at}.volumeDevices", text))


def operating_system(errs: Errors, spec: Object, path: str) -> None:
    """What a pod that names its operating system must not ask for."""
    name = spec["os"].get("name") or ""
    if not name:
        errs.append(field.required(f"{path}.os.name"))
    elif name == "linux":
        _linux(errs, spec, path)
    elif name == "windows":
        _windows(errs, spec, path)
    else:
        errs.append(field.not_supported(f"{path}.os", name, ("linux", "windows")))


def _linux(errs: Errors, spec: Object, path: str) -> None:
    text = "windows options cannot be set for a linux pod"
    holders: list[tuple[Any, str]] = [(spec, path)]
    holders += [(container, f"{path}.{at}") for container, at in all_containers(spec)]
    for holder, at in holders:
        if (holder.get("securityContext") or {}).get("windowsOptions") is not None:
            errs.append(field.forbidden(f"{at}.securityContext.windowsOptions", text))


def _windows(errs: Errors, spec: Object, path: str) -> None:
    text = "cannot be set for a windows pod"
    for parent, key in _WINDOWS_POD:
        holder = (spec.get(parent) or {}) if parent else spec
        value = holder.get(key)
        if value is None or (key in ("hostPID", "hostIPC", "sysctls") and not value):
            continue
        errs.append(field.forbidden(f"{path}.{parent}.{key}" if parent else f"{path}.{key}", text))
    for container, at in all_containers(spec):
        context = container.get("securityContext") or {}
        for key in _WINDOWS_CONTAINER:
            if context.get(key) is not None:
                errs.append(field.forbidden(f"{path}.{at}.securityContext.{key}", text))


def profile_annotations(errs: Errors, annotations: dict[str, str], spec: Object, path: str) -> None:
    """The annotations in which profiles were set before there were fields."""
    if SECCOMP_POD in annotations:
        _seccomp_annotation(errs, annotations[SECCOMP_POD], f"{path}.{SECCOMP_POD}")
    for key, value in annotations.items():
        if key.startswith(SECCOMP_CONTAINER):
            _seccomp_annotation(errs, value, f"{path}.{key}")
    for key, value in annotations.items():
        if key.startswith(APPARMOR_CONTAINER):
            name = key.removeprefix(APPARMOR_CONTAINER)
            if all(container.get("name") != name for container, _ in all_containers(spec)):
                errs.append(field.invalid(f"{path}[{key}]", name, "container not found"))
            if value not in ("", "runtime/default", "unconfined") and not value.startswith("localhost/"):
                errs.append(field.invalid(f"{path}[{key}]", value, f'invalid AppArmor profile name: "{value}"'))


def _seccomp_annotation(errs: Errors, profile: str, path: str) -> None:
    if profile in ("runtime/default", "docker/default", "unconfined"):
        return
    if profile.startswith("localhost/"):
        local_descending(errs, profile.removeprefix("localhost/"), path)
    else:
        errs.append(field.invalid(path, profile, "must be a valid seccomp profile"))


def annotations_match_fields(errs: Errors, annotations: dict[str, str], spec: Object, path: str) -> None:
    """If a profile is set in both ways, both say the same."""
    if not any(key == SECCOMP_POD or key.startswith((SECCOMP_CONTAINER, APPARMOR_CONTAINER)) for key in annotations):
        return
    pod = spec.get("securityContext") or {}
    if pod.get("seccompProfile") and SECCOMP_POD in annotations:
        at = f"{path}.securityContext.seccompProfile"
        _match(errs, annotations[SECCOMP_POD], pod["seccompProfile"], at, "seccomp")
    for container, at in all_containers(spec):
        profile = (container.get("securityContext") or {}).get("seccompProfile")
        text = annotations.get(SECCOMP_CONTAINER + (container.get("name") or ""))
        if profile and text is not None:
            _match(errs, text, profile, f"{path}.{at}.securityContext.seccompProfile", "seccomp")
    if (spec.get("os") or {}).get("name") == "windows":
        return
    for container, at in all_containers(spec):
        profile = (container.get("securityContext") or {}).get("appArmorProfile") or pod.get("appArmorProfile")
        text = annotations.get(APPARMOR_CONTAINER + (container.get("name") or ""))
        if profile and text is not None:
            _match(errs, text, profile, f"{path}.{at}.securityContext.appArmorProfile", "apparmor")


def _match(errs: Errors, text: str, profile: Object, path: str, kind: str) -> None:
    expected: tuple[str, ...] | None = {"Unconfined": ("unconfined",), "RuntimeDefault": ("runtime/default",)}.get(
        profile.get("type") or ""
    )
    if kind == "seccomp" and expected == ("runtime/default",):
        expected = ("runtime/default", "docker/default")
    wrong_type = f"{kind} type in annotation and field must match"
    if expected is not None:
        if text not in expected:
            errs.append(field.forbidden(f"{path}.type", wrong_type))
    elif profile.get("type") == "Localhost":
        if not text.startswith("localhost/"):
            errs.append(field.forbidden(f"{path}.type", wrong_type))
        elif profile.get("localhostProfile") != text.removeprefix("localhost/"):
            wrong_profile = f"{kind} profile in annotation and field must match"
            errs.append(field.forbidden(f"{path}.localhostProfile", wrong_profile))
