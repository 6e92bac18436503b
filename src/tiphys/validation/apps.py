"""Validation of the apps group, v1.

Source: https://kubernetes.io/docs/reference/generated/kubernetes-api/v1.36/#deployment-v1-apps
"""

from __future__ import annotations

from tiphys.api import fielderrors as field
from tiphys.api.object import Object
from tiphys.validation.core.persistentvolumeclaim import claim_spec
from tiphys.validation.core.replicationcontroller import restarts_always
from tiphys.validation.pods.options import waivers
from tiphys.validation.pods.pod import pod_annotations, pod_template_spec
from tiphys.validation.pods.podoptions import TEMPLATE, PodOptions
from tiphys.validation.shared.common import (
    IMMUTABLE,
    Errors,
    equal,
    immutable,
    label,
    label_selector,
    name_is_label,
    non_negative,
    selector_has_bad_value,
)
from tiphys.validation.shared.common import labels as validate_labels
from tiphys.validation.shared.objectmeta import validate_annotations, validate_meta, validate_meta_update
from tiphys.validation.shared.workloads import (
    MISMATCH,
    amount,
    at_most_all,
    available_are_ready,
    collisions_only_grow,
    counts,
    int_or_percent,
    matches,
    matches_template,
    not_empty,
    not_more_than,
    selector,
    template_labels,
)

_STATEFUL_SET_KEPT = (
    "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', "
    "'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden"
)
_STATEFUL_SET_MUTABLE = (
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
)


def _spec(obj: Object) -> Object:
    spec: Object = obj.get("spec") or {}
    return spec


def _template_options(old: Object) -> PodOptions:
    return waivers(_spec(old).get("template"), is_pod=False)


# Deployment


def validate_deployment(obj: Object) -> Errors:
    errs: Errors = []
    validate_meta(errs, obj, namespaced=True)
    _deployment_spec(errs, _spec(obj), TEMPLATE)
    return errs


def validate_deployment_update(new: Object, old: Object) -> Errors:
    errs: Errors = []
    validate_meta_update(errs, new, old)
    _deployment_spec(errs, _spec(new), _template_options(old))
    immutable(errs, _spec(new).get("selector"), _spec(old).get("selector"), "spec.selector")
    return errs


def _deployment_spec(errs: Errors, spec: Object, options: PodOptions) -> None:
    non_negative(errs, spec.get("replicas"), "spec.replicas")
    selector(errs, spec.get("selector"), "spec.selector", "deployment")
    _replica_set_template(errs, spec, options)
    _deployment_strategy(errs, spec.get("strategy") or {}, "spec.strategy")
    non_negative(errs, spec.get("minReadySeconds"), "spec.minReadySeconds")
    non_negative(errs, spec.get("revisionHistoryLimit"), "spec.revisionHistoryLimit")
    deadline = spec.get("progressDeadlineSeconds")
    if deadline is not None:
        non_negative(errs, deadline, "spec.progressDeadlineSeconds")
        if deadline <= (spec.get("minReadySeconds") or 0):
            text = "must be greater than minReadySeconds"
            errs.append(field.invalid("spec.progressDeadlineSeconds", deadline, text))


def _replica_set_template(errs: Errors, spec: Object, options: PodOptions) -> None:
    template, wanted = spec.get("template") or {}, spec.get("selector")
    if matches(wanted, None) is None:
        errs.append(field.invalid("spec.selector", wanted, "invalid label selector"))
        return
    matches_template(errs, wanted, template, "spec.template")
    pod_template_spec(errs, template, "spec.template", options)
    restarts_always(errs, template, "spec.template", "ReplicaSet")


def _deployment_strategy(errs: Errors, strategy: Object, path: str) -> None:
    kind, rolling, at = strategy.get("type") or "", strategy.get("rollingUpdate"), f"{path}.rollingUpdate"
    if kind == "Recreate":
        if rolling is not None:
            errs.append(field.forbidden(at, "may not be specified when strategy `type` is 'Recreate'"))
    elif kind != "RollingUpdate":
        shown = {"Type": kind, "RollingUpdate": _rolling(rolling, "MaxUnavailable", "MaxSurge")}
        errs.append(field.not_supported(path, shown, ("Recreate", "RollingUpdate")))
    elif rolling is None:
        errs.append(field.required(at, "this should be defaulted and never be nil"))
    else:
        unavailable, surge = rolling.get("maxUnavailable", 0), rolling.get("maxSurge", 0)
        int_or_percent(errs, unavailable, f"{at}.maxUnavailable")
        int_or_percent(errs, surge, f"{at}.maxSurge")
        if amount(unavailable) == 0 and amount(surge) == 0:
            text = "may not be 0 when `maxSurge` is 0"
            errs.append(field.invalid(f"{at}.maxUnavailable", unavailable, text))
        at_most_all(errs, unavailable, f"{at}.maxUnavailable")


def _rolling(rolling: Object | None, *names: str) -> Object | None:
    """A rolling update in its internal form."""
    return None if rolling is None else {name: rolling.get(name[0].lower() + name[1:], 0) for name in names}


def validate_deployment_status_update(new: Object, old: Object) -> Errors:
    """The errors of an update of a Deployment's status."""
    errs: Errors = []
    validate_meta_update(errs, new, old)
    status = new.get("status") or {}
    counted = (
        "observedGeneration",
        "replicas",
        "updatedReplicas",
        "readyReplicas",
        "availableReplicas",
        "unavailableReplicas",
        "terminatingReplicas",
        "collisionCount",
    )
    counts(errs, status, "status", counted)
    not_more_than(errs, status, "status", ("updatedReplicas", "readyReplicas", "availableReplicas"))
    available_are_ready(errs, status, "status")
    collisions_only_grow(errs, status, old.get("status") or {})
    return errs


# ReplicaSet


def validate_replica_set(obj: Object) -> Errors:
    errs: Errors = []
    validate_meta(errs, obj, namespaced=True)
    _replica_set_spec(errs, _spec(obj), TEMPLATE)
    return errs


def validate_replica_set_update(new: Object, old: Object) -> Errors:
    errs: Errors = []
    validate_meta_update(errs, new, old)
    _replica_set_spec(errs, _spec(new), _template_options(old))
    immutable(errs, _spec(new).get("selector"), _spec(old).get("selector"), "spec.selector")
    return errs


def _replica_set_spec(errs: Errors, spec: Object, options: PodOptions) -> None:
    non_negative(errs, spec.get("replicas"), "spec.replicas")
    non_negative(errs, spec.get("minReadySeconds"), "spec.minReadySeconds")
    # The message has always spoken of a deployment.
    selector(errs, spec.get("selector"), "spec.selector", "deployment")
    _replica_set_template(errs, spec, options)


def validate_replica_set_status_update(new: Object, old: Object) -> Errors:
    errs: Errors = []
    validate_meta_update(errs, new, old)
    status = new.get("status") or {}
    parts = ("fullyLabeledReplicas", "readyReplicas", "availableReplicas")
    counts(errs, status, "status", ("replicas", *parts, "observedGeneration", "terminatingReplicas"))
    not_more_than(errs, status, "status", parts)
    available_are_ready(errs, status, "status")
    return errs


# StatefulSet


def validate_stateful_set(obj: Object) -> Errors:
    errs: Errors = []
    validate_meta(errs, obj, namespaced=True, name_check=name_is_label)
    _stateful_set_spec(errs, _spec(obj), TEMPLATE, created=True)
    return errs


def validate_stateful_set_update(new: Object, old: Object) -> Errors:
    errs: Errors = []
    validate_meta_update(errs, new, old)
    options = _template_options(old)
    stored: Errors = []
    _stateful_set_spec(stored, _spec(old), options, created=False)
    _stateful_set_spec(errs, _spec(new), options, created=False, check_template=not stored)
    before = {key: value for key, value in _spec(old).items() if key not in _STATEFUL_SET_MUTABLE}
    after = {key: value for key, value in _spec(new).items() if key not in _STATEFUL_SET_MUTABLE}
    if not equal(after, before):
        errs.append(field.forbidden("spec", _STATEFUL_SET_KEPT))
    return errs


def _stateful_set_spec(
    errs: Errors, spec: Object, options: PodOptions, *, created: bool, check_template: bool = True
) -> None:
    """What cannot be changed any more is looked at only when it is ``created``."""
    policy = spec.get("podManagementPolicy") or ""
    if not policy:
        errs.append(field.required("spec.podManagementPolicy"))
    elif policy not in ("OrderedReady", "Parallel"):
        errs.append(field.invalid("spec.podManagementPolicy", policy, "must be 'OrderedReady' or 'Parallel'"))
    _stateful_set_strategy(errs, spec.get("updateStrategy") or {}, "spec.updateStrategy")
    retention: Object | None = spec.get("persistentVolumeClaimRetentionPolicy")
    for key in ("whenDeleted", "whenScaled"):
        choice = "Retain" if retention is None else retention.get(key) or ""
        if choice not in ("Retain", "Delete"):
            at = f"spec.persistentVolumeClaimRetentionPolicy.{key}"
            errs.append(field.not_supported(at, choice, ("Retain", "Delete")))
    if created:
        for i, claim in enumerate(spec.get("volumeClaimTemplates") or ()):
            claim_spec(errs, claim.get("spec") or {}, f"spec.volumeClaimTemplates[{i}].spec")
    non_negative(errs, spec.get("replicas"), "spec.replicas")
    non_negative(errs, spec.get("minReadySeconds"), "spec.minReadySeconds")
    non_negative(errs, (spec.get("ordinals") or {}).get("start"), "spec.ordinals.start")
    if created and spec.get("serviceName"):
        label(errs, spec["serviceName"], "spec.serviceName")
    selector(errs, spec.get("selector"), "spec.selector", "statefulset")
    _stateful_set_template(errs, spec, options, check=check_template)
    restarts_always(errs, spec.get("template") or {}, "spec.template", "StatefulSet")


def _stateful_set_strategy(errs: Errors, strategy: Object, path: str) -> None:
    """Validate a StatefulSet's update strategy; appends to ``errs``."""
    kind, rolling, at = strategy.get("type") or "", strategy.get("rollingUpdate"), f"{path}.rollingUpdate"
    shown = (
        None
        if rolling is None
        else {
            "Partition": rolling.get("partition") or 0,
            "MaxUnavailable": rolling.get("maxUnavailable"),
        }
    )
    if not kind:
        errs.append(field.required(path))
    elif kind == "OnDelete":
        if rolling is not None:
            errs.append(field.invalid(at, shown, "only allowed for updateStrategy 'RollingUpdate'"))
    elif kind != "RollingUpdate":
        value = {"Type": kind, "RollingUpdate": shown}
        errs.append(field.invalid(path, value, "must be 'RollingUpdate' or 'OnDelete'"))
    elif rolling is not None:
        non_negative(errs, rolling.get("partition"), f"{at}.partition")
        unavailable = rolling.get("maxUnavailable")
        if unavailable is not None:
            int_or_percent(errs, unavailable, f"{at}.maxUnavailable")
            if amount(unavailable) == 0:
                errs.append(field.invalid(f"{at}.maxUnavailable", unavailable, "cannot be 0"))
            at_most_all(errs, unavailable, f"{at}.maxUnavailable")


def _stateful_set_template(errs: Errors, spec: Object, options: PodOptions, *, check: bool) -> None:
    """The template as the controller completes it: with its claims as volumes, and host names of its own."""
    template = spec.get("template") or {}
    pod = {key: value for key, value in (template.get("spec") or {}).items() if key not in ("hostname", "subdomain")}
    claims = [(claim.get("metadata") or {}).get("name") or "" for claim in spec.get("volumeClaimTemplates") or ()]
    if claims:
        names = dict.fromkeys(claims)
        own = [v for v in pod.get("volumes") or () if v.get("name") not in names]
        made = [{"name": name, "persistentVolumeClaim": {"claimName": name}} for name in names]
        pod["volumes"] = made + own
    completed = {**template, "spec": pod}
    if not matches_template(errs, spec.get("selector"), completed, "spec.template"):
        errs.append(field.invalid("spec.selector", spec.get("selector"), ""))
        return
    if check:
        pod_template_spec(errs, completed, "spec.template", options)
    meta = template.get("metadata") or {}
    validate_labels(errs, meta.get("labels"), "spec.template.labels")
    if annotations := meta.get("annotations"):
        validate_annotations(errs, annotations, "spec.template.annotations")
        pod_annotations(errs, annotations, pod, "spec.template.annotations", options)


def validate_stateful_set_status_update(new: Object, old: Object) -> Errors:
    errs: Errors = []
    status = new.get("status") or {}
    parts = ("readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas")
    counts(errs, status, "status", ("replicas", *parts, "observedGeneration", "collisionCount"))
    not_more_than(errs, status, "status", parts)
    available_are_ready(errs, status, "status", "cannot be greater than status.readyReplicas")
    validate_meta_update(errs, new, old)
    collisions_only_grow(errs, status, old.get("status") or {})
    return errs


# DaemonSet


def validate_daemon_set(obj: Object) -> Errors:
    errs: Errors = []
    validate_meta(errs, obj, namespaced=True)
    _daemon_set_spec(errs, _spec(obj), TEMPLATE, allow_bad_values=False)
    return errs


def validate_daemon_set_update(new: Object, old: Object) -> Errors:
    errs: Errors = []
    validate_meta_update(errs, new, old)
    before = _spec(old).get("selector")
    immutable(errs, _spec(new).get("selector"), before, "spec.selector", IMMUTABLE)
    options = _template_options(old)
    _daemon_set_spec(
        errs, _spec(new), options, allow_bad_values=options.selector_values or selector_has_bad_value(before)
    )
    return errs


def _daemon_set_spec(errs: Errors, spec: Object, options: PodOptions, *, allow_bad_values: bool) -> None:
    wanted, template = spec.get("selector"), spec.get("template") or {}
    label_selector(errs, wanted, "spec.selector", allow_bad_values=allow_bad_values)
    if matches(wanted, template_labels(template)) is False:
        errs.append(field.invalid("spec.template.metadata.labels", template_labels(template), MISMATCH))
    not_empty(errs, wanted, "spec.selector", "daemonset")
    pod_template_spec(errs, template, "spec.template", options)
    restarts_always(errs, template, "spec.template", "DaemonSet")
    non_negative(errs, spec.get("minReadySeconds"), "spec.minReadySeconds")
    _daemon_set_strategy(errs, spec.get("updateStrategy") or {}, "spec.updateStrategy")
    non_negative(errs, spec.get("revisionHistoryLimit"), "spec.revisionHistoryLimit")


def _daemon_set_strategy(errs: Errors, strategy: Object, path: str) -> None:
    kind, rolling, at = strategy.get("type") or "", strategy.get("rollingUpdate"), f"{path}.rollingUpdate"
    if kind == "OnDelete":
        return
    if kind != "RollingUpdate":
        shown = {"Type": kind, "RollingUpdate": _rolling(rolling, "MaxUnavailable", "MaxSurge")}
        errs.append(field.not_supported(path, shown, ("RollingUpdate", "OnDelete")))
        return
    if rolling is None:
        errs.append(field.required(at))
        return
    unavailable, surge = rolling.get("maxUnavailable", 0), rolling.get("maxSurge", 0)
    int_or_percent(errs, unavailable, f"{at}.maxUnavailable")
    int_or_percent(errs, surge, f"{at}.maxSurge")
    at_most_all(errs, unavailable, f"{at}.maxUnavailable")
    at_most_all(errs, surge, f"{at}.maxSurge")
    if amount(unavailable) and amount(surge):
        errs.append(field.invalid(f"{at}.maxSurge", surge, "may not be set when maxUnavailable is non-zero"))
    elif not amount(unavailable) and not amount(surge):
        errs.append(field.required(f"{at}.maxUnavailable", "cannot be 0 when maxSurge is 0"))


def validate_daemon_set_status_update(new: Object, old: Object) -> Errors:
    """The errors of an update of a DaemonSet's status."""
    errs: Errors = []
    validate_meta_update(errs, new, old)
    status = new.get("status") or {}
    counted = (
        "currentNumberScheduled",
        "numberMisscheduled",
        "desiredNumberScheduled",
        "numberReady",
        "observedGeneration",
        "updatedNumberScheduled",
        "numberAvailable",
        "numberUnavailable",
        "collisionCount",
    )
    counts(errs, status, "status", counted)
    collisions_only_grow(errs, status, old.get("status") or {})
    return errs


# ControllerRevision


def validate_controller_revision(obj: Object) -> Errors:
    errs: Errors = []
    _revision(errs, obj)
    data = obj.get("data")
    if data is None:
        errs.append(field.required("data", "data is mandatory"))
    elif not isinstance(data, dict):
        errs.append(field.required("data", "data must be a valid JSON object"))
    return errs


def _revision(errs: Errors, obj: Object) -> None:
    validate_meta(errs, obj, namespaced=True)
    non_negative(errs, obj.get("revision"), "revision")


def validate_controller_revision_update(new: Object, old: Object) -> Errors:
    errs: Errors = []
    validate_meta_update(errs, new, old)
    _revision(errs, new)
    immutable(errs, new.get("data"), old.get("data"), "data")
    return errs
