"""Validation against what a v1.36 server answered.

Every POST is validated as the server does after its registry, which for most kinds adds nothing that matters. Updates
are replayed: merge patches onto the object that the server had answered with.
"""

from __future__ import annotations

import copy
import json
import re
from typing import Any

import pytest

from tests.recorded.conversations import cases
from tiphys.api import errors
from tiphys.api.codec import complete
from tiphys.api.defaults import apply_defaults
from tiphys.api.fielderrors import FieldError
from tiphys.api.object import Object
from tiphys.api.resources import builtin_scheme
from tiphys.api.schema import schema_for
from tiphys.api.scheme import GroupVersionKind
from tiphys.validation import validate_create, validate_status_update, validate_update

FILES = ("validation", "defaults", "lifecycle", "patch", "list", "apply", "crd")
SCHEME = builtin_scheme()

ELSEWHERE = {
    "validation/service-out-of-range-ip": "the allocator of cluster IPs",
    "validation/service-bad-nodeport": "the allocator of node ports",
    "validation/service-dual-stack-required": "the registry of services",
    "defaults/services-6": "the registry of services fills in clusterIPs",
    "defaults/pods-1": "admission fills in the service account",
    "lifecycle/event-series": "the body depends on an earlier answer",
    "lifecycle/service-clusterip-immutable": "the service's first address is not recorded",
    "crd/invalid-bad-cel": "the CEL compiler",
    "crd/invalid-default-invalid": "the validator of custom resources",
}


def _cases() -> list[Any]:
    kept = []
    for file in FILES:
        text = json.dumps(cases(file)).replace("RUNID", "r12").replace("<suffix>", "abcde")
        kept += [case for case in json.loads(text) if case["name"] not in ELSEWHERE]
    return [pytest.param(case, id=case["name"]) for case in kept]


def _gvk(obj: Object) -> GroupVersionKind:
    group, _, version = obj.get("apiVersion", "v1").rpartition("/")
    return GroupVersionKind(group, version, obj["kind"])


def _registered(obj: Object, gvk: GroupVersionKind, path: str) -> Object:
    """As the registry would have it before validation."""
    made = copy.deepcopy(obj)
    apply_defaults(made, gvk)
    meta = made.setdefault("metadata", {})
    if "/namespaces/" in path:
        meta.setdefault("namespace", path.split("/namespaces/")[1].split("/")[0])
    if meta.get("generateName") and not meta.get("name"):
        meta["name"] = meta["generateName"] + "abcde"
    if gvk.kind == "Job" and not made["spec"].get("manualSelector"):
        owned = {"batch.kubernetes.io/controller-uid": "u"}
        meta["uid"] = "u"
        labels = made["spec"]["template"].setdefault("metadata", {}).setdefault("labels", {})
        labels |= {
            **owned,
            "controller-uid": "u",
            "batch.kubernetes.io/job-name": meta["name"],
            "job-name": meta["name"],
        }
        made["spec"]["selector"] = {"matchLabels": owned}
    return complete(made, schema_for(gvk))


def _merged(value: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return patch
    made = dict(value) if isinstance(value, dict) else {}
    for key, change in patch.items():
        if change is None:
            made.pop(key, None)
        else:
            made[key] = _merged(made.get(key), change)
    return made


def _agree(found: list[FieldError], gvk: GroupVersionKind, name: str, answer: Object) -> None:
    body = answer.get("body") or {}
    status = errors.invalid(gvk.group, gvk.kind, name, found) if found else None
    if answer["status"] != 422:
        assert status is None, status
        return
    assert status is not None
    if "message" in body:
        assert _hunks(status.message) == _hunks(body["message"])
    causes = body.get("details.causes") or (body.get("details") or {}).get("causes")
    if causes is not None:
        assert _sorted(status.status["details"]["causes"]) == _sorted(causes)


def _hunks(text: str) -> str:
    """The recording server gave every pod's token volume one source more than v1.36 does, which its answers no longer
    show; it counts in the places of differences."""
    return re.sub(r"@@ -\d{3},\d+ \+\d{3},\d+ @@", "@@", text) if "pod updates may not change" in text else text


def _sorted(causes: list[Object]) -> list[str]:
    """The recorded causes are sorted; in which order they came shows in the message."""
    return sorted(_hunks(json.dumps(cause, sort_keys=True)) for cause in causes)


@pytest.mark.parametrize("case", _cases())
def test_case(case: Object) -> None:
    stored: dict[str, Object] = {}
    for step, answer in zip(case["steps"], case["answers"], strict=True):
        body, path = step.get("body"), step["path"].partition("?")[0]
        status = answer["status"]
        if step["method"] == "POST" and isinstance(body, dict) and "kind" in body and status in (201, 422):
            gvk = _gvk(body)
            if SCHEME.for_kind(gvk.group, gvk.kind) is None or (status == 422 and _by_options(answer)):
                continue
            made = _registered(body, gvk, path)
            _agree(validate_create(made, gvk), gvk, made["metadata"].get("name") or "", answer)
            full = (answer.get("body") or {}).get("metadata") is not None and not step.get("compare")
            made.setdefault("metadata", {})["resourceVersion"] = "1"
            if status == 201:
                stored[f"{path}/{made['metadata'].get('name')}"] = answer["body"] if full else made
        elif step.get("headers", {}).get("Content-Type") == "application/merge-patch+json":
            _patch(stored, path, body, answer)


def _by_options(answer: Object) -> bool:
    return str((answer.get("body") or {}).get("message", "")).startswith("CreateOptions")


def _patch(stored: dict[str, Object], path: str, patch: Object, answer: Object) -> None:
    is_status = path.endswith("/status")
    old = stored.get(path.removesuffix("/status"))
    if old is None or answer["status"] not in (200, 422) or not answer.get("body"):
        return
    gvk = _gvk(old)
    new = _merged(copy.deepcopy(old), patch)
    apply_defaults(new, gvk)
    check = validate_status_update if is_status else validate_update
    _agree(check(new, old, gvk), gvk, old["metadata"]["name"], answer)
    if answer["status"] == 200:
        stored[path.removesuffix("/status")] = new
