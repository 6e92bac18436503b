"""The ConversionReview: what a conversion webhook is sent, and what its answer means. Pure.

Sources: https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definition-versioning/
(Webhook conversion), and the type ``apiextensions.k8s.io/v1 ConversionReview``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tiphys.api.fielderrors import aggregate
from tiphys.api.gotext import quote
from tiphys.api.meta.copying import copy
from tiphys.api.object import Object
from tiphys.validation.shared import common
from tiphys.validation.shared.objectmeta import validate_annotations

VERSIONS = ("v1", "v1beta1")
_GROUP = "apiextensions.k8s.io"
_GO_TYPES = {str: "string", bool: "bool", int: "int64", float: "float64", list: "[]interface {}", type(None): "<nil>"}

MALFORMED = "conversion_webhook_malformed_response_failure"
PARTIAL = "conversion_webhook_partial_response_failure"
INVALID = "conversion_webhook_invalid_converted_object_failure"


class BadAnswer(Exception):
    """The answer cannot be used. ``failure`` is what the metrics call that; the text follows ``conversion webhook for
    KIND``."""

    def __init__(self, failure: str, text: str) -> None:
        super().__init__(text)
        self.failure = failure


def review_version(accepted: Sequence[str]) -> str | None:
    """The first of the webhook's versions that this server speaks."""
    return next((version for version in accepted if version in VERSIONS), None)


def make_review(version: str, uid: str, desired: str, objects: Sequence[Object]) -> Object:
    """``desired`` is the API version that the objects are to have."""
    request = {"uid": uid, "desiredAPIVersion": desired, "objects": list(objects)}
    return {"kind": "ConversionReview", "apiVersion": f"{_GROUP}/{version}", "request": request}


def read_review(answer: Object, version: str, uid: str, desired: str, originals: Sequence[Object]) -> list[Object]:
    """The converted objects, in the order of ``originals``, whose metadata they keep but for labels and annotations.

    Raises ``BadAnswer``.
    """
    converted = _converted(answer, version, uid)
    if len(converted) != len(originals):
        raise BadAnswer(PARTIAL, f"returned {len(converted)} objects, expected {len(originals)}")
    single = len(originals) == 1
    return [
        _checked(obj, original, desired, "" if single else f" at index {number}")
        for number, (obj, original) in enumerate(zip(converted, originals, strict=True))
    ]


def _converted(answer: Object, version: str, uid: str) -> list[Any]:
    response = answer.get("response")
    if version == "v1":
        _check_head(answer)
    if not isinstance(response, dict):
        raise BadAnswer(MALFORMED, "failed: no response provided")
    if version == "v1" and response.get("uid") != uid:
        got = quote(str(response.get("uid") or ""))
        raise BadAnswer(MALFORMED, f"failed: expected response.uid={quote(uid)}, got {got}")
    result = response.get("result")
    result = result if isinstance(result, dict) else {}
    if result.get("status") != "Success":
        message = result.get("message") or f"response.result.status was '{result.get('status') or ''}', not 'Success'"
        raise BadAnswer(MALFORMED, f"failed: {message}")
    objects = response.get("convertedObjects")
    return objects if isinstance(objects, list) else []


def _check_head(answer: Object) -> None:
    api_version, kind = answer.get("apiVersion") or "", answer.get("kind") or ""
    if (api_version, kind) != (f"{_GROUP}/v1", "ConversionReview"):
        wanted = f"{_GROUP}/v1, Kind=ConversionReview"
        raise BadAnswer(MALFORMED, f"failed: expected webhook response of {wanted}, got {api_version}, Kind={kind}")


def _checked(obj: Any, original: Object, desired: str, where: str) -> Object:
    """A converted object with the metadata that a conversion cannot change."""
    is_listed = bool(where)
    head = f"returned invalid {'converted ' if is_listed else ''}object{where or ' at index 0'}"
    if not isinstance(obj, dict) or not isinstance(obj.get("kind"), str):
        raise BadAnswer(INVALID, f"{head}: Object 'Kind' is missing")
    if obj.get("apiVersion") != desired:
        got = obj.get("apiVersion") or ""
        raise BadAnswer(INVALID, f"{head}: invalid groupVersion (expected {desired}, received {got})")
    if obj["kind"] != original["kind"]:
        raise BadAnswer(INVALID, f"{head}: invalid kind (expected {original['kind']}, received {obj['kind']})")
    if problem := _moved(obj, original):
        raise BadAnswer(INVALID, f"returned invalid {'converted ' if is_listed else ''}object{where}: {problem}")
    try:
        meta = _restored(obj, original)
    except ValueError as error:
        inside = f" in object{where}" if is_listed else ""
        raise BadAnswer(INVALID, f"returned invalid metadata{inside}: {error}") from None
    return {**obj, "metadata": meta}


def _moved(obj: Object, original: Object) -> str:
    """Whether it is another object than it was."""
    meta = obj.get("metadata")
    meta, kept = meta if isinstance(meta, dict) else {}, original.get("metadata") or {}
    for field, shown in (("name", "name"), ("namespace", "namespace"), ("uid", "UID")):
        if (before := kept.get(field) or "") != (after := meta.get(field) or ""):
            return f"must have the same {shown}: {before} != {after}"
    return ""


def _restored(obj: Object, original: Object) -> Object:
    """The metadata from before the conversion, with the labels and annotations from after it. Raises ``ValueError``."""
    if "metadata" not in obj:
        raise ValueError("missing metadata in converted object")
    meta = obj["metadata"]
    if not isinstance(meta, dict):
        raise ValueError(f"invalid metadata of type {_go_type(meta)} in converted object")
    restored: Object = copy(original.get("metadata") or {})
    for field in ("labels", "annotations"):
        given = meta.get(field)
        if given is None:
            restored.pop(field, None)
        else:
            restored[field] = _texts(field, given, restored.get(field) or {})
    return restored


def _texts(field: str, given: Any, before: Object) -> dict[str, str]:
    if not isinstance(given, dict):
        raise ValueError(f"invalid metadata.{field} of type {_go_type(given)} in converted object")
    for key, value in given.items():
        if not isinstance(value, str):
            raise ValueError(f"metadata.{field}[{key}] must be a string, but is {_go_type(value)} in converted object")
    if given != before:
        errs: common.Errors = []
        if field == "labels":
            common.labels(errs, given, "metadata.labels")
        else:
            validate_annotations(errs, given, "metadata.annotation")
        if errs:
            raise ValueError(aggregate(str(error) for error in errs))
    return given


def _go_type(value: Any) -> str:
    return _GO_TYPES.get(type(value), "map[string]interface {}")
