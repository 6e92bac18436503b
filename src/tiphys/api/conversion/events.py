"""Events of the core group and of ``events.k8s.io``: the same objects, with other names for some fields.

Source: https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/event-v1/
"""

from __future__ import annotations

from tiphys.api.object import Object

_NAMES = {
    "involvedObject": "regarding",
    "source": "deprecatedSource",
    "message": "note",
    "firstTimestamp": "deprecatedFirstTimestamp",
    "lastTimestamp": "deprecatedLastTimestamp",
    "count": "deprecatedCount",
    "reportingComponent": "reportingController",
}
_BACK = {newer: core for core, newer in _NAMES.items()}
_SHARED = {"metadata", "reason", "type", "eventTime", "series", "action", "related", "reportingInstance"}


def core_to_events(obj: Object) -> Object:
    return _renamed(obj, _NAMES)


def events_to_core(obj: Object) -> Object:
    return _renamed(obj, _BACK)


def _renamed(obj: Object, names: dict[str, str]) -> Object:
    renamed = {names.get(key, key): value for key, value in obj.items() if key in names or key in _SHARED}
    return {"metadata": renamed.pop("metadata", {}), **renamed}
