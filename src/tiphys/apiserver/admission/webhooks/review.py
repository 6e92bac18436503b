"""The AdmissionReview: what is sent to a webhook, and what its answer means. Pure.

Source: https://kubernetes.io/docs/reference/config-api/apiserver-admission.v1/
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass, field
from typing import Any

import orjson

from tiphys.api import errors
from tiphys.api.codec import jsontext
from tiphys.api.codec.typed import type_name
from tiphys.api.gotext import quote
from tiphys.api.object import Object
from tiphys.api.scheme import GroupVersionKind
from tiphys.apiserver.admission.attributes import CONNECT, Attributes
from tiphys.apiserver.admission.request import admission_request

VERSIONS = ("v1", "v1beta1")
_GROUP = "admission.k8s.io"


class InvalidAnswer(Exception):
    """The webhook's answer is not what the protocol asks for; the text says why."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A request in the form that a webhook asked to see: its kind and resource, and the objects in that version."""

    kind: GroupVersionKind
    resource: tuple[str, str, str]
    """Group, version, and plural."""
    object: Object | None
    old: Object | None


@dataclass(frozen=True, slots=True)
class ReviewVerdict:
    allowed: bool
    status: Object = field(default_factory=dict)
    """What the webhook says of a refusal."""
    patch: list[Any] = field(default_factory=list)
    """JSON patch operations."""
    warnings: tuple[str, ...] = ()
    annotations: dict[str, str] = field(default_factory=dict)
    """For the audit log."""


def make_review(attributes: Attributes, seen: Seen, uid: str, version: str) -> Object:
    request = {
        "uid": uid,
        **admission_request(attributes, seen.kind, *seen.resource),
        "object": seen.object,
        "oldObject": None if attributes.operation == CONNECT else seen.old,
        "options": attributes.options or None,
    }
    return {"kind": "AdmissionReview", "apiVersion": f"{_GROUP}/{version}", "request": request}


def read_verdict(answer: Object, uid: str, version: str, *, mutating: bool) -> ReviewVerdict:
    """Raises ``InvalidAnswer``."""
    response = answer.get("response")
    if not isinstance(response, dict):
        raise InvalidAnswer("webhook response was absent")
    if version == "v1":
        _check_head(answer, response, uid)
        _check_patch_fields(response, mutating=mutating)
    return ReviewVerdict(
        allowed=response.get("allowed") is True,
        status=response.get("status") or {},
        patch=_patch(response) if mutating else [],
        warnings=tuple(response.get("warnings") or ()),
        annotations=_texts(response.get("auditAnnotations")),
    )


def _texts(given: Any) -> dict[str, str]:
    """Raises ``InvalidAnswer`` for what is no map of texts."""
    if given is None:
        return {}
    if not isinstance(given, dict) or not all(isinstance(value, str) for value in given.values()):
        raise InvalidAnswer("response.auditAnnotations must be a map of strings")
    return given


def _check_head(answer: Object, response: Object, uid: str) -> None:
    if response.get("uid") != uid:
        raise InvalidAnswer(f"expected response.uid={quote(uid)}, got {quote(response.get('uid') or '')}")
    group, _, version = (answer.get("apiVersion") or "").rpartition("/")
    if (group, version, answer.get("kind")) != (_GROUP, "v1", "AdmissionReview"):
        raise InvalidAnswer(
            f"expected webhook response of {_GROUP}/v1, Kind=AdmissionReview,"
            f" got {group}/{version}, Kind={answer.get('kind') or ''}"
        )


def _check_patch_fields(response: Object, *, mutating: bool) -> None:
    patch, kind = response.get("patch"), response.get("patchType")
    if not mutating:
        for name, is_there in (("patch", bool(patch)), ("patchType", kind is not None)):
            if is_there:
                raise InvalidAnswer(f"validating webhook may not return response.{name}")
        return
    if patch and kind is None:
        raise InvalidAnswer("webhook returned response.patch but not response.patchType")
    if not patch and kind is not None:
        raise InvalidAnswer("webhook returned response.patchType but not response.patch")
    if kind == "":
        raise InvalidAnswer('webhook returned invalid response.patchType of ""')
    if kind not in (None, "JSONPatch"):
        raise InvalidAnswer(f"unsupported patch type {quote(kind)}")


def _patch(response: Object) -> list[Any]:
    text = response.get("patch")
    if not text:
        return []
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError, TypeError):
        raise InvalidAnswer(f"{_UNDECODABLE}: illegal base64 data at input byte {_first_illegal(text)}") from None
    try:
        operations = orjson.loads(data)
    except orjson.JSONDecodeError:
        raise InvalidAnswer(f"{_UNDECODABLE}: {jsontext.problem(data)}") from None
    if not isinstance(operations, list):
        kind = type_name(jsontext.read(data))
        raise InvalidAnswer(f"{_UNDECODABLE}: json: cannot unmarshal {kind} into Go value of type jsonpatch.Patch")
    return operations


_UNDECODABLE = "received undecodable patch in webhook response"
_LEGAL = re.compile(r"(?:[A-Za-z0-9+/]{4})*")


def _first_illegal(text: Any) -> int:
    """Where Go stops reading base64: at the first group of four that is none."""
    legal = _LEGAL.match(text) if isinstance(text, str) else None
    return legal.end() if legal else 0


def denied(name: str, status: Object) -> errors.StatusError:
    """The refusal of a webhook as the client gets it."""
    by = f"admission webhook {quote(name)} denied the request"
    answer: Object = {"kind": "Status", "apiVersion": "v1", "metadata": {}, **status}
    answer["status"] = "Failure"
    code = status.get("code")
    answer["code"] = code if isinstance(code, int) and code >= 400 else 400
    if said := status.get("message") or status.get("reason"):
        answer["message"] = f"{by}: {said}"
    else:
        answer["message"] = f"{by} without explanation"
    return errors.StatusError(answer)
