"""Validation of Event, in the core group and in events.k8s.io.

The core group takes what it always took; events.k8s.io wants the new fields and refuses the old ones. Both kinds are
checked in the form of the core group: ``involvedObject``, ``message``, ``reportingComponent``, ``firstTimestamp``.
"""

from __future__ import annotations

from typing import Any

from tiphys.api import fielderrors as field
from tiphys.api.meta import names
from tiphys.api.validation.common import Errors, Object, immutable, qualified, subdomain
from tiphys.api.validation.objectmeta import meta_of, validate_meta, validate_meta_update

_LIMIT = 128
_NOTE_LIMIT = 1024
_MISMATCH = "does not match event.namespace"
# The name in events.k8s.io/v1 → the name in the core group.
_OLD_NAMES = {
    "regarding": "involvedObject",
    "note": "message",
    "reportingController": "reportingComponent",
    "deprecatedSource": "source",
    "deprecatedFirstTimestamp": "firstTimestamp",
    "deprecatedLastTimestamp": "lastTimestamp",
    "deprecatedCount": "count",
}


def validate_event(obj: Object) -> Errors:
    errs: Errors = []
    _legacy(errs, obj, "reportingComponent")
    return errs


def validate_event_update(new: Object, old: Object) -> Errors:
    return validate_event(new)


def _as_core(obj: Object) -> Object:
    return {_OLD_NAMES.get(key, key): value for key, value in obj.items()}


def validate_new_event(obj: Object) -> Errors:
    """An event of events.k8s.io/v1."""
    errs: Errors = []
    event = _as_core(obj)
    _legacy(errs, event, "reportingController")
    validate_meta(errs, event, True)
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


def validate_new_event_update(new_obj: Object, old_obj: Object) -> Errors:
    errs: Errors = []
    new, old = _as_core(new_obj), _as_core(old_obj)
    _legacy(errs, new, "reportingController")
    validate_meta_update(errs, new, old)
    if (new.get("series") or None) != (old.get("series") or None):
        _series(errs, new)
    empty: dict[str, Any] = {"reason": "", "message": "", "count": 0, "type": "", "action": "", "reportingInstance": ""}

    def kept(key: str, shown: str = "") -> None:
        zero = empty.get(key)
        immutable(errs, new.get(key, zero), old.get(key, zero), shown or key)

    for key in ("involvedObject", "reason", "message", "source", "firstTimestamp", "lastTimestamp", "count", "reason"):
        kept(key)
    kept("type")
    if (new.get("eventTime") or "")[:26] != (old.get("eventTime") or "")[:26]:
        kept("eventTime")
    kept("action")
    kept("related")
    kept("reportingComponent", "reportingController")
    kept("reportingInstance")
    return errs


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
