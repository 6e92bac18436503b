"""Validation of Job.

Source: https://kubernetes.io/docs/reference/generated/kubernetes-api/v1.36/#job-v1-batch
"""

from __future__ import annotations

from typing import Any

from tiphys.api import fielderrors as field
from tiphys.api.meta import names
from tiphys.api.object import Object
from tiphys.validation.batch.indexes import IndexesError, count_indexes
from tiphys.validation.pods.options import waivers
from tiphys.validation.pods.pod import pod_template_spec
from tiphys.validation.pods.podoptions import TEMPLATE, PodOptions
from tiphys.validation.shared.common import (
    IMMUTABLE,
    Errors,
    domain_prefixed_path,
    equal,
    immutable,
    label_selector,
    non_negative,
    qualified,
    selector_has_bad_value,
    sorted_map,
)
from tiphys.validation.shared.internal import internal_value, pod_spec_value, template_value
from tiphys.validation.shared.objectmeta import meta_of, validate_meta, validate_meta_update
from tiphys.validation.shared.workloads import matches, matches_template, template_labels

UID_LABEL = "batch.kubernetes.io/controller-uid"
NAME_LABEL = "batch.kubernetes.io/job-name"
_OLD_UID_LABEL = "controller-uid"
_OLD_NAME_LABEL = "job-name"
_MAX_INDEXED = 100_000
_MAX_HIGH = 10_000
_MAX_RULES = 20
_MAX_EXIT_CODES = 255
_MAX_INDEXES_TEXT = 64 * 1024
_ACTIONS = ("Count", "FailIndex", "FailJob", "Ignore")
_IMMUTABLE = {
    "completionMode": "",
    "podFailurePolicy": "PodFailurePolicy",
    "backoffLimitPerIndex": "",
    "managedBy": "",
    "successPolicy": "SuccessPolicy",
}
"""Fields that never change, and the struct that a message shows."""
_COUNTS = (
    "parallelism",
    "completions",
    "activeDeadlineSeconds",
    "backoffLimit",
    "ttlSecondsAfterFinished",
    "backoffLimitPerIndex",
    "maxFailedIndexes",
)


def validate_job(obj: Object) -> Errors:
    errs: Errors = []
    _job(errs, obj, TEMPLATE, bad_selector=False, prefixed=True)
    return errs


def _job(errs: Errors, obj: Object, options: PodOptions, *, bad_selector: bool, prefixed: bool) -> None:
    spec = obj.get("spec") or {}
    validate_meta(errs, obj, namespaced=True)
    _generated_selector(errs, obj, spec, prefixed=prefixed)
    _own_spec(errs, spec, options, bad_selector=bad_selector)
    if spec.get("completionMode") == "Indexed" and (spec.get("completions") or 0) > 0:
        name = meta_of(obj).get("name") or ""
        host = f"{name}-{spec['completions'] - 1}"
        if names.dns1123_label(host):
            text = f"will not able to create pod with invalid DNS label: {host}"
            errs.append(field.invalid("metadata.name", name, text))


def _generated_selector(errs: Errors, obj: Object, spec: Object, *, prefixed: bool) -> None:
    """The server makes the selector from the job's uid, unless ``manualSelector`` is set."""
    selector = spec.get("selector")
    if spec.get("manualSelector") or selector is None:
        return
    meta = meta_of(obj)
    uid, name = meta.get("uid") or "", meta.get("name") or ""
    if not uid:
        errs.append(field.required("metadata.uid"))
    expected = {_OLD_UID_LABEL: uid, _OLD_NAME_LABEL: name}
    if prefixed:
        expected |= {UID_LABEL: uid, NAME_LABEL: name}
    labels = template_labels(spec.get("template") or {}) or {}
    for key, value in expected.items():
        at = f"spec.template.metadata.labels[{key}]"
        if key not in labels:
            errs.append(field.required(at, f"must be '{value}'"))
        elif labels[key] != value:
            errs.append(field.invalid(at, sorted_map(labels), f"must be '{value}'"))
    if matches(selector, expected) is False:
        errs.append(field.invalid("spec.selector", selector, "`selector` not auto-generated"))


def _own_spec(errs: Errors, spec: Object, options: PodOptions, *, bad_selector: bool) -> None:
    job_spec(errs, spec, "spec", options)
    selector = spec.get("selector")
    if selector is None:
        errs.append(field.required("spec.selector"))
    else:
        label_selector(errs, selector, "spec.selector", allow_bad_values=bad_selector or options.selector_values)
    matches_template(errs, selector, spec.get("template") or {}, "spec.template")


def job_spec(errs: Errors, spec: Object, path: str, options: PodOptions) -> None:
    """What jobs and the job templates of cron jobs have in common."""
    for key in _COUNTS:
        non_negative(errs, spec.get(key), f"{path}.{key}")
    if spec.get("maxFailedIndexes") is not None and spec.get("backoffLimitPerIndex") is None:
        errs.append(field.required(f"{path}.backoffLimitPerIndex", "when maxFailedIndexes is specified"))
    if spec.get("managedBy") is not None:
        _managed_by(errs, spec["managedBy"], f"{path}.managedBy")
    mode = spec.get("completionMode")
    if mode is not None and mode not in ("NonIndexed", "Indexed"):
        errs.append(field.not_supported(f"{path}.completionMode", mode, ("NonIndexed", "Indexed")))
    if mode == "Indexed":
        _indexed(errs, spec, path)
    if mode in (None, "NonIndexed"):
        for key in ("backoffLimitPerIndex", "maxFailedIndexes"):
            if spec.get(key) is not None:
                errs.append(field.invalid(f"{path}.{key}", spec[key], "requires indexed completion mode"))
    if spec.get("podFailurePolicy") is not None:
        _failure_policy(errs, spec, f"{path}.podFailurePolicy")
    if spec.get("successPolicy") is not None:
        _success_policy(errs, spec, f"{path}.successPolicy")
    _replacement_policy(errs, spec, f"{path}.podReplacementPolicy")
    template = spec.get("template") or {}
    pod_template_spec(errs, template, f"{path}.template", options)
    _restart_policy(
        errs, spec, (template.get("spec") or {}).get("restartPolicy"), f"{path}.template.spec.restartPolicy"
    )


def _managed_by(errs: Errors, value: str, path: str) -> None:
    domain_prefixed_path(errs, value, path)
    if names.byte_length(value) > 63:
        errs.append(field.too_long(path, 63))


def _indexed(errs: Errors, spec: Object, path: str) -> None:
    """Validate an indexed Job's completions and limits; appends to ``errs``."""
    completions, parallelism = spec.get("completions"), spec.get("parallelism") or 0
    failures = spec.get("maxFailedIndexes")
    at = f"{path}.maxFailedIndexes"
    if completions is None:
        errs.append(field.required(f"{path}.completions", "when completion mode is Indexed"))
    if parallelism > _MAX_INDEXED:
        text = f"must be less than or equal to {_MAX_INDEXED} when completion mode is Indexed"
        errs.append(field.invalid(f"{path}.parallelism", parallelism, text))
    if completions is not None and failures is not None and failures > completions:
        errs.append(field.invalid(at, failures, "must be less than or equal to completions"))
    if failures is not None and failures > _MAX_INDEXED:
        errs.append(field.invalid(at, failures, f"must be less than or equal to {_MAX_INDEXED}"))
    if completions is None or completions <= _MAX_INDEXED or spec.get("backoffLimitPerIndex") is None:
        return
    if failures is None:
        errs.append(field.required(at, f"must be specified when completions is above {_MAX_INDEXED}"))
    text = (
        f"must be less than or equal to {_MAX_HIGH} when completions are above {_MAX_INDEXED} "
        "and used with backoff limit per index"
    )
    if parallelism > _MAX_HIGH:
        errs.append(field.invalid(f"{path}.parallelism", parallelism, text))
    if failures is not None and failures > _MAX_HIGH:
        errs.append(field.invalid(at, failures, text))


def _restart_policy(errs: Errors, spec: Object, policy: str | None, path: str) -> None:
    if policy in (None, "", "Always"):
        errs.append(field.required(path, 'valid values: "OnFailure", "Never"'))
    elif policy not in ("OnFailure", "Never"):
        errs.append(field.not_supported(path, policy, ("OnFailure", "Never")))
    elif spec.get("podFailurePolicy") is not None and policy != "Never":
        text = 'only "Never" is supported when podFailurePolicy is specified'
        errs.append(field.invalid(path, policy, text))


def _replacement_policy(errs: Errors, spec: Object, path: str) -> None:
    policy = spec.get("podReplacementPolicy")
    supported = ("Failed", "TerminatingOrFailed") if spec.get("podFailurePolicy") is None else ("Failed",)
    if policy is not None and policy not in supported:
        errs.append(field.not_supported(path, policy, supported))


def _failure_policy(errs: Errors, spec: Object, path: str) -> None:
    rules = spec["podFailurePolicy"].get("rules") or []
    if len(rules) > _MAX_RULES:
        errs.append(field.too_many(f"{path}.rules", len(rules), _MAX_RULES))
    pod = (spec.get("template") or {}).get("spec") or {}
    containers = {c.get("name") for key in ("containers", "initContainers") for c in pod.get(key) or ()}
    for i, rule in enumerate(rules):
        _failure_rule(errs, spec, rule, containers, f"{path}.rules[{i}]")


def _failure_rule(errs: Errors, spec: Object, rule: Object, containers: set[Any], path: str) -> None:
    action, codes, conditions = rule.get("action") or "", rule.get("onExitCodes"), rule.get("onPodConditions") or []
    if not action:
        errs.append(field.required(f"{path}.action", f"valid values: {_quoted(_ACTIONS)}"))
    elif action == "FailIndex":
        if spec.get("backoffLimitPerIndex") is None:
            text = "requires the backoffLimitPerIndex to be set"
            errs.append(field.invalid(f"{path}.action", action, text))
    elif action not in _ACTIONS:
        errs.append(field.not_supported(f"{path}.action", action, _ACTIONS))
    if codes is not None:
        _exit_codes(errs, codes, containers, f"{path}.onExitCodes")
    if conditions:
        _pod_conditions(errs, conditions, f"{path}.onPodConditions")
    if (codes is not None) == bool(conditions):
        text = (
            "specifying both OnExitCodes and OnPodConditions is not supported"
            if conditions
            else "specifying one of OnExitCodes and OnPodConditions is required"
        )
        errs.append(field.invalid(path, field.OMITTED, text))


def _quoted(values: tuple[str, ...]) -> str:
    return "[" + " ".join(f'"{value}"' for value in values) + "]"


def _pod_conditions(errs: Errors, conditions: list[Object], path: str) -> None:
    if len(conditions) > _MAX_RULES:
        errs.append(field.too_many(path, len(conditions), _MAX_RULES))
    statuses = ("False", "True", "Unknown")
    for i, condition in enumerate(conditions):
        qualified(errs, condition.get("type") or "", f"{path}[{i}].type")
        status, at = condition.get("status") or "", f"{path}[{i}].status"
        if not status:
            errs.append(field.required(at, f"valid values: {_quoted(statuses)}"))
        elif status not in statuses:
            errs.append(field.not_supported(at, status, statuses))


def _exit_codes(errs: Errors, codes: Object, containers: set[Any], path: str) -> None:
    """Validate the exit codes of a failure rule: ordered, unique, at most 255. Appends to ``errs``."""
    operator, values, name = codes.get("operator") or "", codes.get("values") or [], codes.get("containerName")
    if not operator:
        errs.append(field.required(f"{path}.operator", f"valid values: {_quoted(('In', 'NotIn'))}"))
    elif operator not in ("In", "NotIn"):
        errs.append(field.not_supported(f"{path}.operator", operator, ("In", "NotIn")))
    if name is not None and name not in containers:
        text = "must be one of the container or initContainer names in the pod template"
        errs.append(field.invalid(f"{path}.containerName", name, text))
    if not values:
        errs.append(field.invalid(f"{path}.values", codes.get("values"), "at least one value is required"))
    elif len(values) > _MAX_EXIT_CODES:
        errs.append(field.too_many(f"{path}.values", len(values), _MAX_EXIT_CODES))
    seen: set[int] = set()
    for i, value in enumerate(values):
        if operator == "In" and value == 0:
            errs.append(field.invalid(f"{path}.values[{i}]", value, "must not be 0 for the In operator"))
        if value in seen:
            errs.append(field.duplicate(f"{path}.values[{i}]", value))
        seen.add(value)
    if values != sorted(values):
        errs.append(field.invalid(f"{path}.values", values, "must be ordered"))


def _success_policy(errs: Errors, spec: Object, path: str) -> None:
    rules = spec["successPolicy"].get("rules") or []
    if spec.get("completionMode") != "Indexed":
        shown = internal_value("SuccessPolicy", spec["successPolicy"])
        errs.append(field.invalid(path, shown, "requires indexed completion mode"))
        return
    if not rules:
        text = "at least one rules must be specified when the successPolicy is specified"
        errs.append(field.required(f"{path}.rules", text))
    if len(rules) > _MAX_RULES:
        errs.append(field.too_many(f"{path}.rules", len(rules), _MAX_RULES))
    for i, rule in enumerate(rules):
        _success_rule(errs, spec.get("completions") or 0, rule, f"{path}.rules[{i}]")


def _success_rule(errs: Errors, completions: int, rule: Object, path: str) -> None:
    """Validate a success rule; its count is at most the number of its indexes. Appends to ``errs``."""
    indexes, count, total = rule.get("succeededIndexes"), rule.get("succeededCount"), 0
    if indexes is None and count is None:
        text = "at least one of succeededCount or succeededIndexes must be specified"
        errs.append(field.required(path, text))
    if indexes is not None:
        if names.byte_length(indexes) > _MAX_INDEXES_TEXT:
            errs.append(field.too_long(f"{path}.succeededIndexes", _MAX_INDEXES_TEXT))
        try:
            total = count_indexes(indexes, completions)
        except IndexesError as error:
            text = f"error parsing succeededIndexes: {error}"
            errs.append(field.invalid(f"{path}.succeededIndexes", indexes, text))
    if count is not None:
        at = f"{path}.succeededCount"
        non_negative(errs, count, at)
        if count > completions:
            text = f"must be less than or equal to {completions} (the number of specified completions)"
            errs.append(field.invalid(at, count, text))
        if indexes is not None and count > total:
            text = (
                f"must be less than or equal to {total} (the number of indexes in the specified succeededIndexes field)"
            )
            errs.append(field.invalid(at, count, text))


def validate_job_update(new: Object, old: Object) -> Errors:
    """The whole is looked at as if new, and then once more for what may not have changed."""
    errs: Errors = []
    after, before = new.get("spec") or {}, old.get("spec") or {}
    options = waivers(before.get("template"), is_pod=False)
    bad_selector = selector_has_bad_value(before.get("selector"))
    labels = template_labels(before.get("template") or {}) or {}
    _job(errs, new, options, bad_selector=bad_selector, prefixed=NAME_LABEL in labels and UID_LABEL in labels)
    validate_meta_update(errs, new, old)
    _own_spec(errs, after, options, bad_selector=bad_selector)
    _completions(errs, after, before)
    immutable(errs, after.get("selector"), before.get("selector"), "spec.selector")
    _template(errs, after, before, old)
    for key, struct in _IMMUTABLE.items():
        value = after.get(key)
        if not equal(value, before.get(key)):
            shown = internal_value(struct, value) if struct else value
            errs.append(field.invalid(f"spec.{key}", shown, IMMUTABLE))
    return errs


def _completions(errs: Errors, new: Object, old: Object) -> None:
    after = new.get("completions")
    if new.get("completionMode") != "Indexed":
        immutable(errs, after, old.get("completions"), "spec.completions")
    elif after is not None and after != old.get("completions") and after != new.get("parallelism"):
        text = "can only be modified in tandem with spec.parallelism"
        errs.append(field.invalid("spec.completions", after, text))


def _template(errs: Errors, new: Object, old: Object, old_job: Object) -> None:
    """While a job is suspended, where its pods may run and what they get can still be changed (KEP-2926)."""
    after, before = new.get("template") or {}, old.get("template") or {}
    suspended = bool(old.get("suspend"))
    if _mutable(old_job):
        before = _with_directives(before, after)
    if suspended and _mutable(old_job):
        spec, allowed = after.get("spec") or {}, _with_resources(before.get("spec") or {}, after.get("spec") or {})
        if not equal(spec, allowed):
            errs.append(field.invalid("spec.template.spec", pod_spec_value(spec), "field is immutable"))
    elif not equal(after, before):
        errs.append(field.invalid("spec.template", template_value(after), "field is immutable"))


def _mutable(job: Object) -> bool:
    status = job.get("status") or {}
    paused = any(c.get("type") == "Suspended" and c.get("status") == "True" for c in status.get("conditions") or ())
    if not (job.get("spec") or {}).get("suspend") or status.get("active"):
        return False
    return not status.get("startTime") or paused


def _with_directives(old: Object, new: Object) -> Object:
    """The old template with the new one's scheduling directives."""
    after, before = new.get("spec") or {}, dict(old.get("spec") or {})
    for key in ("nodeSelector", "tolerations", "schedulingGates"):
        before[key] = after.get(key)
    before["affinity"] = _with_node_affinity(before.get("affinity"), after.get("affinity"))
    meta = dict(old.get("metadata") or {})
    for key in ("annotations", "labels"):
        meta[key] = (new.get("metadata") or {}).get(key)
    return {**old, "metadata": meta, "spec": before}


def _with_node_affinity(old: Object | None, new: Object | None) -> Object | None:
    if new is not None:
        return {**(old or {}), "nodeAffinity": new.get("nodeAffinity")}
    left = {key: value for key, value in (old or {}).items() if key != "nodeAffinity" and value is not None}
    return left or None


def _with_resources(old: Object, new: Object) -> Object:
    result = dict(old)
    for key in ("containers", "initContainers"):
        before, after = old.get(key) or [], new.get(key) or []
        if before and len(before) == len(after):
            result[key] = [
                {**b, "resources": a.get("resources")} if a.get("name") == b.get("name") else b
                for a, b in zip(after, before, strict=True)
            ]
    return result
