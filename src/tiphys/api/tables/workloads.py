"""Rows of what runs pods: deployments, replica sets, jobs, autoscalers and the rest.

Source: https://kubernetes.io/docs/reference/using-api/api-concepts/#receiving-resources-as-tables
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tiphys.api.meta.owners import controller_of
from tiphys.api.meta.timestamps import parse_seconds
from tiphys.api.object import Object
from tiphys.api.tables.formats import (
    NONE,
    UNKNOWN,
    UNSET,
    Cells,
    age,
    boolean,
    conditions,
    containers,
    cut,
    duration,
    grown,
    labels,
    name,
    selector,
    since,
)


def print_pod_template(obj: Object, now: float) -> Cells:
    template = obj.get("template") or {}
    return [name(obj), *containers(template.get("spec")), labels(template.get("metadata", {}).get("labels"))]


def print_deployment(obj: Object, now: float) -> Cells:
    spec, status = obj["spec"], obj.get("status", {})
    return [
        name(obj),
        f"{status.get('readyReplicas', 0)}/{spec.get('replicas', 0)}",
        status.get("updatedReplicas", 0),
        status.get("availableReplicas", 0),
        age(obj, now),
        *containers(spec["template"].get("spec")),
        selector(spec.get("selector"), empty="", broken="<invalid>"),
    ]


def print_replica_set(obj: Object, now: float) -> Cells:
    return [*_replicas(obj, now), *containers(_pod_spec(obj)), selector(obj["spec"].get("selector"))]


def print_replication_controller(obj: Object, now: float) -> Cells:
    return [*_replicas(obj, now), *containers(_pod_spec(obj)), labels(obj["spec"].get("selector"))]


def _replicas(obj: Object, now: float) -> Cells:
    status = obj.get("status", {})
    desired = obj["spec"].get("replicas", 0)
    return [name(obj), desired, status.get("replicas", 0), status.get("readyReplicas", 0), age(obj, now)]


def _pod_spec(obj: Object) -> Mapping[str, Any]:
    return (obj["spec"].get("template") or {}).get("spec") or {}


def print_stateful_set(obj: Object, now: float) -> Cells:
    ready = f"{obj.get('status', {}).get('readyReplicas', 0)}/{obj['spec'].get('replicas', 0)}"
    return [name(obj), ready, age(obj, now), *containers(_pod_spec(obj))]


def print_daemon_set(obj: Object, now: float) -> Cells:
    """The row of a daemon set; ``now`` in seconds since the epoch."""
    status = obj.get("status", {})
    counts = (
        "desiredNumberScheduled",
        "currentNumberScheduled",
        "numberReady",
        "updatedNumberScheduled",
        "numberAvailable",
    )
    return [
        name(obj),
        *(status.get(count, 0) for count in counts),
        labels(_pod_spec(obj).get("nodeSelector")),
        age(obj, now),
        *containers(_pod_spec(obj)),
        selector(obj["spec"].get("selector")),
    ]


def print_job(obj: Object, now: float) -> Cells:
    return [
        name(obj),
        _job_status(obj),
        _completions(obj),
        _job_duration(obj, now),
        age(obj, now),
        *containers(_pod_spec(obj)),
        selector(obj["spec"].get("selector")),
    ]


def _job_status(obj: Object) -> str:
    true = {type for type, c in conditions(obj).items() if c["status"] == "True"}
    for condition, text in (("Complete", "Complete"), ("Failed", "Failed")):
        if condition in true:
            return text
    if obj["metadata"].get("deletionTimestamp"):
        return "Terminating"
    return next((c for c in ("Suspended", "FailureTarget", "SuccessCriteriaMet") if c in true), "Running")


def _completions(obj: Object) -> str:
    spec, succeeded = obj["spec"], obj.get("status", {}).get("succeeded", 0)
    if spec.get("completions") is not None:
        return f"{succeeded}/{spec['completions']}"
    parallelism = spec.get("parallelism") or 0
    return f"{succeeded}/1 of {parallelism}" if parallelism > 1 else f"{succeeded}/1"


def _job_duration(obj: Object, now: float) -> str:
    status = obj.get("status", {})
    if not status.get("startTime"):
        return ""
    begin = parse_seconds(status["startTime"])
    if status.get("completionTime"):
        return duration(parse_seconds(status["completionTime"]) - begin)
    return grown(begin, now)


def print_cron_job(obj: Object, now: float) -> Cells:
    """The row of a cron job; ``now`` in seconds since the epoch."""
    spec, status = obj["spec"], obj.get("status", {})
    job = spec["jobTemplate"].get("spec", {})
    last = status.get("lastScheduleTime")
    return [
        name(obj),
        spec["schedule"],
        spec.get("timeZone", NONE),
        boolean(value=spec.get("suspend")),
        len(status.get("active") or []),
        since(last, now) if last else NONE,
        age(obj, now),
        *containers(job.get("template", {}).get("spec")),
        selector(job.get("selector")),
    ]


def print_controller_revision(obj: Object, now: float) -> Cells:
    owner = controller_of(dict(obj))
    text = NONE
    if owner is not None:
        group = owner["apiVersion"].rpartition("/")[0]
        kind = f"{owner['kind']}.{group}" if group else owner["kind"]
        text = f"{kind.lower()}/{owner['name']}"
    return [name(obj), text, obj.get("revision", 0), age(obj, now)]


def print_disruption_budget(obj: Object, now: float) -> Cells:
    spec = obj["spec"]
    bounds = (str(spec[b]) if spec.get(b) is not None else "N/A" for b in ("minAvailable", "maxUnavailable"))
    return [name(obj), *bounds, obj.get("status", {}).get("disruptionsAllowed", 0), age(obj, now)]


def print_scale(obj: Object, now: float) -> Cells:
    wanted = (obj.get("spec") or {}).get("replicas", 0)
    return [name(obj), wanted, (obj.get("status") or {}).get("replicas", 0), age(obj, now)]


def print_autoscaler(obj: Object, now: float) -> Cells:
    spec, status = obj["spec"], obj.get("status", {})
    target = spec["scaleTargetRef"]
    minimum = spec.get("minReplicas")
    return [
        name(obj),
        f"{target['kind']}/{target['name']}",
        _metrics(spec.get("metrics") or [], status.get("currentMetrics") or []),
        UNSET if minimum is None else str(minimum),
        spec.get("maxReplicas", 0),
        status.get("currentReplicas", 0),
        age(obj, now),
    ]


_METRIC_FIELDS = {
    "External": "external",
    "Pods": "pods",
    "Object": "object",
    "Resource": "resource",
    "ContainerResource": "containerResource",
}


def _metrics(specs: list[Object], statuses: list[Object]) -> str:
    texts = [_metric(spec, statuses[i] if i < len(statuses) else {}) for i, spec in enumerate(specs)]
    return cut(texts, 2, ", ", empty=NONE)


def _metric(spec: Object, status: Object) -> str:
    field = _METRIC_FIELDS.get(spec["type"])
    if field is None:
        return "<unknown type>"
    source = spec[field]
    target, current = source["target"], (status.get(field) or {}).get("current") or {}
    prefix = f"{source['name']}: " if field in ("resource", "containerResource") else ""
    if field in ("external", "object"):
        averaged = target.get("averageValue") is not None
        key = "averageValue" if averaged else "value"
        return f"{current.get(key, UNKNOWN)}/{target.get(key, 0)}" + (" (avg)" if averaged else "")
    if field == "pods" or target.get("averageValue") is not None:
        return f"{prefix}{current.get('averageValue', UNKNOWN)}/{target['averageValue']}"
    return f"{prefix}{_percent(current, UNKNOWN)}/{_percent(target, '<auto>')}"


def _percent(value: Mapping[str, Any], otherwise: str) -> str:
    percent = value.get("averageUtilization")
    return otherwise if percent is None else f"{percent}%"
