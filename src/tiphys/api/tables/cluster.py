"""Rows of nodes, namespaces, events, configuration, access rules and certificates.

Source: https://kubernetes.io/docs/reference/using-api/api-concepts/#receiving-resources-as-tables
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tiphys.api import gotext
from tiphys.api.meta.quantity import canonical
from tiphys.api.object import Object
from tiphys.api.tables.formats import (
    NONE,
    UNKNOWN,
    UNSET,
    Cells,
    age,
    conditions,
    cut,
    duration,
    labels,
    name,
    since,
)

_ROLE_PREFIX, _ROLE_LABEL = "node-role.kubernetes.io/", "kubernetes.io/role"


def print_name_and_age(obj: Object, now: float) -> Cells:
    return [name(obj), age(obj, now)]


def print_namespace(obj: Object, now: float) -> Cells:
    return [name(obj), obj.get("status", {}).get("phase", ""), age(obj, now)]


def print_config_map(obj: Object, now: float) -> Cells:
    return [name(obj), len(obj.get("data") or {}) + len(obj.get("binaryData") or {}), age(obj, now)]


def print_secret(obj: Object, now: float) -> Cells:
    return [name(obj), obj.get("type", ""), len(obj.get("data") or {}), age(obj, now)]


def print_node(obj: Object, now: float) -> Cells:
    """The row of a node, by the columns of ``columns.txt``; ``now`` in seconds since the epoch."""
    status = obj.get("status", {})
    info = status.get("nodeInfo") or {}
    kernel = info.get("kernelVersion") or UNKNOWN
    if info.get("architecture"):
        kernel += f" ({info['architecture']})"
    return [
        name(obj),
        _node_status(obj),
        ",".join(_roles(obj["metadata"].get("labels") or {})) or NONE,
        age(obj, now),
        info.get("kubeletVersion", ""),
        _address(status, "InternalIP"),
        _address(status, "ExternalIP"),
        info.get("osImage") or UNKNOWN,
        kernel,
        info.get("containerRuntimeVersion") or UNKNOWN,
    ]


def _node_status(obj: Object) -> str:
    ready = conditions(obj).get("Ready")
    text = "Unknown" if ready is None else "Ready" if ready["status"] == "True" else "NotReady"
    return f"{text},SchedulingDisabled" if obj["spec"].get("unschedulable") else text


def _roles(labels: Mapping[str, str]) -> list[str]:
    prefixed = {key.removeprefix(_ROLE_PREFIX) for key in labels if key.startswith(_ROLE_PREFIX)}
    return sorted((prefixed | {labels.get(_ROLE_LABEL, "")}) - {""})


def _address(status: Mapping[str, Any], type: str) -> str:
    return next((a["address"] for a in status.get("addresses") or [] if a["type"] == type), NONE)


def print_event(obj: Object, now: float) -> Cells:
    """The row of an event; a series counts by its last observation. ``now`` in seconds since the epoch."""
    first = since(obj.get("firstTimestamp") or obj.get("eventTime"), now)
    last = since(obj["lastTimestamp"], now) if obj.get("lastTimestamp") else first
    count = obj.get("count") or 1
    if series := obj.get("series"):
        last, count = since(series.get("lastObservedTime"), now), series.get("count", 0)
    involved = obj.get("involvedObject") or {}
    kind = involved.get("kind", "").lower()
    source = obj.get("source") or {}
    component = source.get("component") or obj.get("reportingComponent", "")
    host = source.get("host") or obj.get("reportingInstance", "")
    return [
        last,
        obj.get("type", ""),
        obj.get("reason", ""),
        f"{kind}/{involved['name']}" if involved.get("name") else kind,
        involved.get("fieldPath", ""),
        f"{component}, {host}" if host else component,
        obj.get("message", "").strip(),
        first,
        count,
        name(obj),
    ]


_NEW_EVENT_NAMES = {
    "regarding": "involvedObject",
    "note": "message",
    "reportingController": "reportingComponent",
    "deprecatedCount": "count",
    "deprecatedFirstTimestamp": "firstTimestamp",
    "deprecatedLastTimestamp": "lastTimestamp",
    "deprecatedSource": "source",
}


def print_new_event(obj: Object, now: float) -> Cells:
    """An event of events.k8s.io/v1: the same facts under other names."""
    return print_event({_NEW_EVENT_NAMES.get(field, field): value for field, value in obj.items()}, now)


def print_component_status(obj: Object, now: float) -> Cells:
    healthy = next((c for c in obj.get("conditions") or [] if c["type"] == "Healthy"), None)
    if healthy is None:
        return [name(obj), "Unknown", "", ""]
    text = "Healthy" if healthy["status"] == "True" else "Unhealthy"
    return [name(obj), text, healthy.get("message", ""), healthy.get("error", "")]


def print_resource_quota(obj: Object, now: float) -> Cells:
    status = obj.get("status", {})
    hard, used = status.get("hard") or {}, status.get("used") or {}
    columns: dict[bool, list[str]] = {False: [], True: []}
    for resource in sorted(hard):
        text = f"{resource}: {canonical(str(used.get(resource, '0')))}/{canonical(str(hard[resource]))}"
        columns[resource.startswith("limits.")].append(text)
    return [name(obj), ", ".join(columns[False]), ", ".join(columns[True]), age(obj, now)]


def print_role_binding(obj: Object, now: float) -> Cells:
    role, subjects = obj["roleRef"], obj.get("subjects") or []
    return [
        name(obj),
        f"{role['kind']}/{role['name']}",
        age(obj, now),
        _subjects(subjects, "User"),
        _subjects(subjects, "Group"),
        _subjects(subjects, "ServiceAccount"),
    ]


def _subjects(subjects: Sequence[Mapping[str, Any]], kind: str) -> str:
    named = [s for s in subjects if s["kind"] == kind]
    return ", ".join(f"{s.get('namespace', '')}/{s['name']}" if kind == "ServiceAccount" else s["name"] for s in named)


def print_signing_request(obj: Object, now: float) -> Cells:
    spec = obj["spec"]
    asked = spec.get("expirationSeconds")
    return [
        name(obj),
        age(obj, now),
        spec.get("signerName") or NONE,
        spec.get("username", ""),
        NONE if asked is None else duration(asked),
        _signing_status(obj),
    ]


def _signing_status(obj: Object) -> str:
    by_type = conditions(obj)
    text = "Denied" if "Denied" in by_type else "Approved" if "Approved" in by_type else "Pending"
    text += ",Failed" if "Failed" in by_type else ""
    return text + (",Issued" if obj.get("status", {}).get("certificate") else "")


def print_trust_bundle(obj: Object, now: float) -> Cells:
    return [name(obj), obj["spec"].get("signerName") or NONE]


def print_pod_certificate_request(obj: Object, now: float) -> Cells:
    spec = obj["spec"]
    state = next((t for t in reversed(list(conditions(obj))) if t in ("Issued", "Denied", "Failed")), "Pending")
    return [
        name(obj),
        *(spec.get(field, "") for field in ("podName", "serviceAccountName", "nodeName", "signerName")),
        state,
        labels(spec.get("unverifiedUserAnnotations")),
    ]


def print_lease(obj: Object, now: float) -> Cells:
    return [name(obj), obj["spec"].get("holderIdentity") or "", age(obj, now)]


def print_lease_candidate(obj: Object, now: float) -> Cells:
    fields = ("leaseName", "binaryVersion", "emulationVersion")
    return [name(obj), *(obj["spec"].get(field, "") for field in fields), age(obj, now)]


def print_priority_class(obj: Object, now: float) -> Cells:
    default = bool(obj.get("globalDefault"))
    return [name(obj), obj.get("value", 0), default, age(obj, now), obj.get("preemptionPolicy", "")]


def print_runtime_class(obj: Object, now: float) -> Cells:
    return [name(obj), obj.get("handler", ""), age(obj, now)]


def print_webhooks(obj: Object, now: float) -> Cells:
    return [name(obj), len(obj.get("webhooks") or []), age(obj, now)]


def print_validating_policy(obj: Object, now: float) -> Cells:
    return [name(obj), len(obj["spec"].get("validations") or []), _param_kind(obj), age(obj, now)]


def print_mutating_policy(obj: Object, now: float) -> Cells:
    return [name(obj), len(obj["spec"].get("mutations") or []), _param_kind(obj), age(obj, now)]


def _param_kind(obj: Object) -> str:
    kind = obj["spec"].get("paramKind")
    return f"{kind.get('apiVersion', '')}/{kind.get('kind', '')}" if kind else UNSET


def print_policy_binding(obj: Object, now: float) -> Cells:
    reference = obj["spec"].get("paramRef") or {}
    text = UNSET
    if reference.get("name"):
        text = f"{reference.get('namespace') or '*'}/{reference['name']}"
    elif reference.get("selector") is not None:
        text = gotext.label_selector(reference["selector"])
    return [name(obj), obj["spec"].get("policyName", ""), text, age(obj, now)]


def print_flow_schema(obj: Object, now: float) -> Cells:
    spec = obj["spec"]
    method = (spec.get("distinguisherMethod") or {}).get("type", NONE)
    dangling = conditions(obj).get("Dangling", {}).get("status", "?")
    level = spec.get("priorityLevelConfiguration", {}).get("name", "")
    return [name(obj), level, spec.get("matchingPrecedence", 0), method, age(obj, now), dangling]


def print_priority_level(obj: Object, now: float) -> Cells:
    limited = obj["spec"].get("limited") or {}
    queuing = (limited.get("limitResponse") or {}).get("queuing") or {}
    shares = limited.get("nominalConcurrencyShares", NONE)
    queues = (queuing.get(field, NONE) for field in ("queues", "handSize", "queueLengthLimit"))
    return [name(obj), obj["spec"].get("type", ""), shares, *queues, age(obj, now)]


def print_storage_version(obj: Object, now: float) -> Cells:
    status = obj.get("status", {})
    versions = [f"{v['apiServerID']}={v['encodingVersion']}" for v in status.get("storageVersions") or []]
    return [name(obj), status.get("commonEncodingVersion", UNSET), cut(versions, 3), age(obj, now)]


def print_migration(obj: Object, now: float) -> Cells:
    resource = obj["spec"].get("resource") or {}
    group, plural = resource.get("group", ""), resource.get("resource", "")
    states = [
        t for t, c in conditions(obj).items() if c["status"] == "True" and t in ("Running", "Failed", "Succeeded")
    ]
    return [name(obj), f"{plural}.{group}" if group else plural, states[-1] if states else "Unknown"]


def print_api_service(obj: Object, now: float) -> Cells:
    service = obj["spec"].get("service")
    available = conditions(obj).get("Available", {"status": "Unknown"})
    text = str(available["status"])
    if text != "True" and available.get("reason"):
        text = f"{text} ({available['reason']})"
    return [name(obj), f"{service['namespace']}/{service['name']}" if service else "Local", text, age(obj, now)]


def print_workload(obj: Object, now: float) -> Cells:
    return [name(obj), age(obj, now)]


def print_pod_group(obj: Object, now: float) -> Cells:
    spec, by_type = obj["spec"], conditions(obj)
    status = "Pending"
    if scheduled := by_type.get("PodGroupScheduled"):
        status = "Scheduled" if scheduled["status"] == "True" else "Unschedulable"
    if disrupted := by_type.get("DisruptionTarget"):
        status = disrupted.get("reason", "")
    policy = "Gang" if (spec.get("schedulingPolicy") or {}).get("gang") is not None else "Basic"
    workload = ((spec.get("podGroupTemplateRef") or {}).get("workload") or {}).get("workloadName", NONE)
    return [name(obj), policy, workload, status, age(obj, now)]
