"""Containers of a pod: regular, init and ephemeral ones.

Source: https://kubernetes.io/docs/reference/generated/kubernetes-api/v1.36/#container-v1-core
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from typing import Any

from tiphys.api import fielderrors as field
from tiphys.api.meta import names
from tiphys.api.object import Object
from tiphys.validation.core.paths import local_descending, no_backsteps
from tiphys.validation.pods import env, probes
from tiphys.validation.pods.podoptions import PodOptions
from tiphys.validation.pods.resources import requirements
from tiphys.validation.pods.security import container_context
from tiphys.validation.shared.common import (
    Errors,
    invalid_all,
    label,
)

_PULL_POLICIES = ("Always", "IfNotPresent", "Never")
_PROPAGATIONS = ("Bidirectional", "HostToContainer", "None")
_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
_MAX_RESTART_RULES = 20
_MAX_EXIT_CODES = 255
_NOT_EPHEMERAL = (
    ("ports", "ports"),
    ("resources", "resources"),
    ("resizePolicy", "resizePolicy"),
    ("restartPolicy", "restartPolicy"),
    ("restartPolicyRules", "restartPolicyRules"),
    ("livenessProbe", "livenessProbe"),
    ("readinessProbe", "readinessProbe"),
    ("startupProbe", "startupProbe"),
    ("lifecycle", "lifecycle"),
)


@dataclass(slots=True)
class PodContext:
    """What the validation of a container needs to know of its pod."""

    options: PodOptions
    volumes: dict[str, Object] = dataclass_field(default_factory=dict)
    claims: Collection[str] = ()
    restart_policy: str = "Always"
    host_users: bool = True
    grace: int | None = None
    os: Object | None = None


def containers(errs: Errors, items: list[Object], path: str, pod: PodContext) -> None:
    """Validate the regular containers of a pod, at least one, with unique names; appends to ``errs``."""
    if not items:
        errs.append(field.required(path))
        return
    seen: set[str] = set()
    for i, container in enumerate(items):
        at = f"{path}[{i}]"
        _common(errs, container, at, pod)
        name = container.get("name") or ""
        if name in seen:
            errs.append(field.duplicate(f"{at}.name", name))
        seen.add(name)
        _hooks_and_probes(errs, container, at, pod)
        if container.get("restartPolicy") is not None or container.get("restartPolicyRules"):
            _restart_policy(errs, container, at)
    _host_port_conflicts(errs, items, path)


def init_containers(errs: Errors, items: list[Object], regular: list[Object], path: str, pod: PodContext) -> None:
    """Validate init containers; only those that restart always may have probes and hooks. Appends to ``errs``."""
    seen = {container.get("name") or "" for container in regular}
    for i, container in enumerate(items):
        at = f"{path}[{i}]"
        _common(errs, container, at, pod)
        policy = container.get("restartPolicy")
        if policy is not None:
            _restart_policy(errs, container, at)
        elif container.get("restartPolicyRules"):
            text = "must specify restartPolicy when restart rules are used"
            errs.append(field.required(f"{at}.restartPolicy", text))
        name = container.get("name") or ""
        if name in seen:
            errs.append(field.duplicate(f"{at}.name", name))
        elif name:
            seen.add(name)
        _host_port_conflicts(errs, [container], path)
        if policy == "Always":
            _hooks_and_probes(errs, container, at, pod)
        else:
            _only_sidecars(errs, container, at, pod)


def _only_sidecars(errs: Errors, container: Object, path: str, pod: PodContext) -> None:
    for key in ("lifecycle", *_PROBES):
        if container.get(key) is not None:
            text = "may not be set for init containers without restartPolicy=Always"
            errs.append(field.forbidden(f"{path}.{key}", text))
    if pod.options.restart_on_resize:
        return
    for i, policy in enumerate(container.get("resizePolicy") or ()):
        if policy.get("restartPolicy") == "RestartContainer":
            text = "must not be set to 'RestartContainer' for non-sidecar initContainers"
            errs.append(field.invalid(f"{path}.resizePolicy[{i}].restartPolicy", "RestartContainer", text))


def ephemeral_containers(errs: Errors, spec: Object, path: str, pod: PodContext) -> None:
    """Validate ephemeral containers, which have no probes, ports or resources; appends to ``errs``."""
    items = spec.get("ephemeralContainers") or []
    others = [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]
    targets = {container.get("name") or "" for container in others}
    seen = set(targets)
    for i, container in enumerate(items):
        at = f"{path}[{i}]"
        _common(errs, container, at, pod)
        only_for_pod(errs, container, at)
        name, target = container.get("name") or "", container.get("targetContainerName")
        if name in seen:
            errs.append(field.duplicate(f"{at}.name", name))
        seen.add(name)
        if target and target not in targets:
            errs.append(field.not_found(f"{at}.targetContainerName", target))
        for key, shown in _NOT_EPHEMERAL:
            value = container.get(key)
            # The wire form always shows resources; every other empty struct was sent.
            if value not in (None, []) and not (key == "resources" and value == {}):
                errs.append(field.forbidden(f"{at}.{shown}", "cannot be set for an Ephemeral Container"))
        for j, mount in enumerate(container.get("volumeMounts") or ()):
            for key in ("subPath", "subPathExpr"):
                if mount.get(key):
                    text = "cannot be set for an Ephemeral Container"
                    errs.append(field.forbidden(f"{at}.volumeMounts[{j}].{key}", text))


def only_for_pod(errs: Errors, container: Object, path: str) -> None:
    """What is looked at in pods and not in templates."""
    image = container.get("image") or ""
    if image != image.strip():
        errs.append(field.invalid(f"{path}.image", image, "must not have leading or trailing whitespace"))


def _common(errs: Errors, container: Object, path: str, pod: PodContext) -> None:
    """Validate what all kinds of containers share; appends to ``errs``."""
    name = container.get("name")
    if not name:
        errs.append(field.required(f"{path}.name"))
    else:
        label(errs, name, f"{path}.name")
    if not container.get("image"):
        errs.append(field.required(f"{path}.image"))
    _message_policy(errs, container.get("terminationMessagePolicy"), path)
    if ports := container.get("ports"):
        _ports(errs, ports, f"{path}.ports")
    if variables := container.get("env"):
        env.variables(errs, variables, f"{path}.env")
    if sources := container.get("envFrom"):
        env.from_sources(errs, sources, f"{path}.envFrom")
    mounts, devices = container.get("volumeMounts"), container.get("volumeDevices")
    if mounts:
        _mounts(errs, container, mounts, devices or (), pod.volumes, f"{path}.volumeMounts")
    if devices:
        _devices(errs, devices, mounts or (), pod.volumes, f"{path}.volumeDevices")
    pull_policy(errs, container.get("imagePullPolicy"), f"{path}.imagePullPolicy")
    if resources := container.get("resources"):
        allow = pod.options.indivisible_huge_pages
        requirements(errs, resources, f"{path}.resources", claims=pod.claims, allow_indivisible=allow)
    if policies := container.get("resizePolicy"):
        _resize_policy(errs, policies, f"{path}.resizePolicy", pod.restart_policy)
    if context := container.get("securityContext"):
        container_context(errs, context, f"{path}.securityContext", host_users=pod.host_users)


def _message_policy(errs: Errors, policy: str | None, path: str) -> None:
    if policy in ("File", "FallbackToLogsOnError"):
        return
    at = f"{path}.terminationMessagePolicy"
    if not policy:
        errs.append(field.required(at))
    else:
        errs.append(field.not_supported(at, policy, ("File", "FallbackToLogsOnError")))


def pull_policy(errs: Errors, policy: str | None, path: str) -> None:
    if policy in _PULL_POLICIES:
        return
    errs.append(field.not_supported(path, policy, _PULL_POLICIES) if policy else field.required(path))


def _hooks_and_probes(errs: Errors, container: Object, path: str, pod: PodContext) -> None:
    if container.get("lifecycle") is not None:
        probes.lifecycle(errs, container["lifecycle"], pod.grace, f"{path}.lifecycle", pod.os)
    if container.get("livenessProbe") is not None:
        probes.liveness(errs, container["livenessProbe"], f"{path}.livenessProbe")
    if container.get("readinessProbe") is not None:
        probes.readiness(errs, container["readinessProbe"], f"{path}.readinessProbe")
    if container.get("startupProbe") is not None:
        probes.liveness(errs, container["startupProbe"], f"{path}.startupProbe")


def _ports(errs: Errors, ports: list[Object], path: str) -> None:
    seen: set[str] = set()
    for i, port in enumerate(ports):
        at, name = f"{path}[{i}]", port.get("name")
        if name:
            problems = names.port_name(name)
            invalid_all(errs, f"{at}.name", name, problems)
            if not problems and name in seen:
                errs.append(field.duplicate(f"{at}.name", name))
            seen.add(name)
        number = port.get("containerPort") or 0
        if not number:
            errs.append(field.required(f"{at}.containerPort"))
        else:
            invalid_all(errs, f"{at}.containerPort", number, names.port_number(number))
        if host := port.get("hostPort"):
            invalid_all(errs, f"{at}.hostPort", host, names.port_number(host))
        probes.protocol(errs, port.get("protocol"), f"{at}.protocol")


def _host_port_conflicts(errs: Errors, items: list[Object], path: str) -> None:
    seen: set[str] = set()
    for i, container in enumerate(items):
        for j, port in enumerate(container.get("ports") or ()):
            if not port.get("hostPort"):
                continue
            key = f"{port.get('protocol') or ''}/{port.get('hostIP') or ''}/{port['hostPort']}"
            if key in seen:
                errs.append(field.duplicate(f"{path}[{i}].ports[{j}].hostPort", key))
            seen.add(key)


def _mounts(
    errs: Errors, container: Object, mounts: list[Object], devices: Any, volumes: dict[str, Object], path: str
) -> None:
    """Validate volume mounts: known volumes, unique mount points. Appends to ``errs``."""
    device_names = {device.get("name") or "" for device in devices}
    device_paths = {device.get("name") or "": device.get("devicePath") or "" for device in devices}.values()
    points: set[str] = set()
    for i, mount in enumerate(mounts):
        at, name, point = f"{path}[{i}]", mount.get("name") or "", mount.get("mountPath") or ""
        if not name:
            errs.append(field.required(f"{at}.name"))
        if name not in volumes:
            errs.append(field.not_found(f"{at}.name", name))
        if not point:
            errs.append(field.required(f"{at}.mountPath"))
        if point in points:
            errs.append(field.invalid(f"{at}.mountPath", point, "must be unique"))
        points.add(point)
        if name in device_names:
            errs.append(field.invalid(f"{at}.name", name, "must not already exist in volumeDevices"))
        if point in device_paths:
            text = "must not already exist as a path in volumeDevices"
            errs.append(field.invalid(f"{at}.mountPath", point, text))
        _mount_details(errs, container, mount, at, path)


def _mount_details(errs: Errors, container: Object, mount: Object, path: str, mounts: str) -> None:
    """Some errors carry the path of the list, not of the mount, as they always have."""
    sub, expression = mount.get("subPath"), mount.get("subPathExpr")
    if sub:
        local_descending(errs, sub, f"{mounts}.subPath")
    if expression:
        if sub:
            text = "subPathExpr and subPath are mutually exclusive"
            errs.append(field.invalid(f"{path}.subPathExpr", expression, text))
        local_descending(errs, expression, f"{mounts}.subPathExpr")
    propagation = mount.get("mountPropagation")
    if propagation is not None:
        at = f"{mounts}.mountPropagation"
        if propagation not in _PROPAGATIONS:
            errs.append(field.not_supported(at, propagation, _PROPAGATIONS))
        privileged = (container.get("securityContext") or {}).get("privileged")
        if propagation == "Bidirectional" and not privileged:
            text = "Bidirectional mount propagation is available only to privileged containers"
            errs.append(field.forbidden(at, text))
    recursive = mount.get("recursiveReadOnly")
    if recursive is not None and recursive != "Disabled":
        _recursive_read_only(errs, mount, recursive, f"{mounts}.recursiveReadOnly")


def _recursive_read_only(errs: Errors, mount: Object, recursive: str, path: str) -> None:
    if recursive not in ("Enabled", "IfPossible"):
        errs.append(field.not_supported(path, recursive, ("Disabled", "Enabled", "IfPossible")))
        return
    if not mount.get("readOnly"):
        errs.append(field.forbidden(path, "may only be specified when readOnly is true"))
    if mount.get("mountPropagation") not in (None, "None"):
        text = "may only be specified when mountPropagation is None or not specified"
        errs.append(field.forbidden(path, text))


def _devices(errs: Errors, devices: list[Object], mounts: Any, volumes: dict[str, Object], path: str) -> None:
    """Validate block devices: unique, from claims only. Appends to ``errs``."""
    mount_names = {mount.get("name") or "" for mount in mounts}
    # Of several mounts of one volume upstream compares the last one only.
    mount_paths = {mount.get("name") or "": mount.get("mountPath") or "" for mount in mounts}.values()
    seen_paths: set[str] = set()
    seen_names: set[str] = set()
    for i, device in enumerate(devices):
        at, name, target = f"{path}[{i}]", device.get("name") or "", device.get("devicePath") or ""
        if not name:
            errs.append(field.required(f"{at}.name"))
        if name in seen_names:
            errs.append(field.invalid(f"{at}.name", name, "must be unique"))
        source = volumes.get(name)
        if source is None:
            errs.append(field.not_found(f"{at}.name", name))
        elif source.get("persistentVolumeClaim") is None and source.get("ephemeral") is None:
            text = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode"
            errs.append(field.invalid(f"{at}.name", name, text))
        if not target:
            errs.append(field.required(f"{at}.devicePath"))
        if target in seen_paths:
            errs.append(field.invalid(f"{at}.devicePath", target, "must be unique"))
        backsteps: Errors = []
        no_backsteps(backsteps, target, "")
        if backsteps:
            errs.append(field.invalid(f"{at}.devicePath", target, "can not contain backsteps ('..')"))
        else:
            seen_paths.add(target)
        if name in mount_names:
            errs.append(field.invalid(f"{at}.name", name, "must not already exist in volumeMounts"))
        if target in mount_paths:
            text = "must not already exist as a path in volumeMounts"
            errs.append(field.invalid(f"{at}.devicePath", target, text))
        if name:
            seen_names.add(name)


def _resize_policy(errs: Errors, policies: list[Object], path: str, pod_restart: str) -> None:
    seen: set[str] = set()
    for i, policy in enumerate(policies):
        name, restart = policy.get("resourceName") or "", policy.get("restartPolicy") or ""
        if name in seen:
            errs.append(field.duplicate(f"{path}[{i}]", name))
        seen.add(name)
        if name not in ("cpu", "memory"):
            errs.append(field.not_supported(path, name, ("cpu", "memory")) if name else field.required(path))
        if restart not in ("NotRequired", "RestartContainer"):
            supported = ("NotRequired", "RestartContainer")
            errs.append(field.not_supported(path, restart, supported) if restart else field.required(path))
        if pod_restart == "Never" and restart != "NotRequired":
            text = "must be 'NotRequired' when pod `restartPolicy` is 'Never'"
            errs.append(field.invalid(path, restart, text))


def _restart_policy(errs: Errors, container: Object, path: str) -> None:
    """Validate a container's restart policy and its rules; appends to ``errs``."""
    policy, rules = container.get("restartPolicy"), container.get("restartPolicyRules") or []
    if policy is None:
        text = "must specify restartPolicy when restart rules are used"
        errs.append(field.required(f"{path}.restartPolicy", text))
    elif policy not in ("Always", "Never", "OnFailure"):
        errs.append(field.not_supported(f"{path}.restartPolicy", policy, ("Always", "Never", "OnFailure")))
    if len(rules) > _MAX_RESTART_RULES:
        errs.append(field.too_many(f"{path}.restartPolicyRules", len(rules), _MAX_RESTART_RULES))
    for i, rule in enumerate(rules):
        at, action = f"{path}.restartPolicyRules[{i}]", rule.get("action") or ""
        if action not in ("Restart", "RestartAllContainers"):
            errs.append(field.not_supported(f"{at}.action", action, ("Restart", "RestartAllContainers")))
        codes = rule.get("exitCodes")
        if codes is None:
            errs.append(field.required(f"{at}.exitCodes", "must be specified"))
            continue
        operator, values = codes.get("operator") or "", codes.get("values") or ()
        if operator not in ("In", "NotIn"):
            errs.append(field.not_supported(f"{at}.exitCodes.operator", operator, ("In", "NotIn")))
        if len(values) > _MAX_EXIT_CODES:
            errs.append(field.too_many(f"{at}.exitCodes.values", len(values), _MAX_EXIT_CODES))
