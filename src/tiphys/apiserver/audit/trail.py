"""``Trail``: what is recorded of one request while it passes through the server, as an audit Event.

Source: https://kubernetes.io/docs/reference/config-api/apiserver-audit.v1/#audit-k8s-io-v1-Event
"""

from __future__ import annotations

import copy
import logging
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import orjson

from tiphys.api import protobuf
from tiphys.api.meta.timestamps import format_micro_time
from tiphys.api.object import Object
from tiphys.apiserver.audit.policy import REQUEST_RECEIVED, Level, Treatment
from tiphys.apiserver.audit.version import API_VERSION
from tiphys.apiserver.call import Call, User
from tiphys.runtime import yamltext
from tiphys.wire.http import Response

log = logging.getLogger(__name__)


_MAX_AGENT = 1024
_STATUS_FIELDS = ("status", "message", "reason", "details", "code")


class Trail:
    """Filled in by the filters and endpoints that a request passes; ``event`` gives it as of a stage."""

    def __init__(self, call: Call, treatment: Treatment, received: float) -> None:
        """``received`` is the wall-clock time in Unix seconds."""
        self.level = treatment.level
        self.treatment = treatment
        self._received = format_micro_time(received)
        self._annotations: dict[str, str] = dict(call.remarks.annotations)
        self._request: Any = None
        self._response: Any = None
        self._status: Object | None = None
        self._head = _head(call, treatment.level)
        self._reference = _reference(call)
        self._impersonated: User | None = None

    def annotate(self, key: str, value: str) -> None:
        """Add an annotation. The first value of a key stays."""
        known = self._annotations.setdefault(key, value)
        if known != value:
            log.warning("annotation %r of audit event %s is %r already", key, self._head["auditID"], known)

    def annotate_request(self, key: str, value: Callable[[], str]) -> None:
        """Add an annotation that holds parts of the request's object, if the policy wants that recorded."""
        if self.level >= Level.REQUEST:
            self.annotate(key, value())

    def impersonate(self, user: User) -> None:
        self._impersonated = user

    def request_object(self, obj: Object) -> None:
        """The object in the request's body, decoded and with its defaults."""
        meta = obj.get("metadata") or {}
        if self._reference is not None:
            for name in ("namespace", "name", "uid", "resourceVersion"):
                if meta.get(name) and not self._reference.get(name):
                    self._reference[name] = meta[name]
        if self.level >= Level.REQUEST:
            self._request = self._slim(obj)

    def request_body(self, body: bytes, media: str) -> None:
        """The body as it is, for requests that no endpoint decodes into an object: patches, and options."""
        if self.level >= Level.REQUEST and self._request is None and body:
            self._request = _read(body, media)

    def response(self, response: Response) -> None:
        """The answer: its status, and its object if it is one."""
        wants_object = self.level >= Level.REQUEST_RESPONSE
        media = response.headers.get("Content-Type", "")
        failed = response.status >= 400
        if isinstance(response.body, bytes) and response.body and (wants_object or failed):
            obj = _read(_plain(response), media)
            if isinstance(obj, dict) and obj.get("kind") == "Status":
                self.status(obj)
            if wants_object and obj is not None:
                self._response = self._slim(obj)
        if self._status is None:
            self._status = {"metadata": {}, "code": response.status}

    def status(self, status: Object) -> None:
        """A Status that is the answer."""
        self._status = {"metadata": {}, **{name: status[name] for name in _STATUS_FIELDS if status.get(name)}}

    def event(self, stage: str, now: float) -> Object:
        """The Event as of a stage that is reached at ``now``, in Unix seconds."""
        event = {**self._head, "stage": stage}
        if self._impersonated is not None:
            event["impersonatedUser"] = self._impersonated.as_user_info()
        if self._reference:
            event["objectRef"] = dict(self._reference)
        objects = {"responseStatus": self._status, "requestObject": self._request, "responseObject": self._response}
        event |= {name: value for name, value in objects.items() if value is not None}
        event["requestReceivedTimestamp"] = self._received
        event["stageTimestamp"] = self._received if stage == REQUEST_RECEIVED else format_micro_time(now)
        if self._annotations:
            event["annotations"] = dict(self._annotations)
        return event

    def _slim(self, obj: Any) -> Any:
        """A copy, without managed fields if the policy wants none."""
        if not self.treatment.omit_managed_fields or not isinstance(obj, dict):
            return copy.deepcopy(obj)
        copied = copy.deepcopy(obj)
        for one in _objects_in(copied):
            if isinstance(one.get("metadata"), dict):
                one["metadata"].pop("managedFields", None)
        return copied


def _objects_in(obj: Object) -> Iterator[Object]:
    """The object itself, the items of a list, the objects of a table's rows."""
    yield obj
    for item in obj.get("items") or ():
        if isinstance(item, dict):
            yield item
    if obj.get("kind") == "Table":
        for row in obj.get("rows") or ():
            if isinstance(row.get("object"), dict):
                yield row["object"]


def _head(call: Call, level: Level) -> Object:
    request = call.request
    head: Object = {
        "kind": "Event",
        "apiVersion": API_VERSION,
        "level": level.text,
        "auditID": call.audit_id,
        "stage": "",
        "requestURI": f"{request.path}?{request.query}" if request.query else request.path,
        "verb": call.info.verb,
        "user": call.user.as_user_info(),
    }
    if ips := source_ips(call):
        head["sourceIPs"] = ips
    if agent := call.user_agent:
        head["userAgent"] = agent if len(agent) <= _MAX_AGENT else f"{agent[:_MAX_AGENT]}...TRUNCATED"
    return head


def source_ips(call: Call) -> list[str]:
    """Where the request came from: what proxies say, nearest last, and the connection's other end."""
    headers = call.request.headers
    ips = [part.strip() for part in headers.get("x-forwarded-for", "").split(",") if part.strip()]
    real = headers.get("x-real-ip", "").strip()
    if real and real not in ips:
        ips.append(real)
    peer = call.request.peer.address
    if peer and (not ips or ips[-1] != peer):
        ips.append(peer)
    return ips


def _reference(call: Call) -> Object | None:
    info = call.info
    if not info.is_resource:
        return None
    fields = {
        "resource": info.resource,
        "namespace": info.namespace,
        "name": info.name,
        "apiGroup": info.group,
        "apiVersion": info.version,
        "subresource": info.subresource,
    }
    return {name: value for name, value in fields.items() if value}


def _plain(response: Response) -> bytes:
    assert isinstance(response.body, bytes)
    if response.headers.get("Content-Encoding") == "gzip":
        return zlib.decompress(response.body, wbits=31)
    return response.body


def _read(body: bytes, media: str) -> Any:
    """A body as a value; None if it has no form that can be recorded."""
    try:
        if protobuf.CONTENT_TYPE in media:
            return protobuf.decode(body)
        if "yaml" in media:
            return yamltext.load(body)
        if "json" in media or not media:
            return orjson.loads(body)
    except (orjson.JSONDecodeError, yamltext.YAMLError, protobuf.ProtobufError, UnicodeDecodeError):
        return None
    return None
