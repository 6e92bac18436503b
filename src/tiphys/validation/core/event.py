"""Validation of Event, in the core group and in events.k8s.io.

The core group takes what it always took; events.k8s.io wants the new fields and refuses the old ones. Both are checked
in the form of the core group, in which they are stored: ``involvedObject``, ``message``, ``reportingComponent``.

Source: https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/event-v1/
"""

from __future__ import annotations

from typing import Any

from tiphys.api import fielderrors as field
from tiphys.api.meta import names
from tiphys.api.object import Object
from tiphys.validation.shared.common import (
    IMMUTABLE,
    Errors,
    equal,
    qualified,
    subdomain,
)
from tiphys.validation.shared.objectmeta import meta_of, validate_meta, validate_meta_update

_LIMIT = 128
_NOTE_LIMIT = 1024
_MISMATCH = "does not match event.namespace"


def validate_event(obj: Object) -> Errors:
    errs: Errors = []
    _legacy(errs, obj, "reportingComponent")
    return errs


def validate_event_update(new: Object, old: Object) -> Errors:
    return validate_event(new)


def validate_new_event(event: Object) -> Errors:
    """What is sent as an event of events.k8s.io/v1."""
    errs: Errors = []
    _legacy(errs, event, "reportingController")
    validate_meta(errs, event, namespaced=True)
    _series(errs, event)
    if not event.get("eventTime"):
        errs.append(field.required("eventTime"))
    kind = event.get("type") or ""
    if kind not in ("Normal", "Warning"):
        errs.append(field.invalid("type", "", f"has invalid value: {kind}"))
    source = event.get("source") or {}
    for key, value in (
        ("firstTimestamp", event.get("firstTimestamp")),
        ("lastTimestamp", event.get("lastTimestamp")),
        ("count", event.get("count")),
        ("source", source.get("component") or source.get("host")),
    ):
        if value:
            errs.append(field.invalid(key, "", "needs to be unset"))
    return errs


def _series(errs: Errors, event: Object) -> None:
    series = event.get("series")
    if series is None:
        return
    if (series.get("count") or 0) < 2:
        errs.append(field.invalid("series.count", "", "should be at least 2"))
    if not series.get("lastObservedTime"):
        errs.append(field.required("series.lastObservedTime"))


def validate_new_event_update(new: Object, old: Object) -> Errors:
    errs: Errors = []
    _legacy(errs, new, "reportingController")
    validate_meta_update(errs, new, old)
    if (new.get("series") or None) != (old.get("series") or None):
        _series(errs, new)
    for key, zero in _IMMUTABLE:
        if key == "eventTime" and (new.get(key) or "")[:26] == (old.get(key) or "")[:26]:
            continue  # more digits than microseconds do not count
        after, before = new.get(key), old.get(key)
        if not equal(zero if after is None else after, zero if before is None else before):
            at = "reportingController" if key == "reportingComponent" else key
            errs.append(field.invalid(at, _shown(key, zero if after is None else after), IMMUTABLE))
    return errs


_IMMUTABLE: list[tuple[str, Any]] = [
    ("involvedObject", {}),
    ("reason", ""),
    ("message", ""),
    ("source", {}),
    ("firstTimestamp", None),
    ("lastTimestamp", None),
    ("count", 0),
    ("reason", ""),  # upstream reports it twice
    ("type", ""),
    ("eventTime", None),
    ("action", ""),
    ("related", None),
    ("reportingComponent", ""),
    ("reportingInstance", ""),
]
"""Fields and their empty values, in the order in which changes of them are reported."""
_STRUCTS = {"involvedObject": "ObjectReference", "related": "ObjectReference", "source": "EventSource"}


def _shown(key: str, value: Any) -> Any:
    from tiphys.validation.shared.internal import internal_value

    return internal_value(_STRUCTS[key], value) if key in _STRUCTS else value


def _legacy(errs: Errors, event: Object, controller_field: str) -> None:
    namespace = meta_of(event).get("namespace") or ""
    involved = (event.get("involvedObject") or {}).get("namespace") or ""
    at = "involvedObject.namespace"
    if not event.get("eventTime"):
        if (namespace not in ("", "default")) if not involved else namespace != involved:
            errs.append(field.invalid(at, involved, _MISMATCH))
    else:
        if not involved and namespace not in ("default", "kube-system"):
            errs.append(field.invalid(at, involved, _MISMATCH))
        _new_fields(errs, event, controller_field)
    subdomain(errs, namespace, "namespace")


def _new_fields(errs: Errors, event: Object, controller_field: str) -> None:
    controller = event.get("reportingComponent") or ""
    if not controller:
        errs.append(field.required(controller_field))
    qualified(errs, controller, controller_field)
    for key in ("reportingInstance", "action", "reason"):
        value = event.get(key) or ""
        if not value:
            errs.append(field.required(key))
        if names.byte_length(value) > _LIMIT:
            errs.append(field.invalid(key, "", f"can have at most {_LIMIT} characters"))
    if names.byte_length(event.get("message") or "") > _NOTE_LIMIT:
        errs.append(field.invalid("message", "", f"can have at most {_NOTE_LIMIT} characters"))
