"""Validation of updates of a pod's status.

Source: https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/
"""

from __future__ import annotations

from typing import Any

from tiphys.api import fielderrors as field
from tiphys.api.meta import names
from tiphys.api.meta.quantity import Quantity
from tiphys.api.object import Object
from tiphys.api.pods.resources import is_native
from tiphys.validation.pods.options import waivers
from tiphys.validation.pods.podoptions import PodOptions
from tiphys.validation.pods.podupdate import annotation_updates
from tiphys.validation.shared.common import (
    Errors,
    immutable,
    invalid_all,
    label,
    name_is_subdomain,
    qualified,
)
from tiphys.validation.shared.ip import dual_stack, legacy_ip
from tiphys.validation.shared.objectmeta import validate_meta_update

_SYSTEM_CONDITIONS = ("PodScheduled", "Ready", "Initialized")
_HEALTH = ("Healthy", "Unhealthy", "Unknown")
_MESSAGE_MAX = 1024
_NOT_BACK = "may not be transitioned to non-terminated state"
_COUNT = "must be a non-negative integer"


def validate_pod_status_update(new: Object, old: Object) -> Errors:
    """The errors of an update of a pod's status."""
    errs: Errors = []
    options: PodOptions = waivers(old, is_pod=True)
    validate_meta_update(errs, new, old)
    annotation_updates(errs, new, old, options)
    after, before = new.get("status") or {}, old.get("status") or {}
    spec, old_spec = new.get("spec") or {}, old.get("spec") or {}
    _conditions(errs, after.get("conditions") or [])
    _node(errs, after, before, spec, old_spec)
    if (after.get("observedGeneration") or 0) < 0:
        errs.append(field.invalid("status.observedGeneration", after["observedGeneration"], _COUNT))
    immutable(errs, after.get("qosClass") or "", before.get("qosClass") or "", "status.qosClass")
    for key, kind in (("containerStatuses", "containers"), ("initContainerStatuses", "initContainers")):
        _transitions(errs, after.get(key) or [], before.get(key) or [], f"status.{key}", old_spec, kind)
    _ephemeral_transitions(errs, after, before)
    _resource_claims(errs, after, spec)
    if after.get("extendedResourceClaimStatus") is not None:
        _extended_claim(errs, after["extendedResourceClaimStatus"], spec)
    _allocatable_claims(errs, after, spec)
    _ips(errs, after, before)
    os = (spec.get("os") or {}).get("name") or "linux"
    for key in ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"):
        _users(errs, after.get(key) or [], f"status.{key}", os)
    for key, kind in (("containerStatuses", "containers"), ("initContainerStatuses", "initContainers")):
        _allocated(errs, after.get(key) or [], f"status.{key}", spec.get(kind) or [])
    for i, status in enumerate(after.get("ephemeralContainerStatuses") or ()):
        if status.get("allocatedResourcesStatus"):
            at = f"status.ephemeralContainerStatuses[{i}].allocatedResourcesStatus"
            errs.append(field.forbidden(at, "must not be specified in container status"))
    return errs


def _conditions(errs: Errors, conditions: list[Object]) -> None:
    for i, condition in enumerate(conditions):
        generation, kind = condition.get("observedGeneration") or 0, condition.get("type") or ""
        if generation < 0:
            errs.append(field.invalid(f"status.conditions[{i}].observedGeneration", generation, _COUNT))
        if kind not in _SYSTEM_CONDITIONS:
            qualified(errs, kind, f"status.conditions[{i}].Type")


def _node(errs: Errors, after: Object, before: Object, spec: Object, old_spec: Object) -> None:
    if (spec.get("nodeName") or "") != (old_spec.get("nodeName") or ""):
        errs.append(field.forbidden("status.nodeName", "may not be changed directly"))
    nominated, at = after.get("nominatedNodeName"), "status.nominatedNodeName"
    if nominated and nominated != before.get("nominatedNodeName"):
        invalid_all(errs, at, nominated, name_is_subdomain(nominated))
        if old_spec.get("nodeName"):
            errs.append(field.forbidden(at, "may not be set on pods that are already bound to a node"))


def _transitions(errs: Errors, new: list[Object], old: list[Object], path: str, spec: Object, kind: str) -> None:
    """A container that has ended is restarted only if its restart policy says so."""
    if not any(_terminated(status) is not None for status in old) or _restarts_all(spec):
        return
    for i, before in enumerate(old):
        ended = _terminated(before)
        if ended is None:
            continue
        after = next((s for s in new if s.get("name") == before.get("name") and _terminated(s) is None), None)
        if after is None:
            continue
        container = next((c for c in spec.get(kind) or () if c.get("name") == before.get("name")), None)
        if container is None or not _should_restart(container, spec, ended.get("exitCode") or 0):
            errs.append(field.forbidden(f"{path}[{i}].state", _NOT_BACK))


def _terminated(status: Object) -> Object | None:
    state: Object | None = (status.get("state") or {}).get("terminated")
    return state


def _restarts_all(spec: Object) -> bool:
    return any(
        rule.get("action") == "RestartAllContainers"
        for key in ("initContainers", "containers")
        for container in spec.get(key) or ()
        for rule in container.get("restartPolicyRules") or ()
    )


def _should_restart(container: Object, spec: Object, code: int) -> bool:
    policy = container.get("restartPolicy")
    if policy is not None:
        for rule in container.get("restartPolicyRules") or ():
            codes = rule.get("exitCodes") or {}
            listed = code in (codes.get("values") or ())
            if listed == (codes.get("operator") == "In") and codes.get("operator") in ("In", "NotIn"):
                return True
    if policy not in ("Always", "OnFailure", "Never"):
        policy = spec.get("restartPolicy")
    return code != 0 if policy == "OnFailure" else policy != "Never"


def _ephemeral_transitions(errs: Errors, new: Object, old: Object) -> None:
    after = new.get("ephemeralContainerStatuses") or []
    for i, before in enumerate(old.get("ephemeralContainerStatuses") or ()):
        if _terminated(before) is None:
            continue
        if any(s.get("name") == before.get("name") and _terminated(s) is None for s in after):
            errs.append(field.forbidden(f"status.ephemeralContainerStatuses[{i}].state", _NOT_BACK))


def _resource_claims(errs: Errors, status: Object, spec: Object) -> None:
    claims = {claim.get("name") for claim in spec.get("resourceClaims") or ()}
    seen: set[str] = set()
    for i, entry in enumerate(status.get("resourceClaimStatuses") or ()):
        at, name = f"status.resourceClaimStatuses[{i}]", entry.get("name") or ""
        if name not in claims:
            text = "must match the name of an entry in `spec.resourceClaims`"
            errs.append(field.invalid(f"{at}.name", name, text))
        if name in seen:
            errs.append(field.duplicate(f"{at}.name", name))
        seen.add(name)
        claim = entry.get("resourceClaimName")
        if claim is not None:
            invalid_all(errs, f"{at}.resourceClaimName", claim, name_is_subdomain(claim))


def _extended_claim(errs: Errors, extended_claim: Object, spec: Object) -> None:
    """Validate the claim for extended resources in a pod's status; appends to ``errs``."""
    at = "status.extendedResourceClaimStatus"
    containers = {c.get("name"): c for key in ("initContainers", "containers") for c in spec.get(key) or ()}
    mappings = extended_claim.get("requestMappings") or []
    if not mappings:
        errs.append(field.required(f"{at}.requestMappings", "at least one request mapping is required"))
    seen: set[tuple[str, ...]] = set()
    for i, mapping in enumerate(mappings):
        where = f"{at}.requestMappings[{i}]"
        key = tuple(mapping.get(k) or "" for k in ("containerName", "resourceName", "requestName"))
        container = containers.get(key[0])
        if container is None:
            text = "must match the name of an entry in spec.initContainers.name or spec.containers.name"
            errs.append(field.invalid(f"{where}.containerName", key[0], text))
        elif key[1] not in ((container.get("resources") or {}).get("requests") or {}):
            text = (
                "must match the extended resource name of an entry in spec.initContainers.resources.requests "
                "or spec.containers.resources.requests"
            )
            errs.append(field.invalid(f"{where}.resourceName", key[1], text))
        label(errs, key[2], f"{at}.requestName")
        if key in seen:
            for name, value in zip(("containerName", "resourceName", "requestName"), key, strict=True):
                errs.append(field.duplicate(f"{where}.{name}", value))
        seen.add(key)
    claim = extended_claim.get("resourceClaimName")
    if not claim:
        errs.append(field.required(f"{at}.resourceClaimName"))
    else:
        invalid_all(errs, f"{at}.resourceClaimName", claim, name_is_subdomain(claim))


def _allocatable_claims(errs: Errors, status: Object, spec: Object) -> None:
    known: set[Any] = {c.get("resourceClaimName") for c in spec.get("resourceClaims") or ()}
    known |= {c.get("resourceClaimName") for c in status.get("resourceClaimStatuses") or ()}
    for i, entry in enumerate(status.get("nodeAllocatableResourceClaimStatuses") or ()):
        at, name = f"status.nodeAllocatableResourceClaimStatuses[{i}]", entry.get("resourceClaimName") or ""
        if not name:
            errs.append(field.required(f"{at}.resourceClaimName", "must not be empty"))
        if name not in known:
            errs.append(field.invalid(f"{at}.resourceClaimName", name, "no mapping found in pod reference"))
        for key in ("containers", "resources"):
            if not entry.get(key):
                errs.append(field.required(f"{at}.{key}", "must not be empty"))
        for resource, text in (entry.get("resources") or {}).items():
            where = f"{at}.resources[{resource}]"
            if not is_native(resource):
                errs.append(field.invalid(where, resource, "must be a node allocatable resource name"))
            if Quantity(text).nano < 0:
                errs.append(field.invalid(where, str(Quantity(text)), "must be non-negative"))


def _ips(errs: Errors, after: Object, before: Object) -> None:
    for key, single in (("podIPs", "podIP"), ("hostIPs", "hostIP")):
        ips = [entry.get("ip") or "" for entry in after.get(key) or ()]
        existing = [entry.get("ip") or "" for entry in before.get(key) or ()]
        if key == "hostIPs" and ips and (after.get(single) or "") != ips[0]:
            errs.append(field.invalid("status.hostIPs[0].ip", ips[0], "must be equal to `hostIP`"))
        for i, ip in enumerate(ips):
            legacy_ip(errs, ip, f"status.{key}[{i}]", existing)
        if len(ips) > 1 and (len(ips) > 2 or not dual_stack(ips)):
            shown = [{"IP": ip} for ip in ips]
            errs.append(field.invalid(f"status.{key}", shown, "may specify no more than one IP for each IP family"))


def _users(errs: Errors, statuses: list[Object], path: str, os: str) -> None:
    for i, status in enumerate(statuses):
        linux = (status.get("user") or {}).get("linux")
        if linux is None:
            continue
        at = f"{path}[{i}].user.linux"
        if os == "windows":
            errs.append(field.forbidden(at, "cannot be set for a windows pod"))
        elif os == "linux":
            for key in ("uid", "gid"):
                invalid_all(errs, f"{at}.{key}", linux.get(key) or 0, names.user_id(linux.get(key) or 0))
            for j, group in enumerate(linux.get("supplementalGroups") or ()):
                invalid_all(errs, f"{at}.supplementalGroups[{j}]", group, names.group_id(group))


def _allocated(errs: Errors, statuses: list[Object], path: str, containers: list[Object]) -> None:
    by_name = {container.get("name"): container for container in containers}
    for i, status in enumerate(statuses):
        for j, entry in enumerate(status.get("allocatedResourcesStatus") or ()):
            at = f"{path}[{i}].allocatedResourcesStatus[{j}]"
            if container := by_name.get(status.get("name")):
                _is_asked_for(errs, entry.get("name") or "", container.get("resources") or {}, f"{at}.name")
            _health(errs, entry.get("resources") or [], at)


def _is_asked_for(errs: Errors, name: str, resources: Object, path: str) -> None:
    if name.startswith("claim:"):
        asked = {
            f"claim:{c.get('name') or ''}" + (f"/{c['request']}" if c.get("request") else "")
            for c in resources.get("claims") or ()
        }
        text = (
            "must match one of the container's resource claims in a format 'claim:<claimName>/<request>' "
            "or 'claim:<claimName>' if request is empty"
        )
    else:
        asked = set(resources.get("requests") or ())
        text = "must match one of the container's resource requests"
    if name not in asked:
        errs.append(field.invalid(path, name, text))


def _health(errs: Errors, resources: list[Object], path: str) -> None:
    seen: set[str] = set()
    for k, resource in enumerate(resources):
        at = f"{path}.resources[{k}]"
        health, message, identity = (
            resource.get("health") or "",
            resource.get("message"),
            resource.get("resourceID") or "",
        )
        if health not in _HEALTH:
            errs.append(field.not_supported(f"{at}.health", health, _HEALTH))
        if message is not None:
            if not message:
                errs.append(field.required(f"{at}.message", "must be non-empty if specified"))
            elif names.byte_length(message) > _MESSAGE_MAX:
                errs.append(field.too_long(f"{at}.message", _MESSAGE_MAX))
        if identity in seen:
            errs.append(field.duplicate(f"{at}.resourceID", identity))
        seen.add(identity)
