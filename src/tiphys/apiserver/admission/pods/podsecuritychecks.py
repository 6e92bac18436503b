"""The checks of the Pod Security Standards, at the levels baseline and restricted.

A check takes a pod's metadata and spec and gives what is wrong as (reason, detail), or None.
Source: https://kubernetes.io/docs/concepts/security/pod-security-standards/
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

from tiphys.api.gotext import quote
from tiphys.api.object import Object

Finding = tuple[str, str]
Run = Callable[[Object, Object], Finding | None]

_KINDS = ("initContainers", "containers", "ephemeralContainers")


@dataclass(frozen=True, slots=True)
class Check:
    """``since`` is the minor version of the policy that has the check; it may replace another one."""

    id: str
    restricted: bool
    run: Run
    since: int = 0
    replaces: str = ""


def containers(spec: Object) -> Iterator[tuple[str, Object, Object]]:
    """Each container with its name and security context."""
    for kind in _KINDS:
        for container in spec.get(kind) or ():
            yield container["name"], container, container.get("securityContext") or {}


def quoted(names: Iterable[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def _plural(one: str, many: str, count: int) -> str:
    return one if count == 1 else many


def _who(names: list[str]) -> str:
    return f"{_plural('container', 'containers', len(names))} {quoted(names)}"


def _pod_context(spec: Object) -> Object:
    return spec.get("securityContext") or {}


def _is_windows(spec: Object) -> bool:
    return (spec.get("os") or {}).get("name") == "windows"


def _has_own_users(spec: Object) -> bool:
    """A pod in its own user namespace, where root is nobody outside."""
    return spec.get("hostUsers") is False


# -- baseline


def app_armor(meta: Object, spec: Object) -> Finding | None:
    """Profiles other than the runtime's or local ones, in fields and annotations."""
    allowed = ("RuntimeDefault", "Localhost")
    setters, values = _profiles(spec, "appArmorProfile", lambda t: t in allowed)
    bad = [
        f"{key}={quote(value)}"
        for key, value in sorted((meta.get("annotations") or {}).items())
        if key.startswith("container.apparmor.security.beta.kubernetes.io/") and not _is_allowed_app_armor(value)
    ]
    if bad:
        setters.append(_plural("annotation", "annotations", len(bad)))
    forbidden = [*sorted(values), *bad]
    if not forbidden:
        return None
    reason = _plural("forbidden AppArmor profile", "forbidden AppArmor profiles", len(forbidden))
    verb = "must not set AppArmor profile type to"
    return reason, f"{' and '.join(setters)} {verb} {quoted(forbidden)}"


def _is_allowed_app_armor(value: str) -> bool:
    return value in ("", "runtime/default") or value.startswith("localhost/")


_CAPABILITIES = frozenset(
    (
        "AUDIT_WRITE",
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "MKNOD",
        "NET_BIND_SERVICE",
        "SETFCAP",
        "SETGID",
        "SETPCAP",
        "SETUID",
        "SYS_CHROOT",
    )
)


def capabilities_baseline(meta: Object, spec: Object) -> Finding | None:
    bad: list[str] = []
    added: set[str] = set()
    for name, _, context in containers(spec):
        extra = set((context.get("capabilities") or {}).get("add") or ()) - _CAPABILITIES
        if extra:
            bad.append(name)
            added |= extra
    if not bad:
        return None
    detail = f"{_who(bad)} must not include {quoted(sorted(added))} in securityContext.capabilities.add"
    return "non-default capabilities", detail


def host_namespaces(meta: Object, spec: Object) -> Finding | None:
    namespaces = [f"{name}=true" for name in ("hostNetwork", "hostPID", "hostIPC") if spec.get(name)]
    return ("host namespaces", ", ".join(namespaces)) if namespaces else None


def host_path_volumes(meta: Object, spec: Object) -> Finding | None:
    volumes = [volume["name"] for volume in spec.get("volumes") or () if volume.get("hostPath") is not None]
    return ("hostPath volumes", f"{_plural('volume', 'volumes', len(volumes))} {quoted(volumes)}") if volumes else None


def host_ports(meta: Object, spec: Object) -> Finding | None:
    bad: list[str] = []
    ports: set[str] = set()
    for name, container, _ in containers(spec):
        own = {str(port["hostPort"]) for port in container.get("ports") or () if port.get("hostPort")}
        if own:
            bad.append(name)
            ports |= own
    if not bad:
        return None
    uses, what = _plural("uses", "use", len(bad)), _plural("hostPort", "hostPorts", len(ports))
    return "hostPort", f"{_who(bad)} {uses} {what} {', '.join(sorted(ports))}"


def host_probes(meta: Object, spec: Object) -> Finding | None:
    """Any host: a probe to another one makes the kubelet send requests where the pod wants them."""
    bad: list[str] = []
    hosts: set[str] = set()
    for name, container, _ in containers(spec):
        lifecycle = container.get("lifecycle") or {}
        handlers = [container.get(kind) for kind in ("livenessProbe", "readinessProbe", "startupProbe")]
        handlers += [lifecycle.get("postStart"), lifecycle.get("preStop")]
        own = {host for handler in handlers for host in _hosts(handler or {})}
        if own:
            bad.append(name)
            hosts |= own
    if not bad:
        return None
    uses = _plural("uses", "use", len(bad))
    what = _plural("probe or lifecycle host", "probe or lifecycle hosts", len(hosts))
    return "probe or lifecycle host", f"{_who(sorted(bad))} {uses} {what} {quoted(sorted(hosts))}"


def _hosts(handler: Object) -> Iterator[str]:
    for kind in ("httpGet", "tcpSocket"):
        host = (handler.get(kind) or {}).get("host")
        if host:
            yield host


def privileged(meta: Object, spec: Object) -> Finding | None:
    bad = [name for name, _, context in containers(spec) if context.get("privileged")]
    return ("privileged", f"{_who(bad)} must not set securityContext.privileged=true") if bad else None


def proc_mount(meta: Object, spec: Object) -> Finding | None:
    bad = [(name, context["procMount"]) for name, _, context in containers(spec) if _bad_mount(context)]
    if not bad:
        return None
    names, values = [name for name, _ in bad], sorted({value for _, value in bad})
    return "procMount", f"{_who(names)} must not set securityContext.procMount to {quoted(values)}"


def _bad_mount(context: Object) -> bool:
    return context.get("procMount") not in (None, "Default")


_SELINUX_TYPES = ("", "container_t", "container_init_t", "container_kvm_t")
_SELINUX_TYPES_31 = (*_SELINUX_TYPES, "container_engine_t")


def selinux(meta: Object, spec: Object, allowed: tuple[str, ...] = _SELINUX_TYPES) -> Finding | None:
    options = [("", _pod_context(spec).get("seLinuxOptions"))]
    options += [(name, context.get("seLinuxOptions")) for name, _, context in containers(spec)]
    bad = [(name, option) for name, option in options if option and not _is_allowed_selinux(option, allowed)]
    if not bad:
        return None
    setters = ["pod"] if any(not name for name, _ in bad) else []
    if names := [name for name, _ in bad if name]:
        setters.append(_who(names))
    types = sorted({f.get("type", "") for _, f in bad} - set(allowed))
    data = [f"{_plural('type', 'types', len(types))} {quoted(types)}"] if types else []
    data += [f"{what} may not be set" for what in ("user", "role") if any(option.get(what) for _, option in bad)]
    detail = f"{' and '.join(setters)} set forbidden securityContext.seLinuxOptions: {'; '.join(data)}"
    return "seLinuxOptions", detail


def _is_allowed_selinux(options: Object, types: tuple[str, ...]) -> bool:
    return options.get("type", "") in types and not options.get("user") and not options.get("role")


_SECCOMP_POD = "seccomp.security.alpha.kubernetes.io/pod"
_SECCOMP_CONTAINER = "container.seccomp.security.alpha.kubernetes.io/"


def seccomp_annotations(meta: Object, spec: Object) -> Finding | None:
    """How profiles were chosen before there was a field for them."""
    annotations = meta.get("annotations") or {}
    keys = {_SECCOMP_POD, *(f"{_SECCOMP_CONTAINER}{name}" for name, _, _ in containers(spec))} & annotations.keys()
    bad = [f"{key}={quote(annotations[key])}" for key in sorted(keys) if not _is_allowed_seccomp(annotations[key])]
    if not bad:
        return None
    return "seccompProfile", f"forbidden {_plural('annotation', 'annotations', len(bad))} {', '.join(bad)}"


def _is_allowed_seccomp(value: str) -> bool:
    return value in ("runtime/default", "docker/default") or value.startswith("localhost/")


_SECCOMP = ("RuntimeDefault", "Localhost")


def seccomp_baseline(meta: Object, spec: Object) -> Finding | None:
    setters, values = _profiles(spec, "seccompProfile", lambda t: t in _SECCOMP)
    return _bad_seccomp(setters, values) if setters else None


def _bad_seccomp(setters: list[str], values: set[str]) -> Finding:
    verb = "must not set securityContext.seccompProfile.type to"
    return "seccompProfile", f"{' and '.join(setters)} {verb} {quoted(sorted(values))}"


def _profiles(spec: Object, field: str, allowed: Callable[[str], bool]) -> tuple[list[str], set[str]]:
    """Who sets a profile of a type that is not allowed, and the types."""
    setters: list[str] = []
    values: set[str] = set()
    own = _type_of(_pod_context(spec), field)
    if own is not None and not allowed(own):
        setters.append("pod")
        values.add(own)
    bad = []
    for name, _, context in containers(spec):
        type = _type_of(context, field)
        if type is not None and not allowed(type):
            bad.append(name)
            values.add(type)
    if bad:
        setters.append(_who(bad))
    return setters, values


def _type_of(context: Object, field: str) -> str | None:
    """None without a profile; a profile without a type has an empty one."""
    profile = context.get(field)
    return None if profile is None else str(profile.get("type", ""))


_SYSCTLS = frozenset(
    (
        "kernel.shm_rmid_forced",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.ip_unprivileged_port_start",
        "net.ipv4.ping_group_range",
        "net.ipv4.tcp_syncookies",
    )
)
_SYSCTLS_27 = _SYSCTLS | {"net.ipv4.ip_local_reserved_ports"}
_SYSCTLS_29 = _SYSCTLS_27 | {
    f"net.ipv4.tcp_{name}" for name in ("keepalive_time", "fin_timeout", "keepalive_intvl", "keepalive_probes")
}
_SYSCTLS_32 = _SYSCTLS_29 | {"net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem"}


def sysctls(meta: Object, spec: Object, allowed: frozenset[str] = _SYSCTLS) -> Finding | None:
    bad = [s["name"] for s in _pod_context(spec).get("sysctls") or () if s["name"] not in allowed]
    return ("forbidden sysctls", ", ".join(bad)) if bad else None


def windows_host_process(meta: Object, spec: Object) -> Finding | None:
    setters = ["pod"] if (_pod_context(spec).get("windowsOptions") or {}).get("hostProcess") else []
    bad = [name for name, _, context in containers(spec) if (context.get("windowsOptions") or {}).get("hostProcess")]
    if bad:
        setters.append(_who(bad))
    if not setters:
        return None
    return "hostProcess", f"{' and '.join(setters)} must not set securityContext.windowsOptions.hostProcess=true"


# -- restricted


def privilege_escalation(meta: Object, spec: Object) -> Finding | None:
    bad = [name for name, _, context in containers(spec) if context.get("allowPrivilegeEscalation") is not False]
    if not bad:
        return None
    detail = f"{_who(bad)} must set securityContext.allowPrivilegeEscalation=false"
    return "allowPrivilegeEscalation != false", detail


def capabilities_restricted(meta: Object, spec: Object) -> Finding | None:
    """Containers that do not drop ALL, or add more than NET_BIND_SERVICE."""
    missing: list[str] = []
    adding: list[str] = []
    added: set[str] = set()
    for name, _, context in containers(spec):
        capabilities = context.get("capabilities") or {}
        if "ALL" not in (capabilities.get("drop") or ()):
            missing.append(name)
        extra = set(capabilities.get("add") or ()) - {"NET_BIND_SERVICE"}
        if extra:
            adding.append(name)
            added |= extra
    details = []
    if missing:
        details.append(f'{_who(missing)} must set securityContext.capabilities.drop=["ALL"]')
    if adding:
        shown = quoted(sorted(added))
        details.append(f"{_who(adding)} must not include {shown} in securityContext.capabilities.add")
    return ("unrestricted capabilities", "; ".join(details)) if details else None


_VOLUMES = frozenset(
    (
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "persistentVolumeClaim",
        "projected",
        "secret",
        "image",
    )
)


def restricted_volumes(meta: Object, spec: Object) -> Finding | None:
    bad = [(v["name"], set(v) - {"name"} or {"unknown"}) for v in spec.get("volumes") or () if not set(v) & _VOLUMES]
    if not bad:
        return None
    names = [name for name, _ in bad]
    types = sorted({type for _, kinds in bad for type in kinds})
    uses = _plural("uses", "use", len(names))
    what = _plural("restricted volume type", "restricted volume types", len(types))
    detail = f"{_plural('volume', 'volumes', len(names))} {quoted(names)} {uses} {what} {quoted(types)}"
    return "restricted volume types", detail


def run_as_non_root(meta: Object, spec: Object) -> Finding | None:
    reason = "runAsNonRoot != true"
    own = _pod_context(spec).get("runAsNonRoot")
    setters = ["pod"] if own is False else []
    bad = [name for name, _, context in containers(spec) if context.get("runAsNonRoot") is False]
    if bad:
        setters.append(_who(bad))
    if setters:
        return reason, f"{' and '.join(setters)} must not set securityContext.runAsNonRoot=false"
    unset = [name for name, _, context in containers(spec) if context.get("runAsNonRoot") is None and not own]
    return (reason, f"pod or {_who(unset)} must set securityContext.runAsNonRoot=true") if unset else None


def run_as_user(meta: Object, spec: Object) -> Finding | None:
    setters = ["pod"] if _pod_context(spec).get("runAsUser") == 0 else []
    bad = [name for name, _, context in containers(spec) if context.get("runAsUser") == 0]
    if bad:
        setters.append(_who(bad))
    return ("runAsUser=0", f"{' and '.join(setters)} must not set runAsUser=0") if setters else None


def seccomp_restricted(meta: Object, spec: Object) -> Finding | None:
    setters, values = _profiles(spec, "seccompProfile", lambda t: t in _SECCOMP)
    if setters:
        return _bad_seccomp(setters, values)
    if (_pod_context(spec).get("seccompProfile") or {}).get("type"):
        return None
    unset = [name for name, _, context in containers(spec) if context.get("seccompProfile") is None]
    if not unset:
        return None
    wanted = '"RuntimeDefault" or "Localhost"'
    return "seccompProfile", f"pod or {_who(unset)} must set securityContext.seccompProfile.type to {wanted}"


def _unless(relaxed: Callable[[Object], bool], run: Run) -> Run:
    return lambda meta, spec: None if relaxed(spec) else run(meta, spec)


CHECKS: tuple[Check, ...] = (
    Check("appArmorProfile", restricted=False, run=app_armor),
    Check("capabilities_baseline", restricted=False, run=capabilities_baseline),
    Check("hostNamespaces", restricted=False, run=host_namespaces),
    Check("hostPathVolumes", restricted=False, run=host_path_volumes),
    Check("hostPorts", restricted=False, run=host_ports),
    Check("hostProbesAndHostLifecycle", restricted=False, run=host_probes, since=34),
    Check("privileged", restricted=False, run=privileged),
    Check("procMount", restricted=False, run=proc_mount),
    Check("procMount", restricted=False, run=_unless(_has_own_users, proc_mount), since=35),
    Check("seLinuxOptions", restricted=False, run=selinux),
    Check("seLinuxOptions", restricted=False, run=partial(selinux, allowed=_SELINUX_TYPES_31), since=31),
    Check("seccompProfile_baseline", restricted=False, run=seccomp_annotations),
    Check("seccompProfile_baseline", restricted=False, run=seccomp_baseline, since=19),
    Check("sysctls", restricted=False, run=sysctls),
    Check("sysctls", restricted=False, run=partial(sysctls, allowed=_SYSCTLS_27), since=27),
    Check("sysctls", restricted=False, run=partial(sysctls, allowed=_SYSCTLS_29), since=29),
    Check("sysctls", restricted=False, run=partial(sysctls, allowed=_SYSCTLS_32), since=32),
    Check("windowsHostProcess", restricted=False, run=windows_host_process),
    Check("allowPrivilegeEscalation", restricted=True, run=privilege_escalation, since=8),
    Check("allowPrivilegeEscalation", restricted=True, run=_unless(_is_windows, privilege_escalation), since=25),
    Check(
        "capabilities_restricted",
        restricted=True,
        run=capabilities_restricted,
        since=22,
        replaces="capabilities_baseline",
    ),
    Check(
        "capabilities_restricted",
        restricted=True,
        run=_unless(_is_windows, capabilities_restricted),
        since=25,
        replaces="capabilities_baseline",
    ),
    Check("procMount_restricted", restricted=True, run=proc_mount, since=35, replaces="procMount"),
    Check("restrictedVolumes", restricted=True, run=restricted_volumes, replaces="hostPathVolumes"),
    Check("runAsNonRoot", restricted=True, run=run_as_non_root),
    Check("runAsNonRoot", restricted=True, run=_unless(_has_own_users, run_as_non_root), since=35),
    Check("runAsUser", restricted=True, run=run_as_user, since=23),
    Check("runAsUser", restricted=True, run=_unless(_has_own_users, run_as_user), since=35),
    Check(
        "seccompProfile_restricted",
        restricted=True,
        run=seccomp_restricted,
        since=19,
        replaces="seccompProfile_baseline",
    ),
    Check(
        "seccompProfile_restricted",
        restricted=True,
        run=_unless(_is_windows, seccomp_restricted),
        since=25,
        replaces="seccompProfile_baseline",
    ),
)
"""In the order in which findings are reported. Of several of one id, each replaces the ones before."""


def findings(level: str, minor: int, meta: Object, spec: Object) -> list[Finding]:
    """What a pod does that a level, in a version of the policy, forbids."""
    if level == "privileged":
        return []
    chosen = {c.id: c for c in CHECKS if c.since <= minor and (level == "restricted" or not c.restricted)}
    replaced = {check.replaces for check in chosen.values()}
    results = (check.run(meta, spec) for check in chosen.values() if check.id not in replaced)
    return [finding for finding in results if finding is not None]
