"""Status objects: the answers that say no. They are built here and nowhere else.

Every function gives a ``StatusError`` to raise, with the code, reason, message and details that the Kubernetes API
reference documents for it. Resources are named by group and plural (``"apps", "deployments"``), kinds by group and
kind. Source: https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/status/ and the API conventions.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from tiphys.api.fielderrors import FieldError, aggregate, shown
from tiphys.api.gotext import quote

Cause = dict[str, str]


class StatusError(Exception):
    """A failure as clients see it: ``status`` is the Status object, ``code`` the HTTP status code."""

    def __init__(self, status: dict[str, Any]) -> None:
        super().__init__(status.get("message", ""))
        self.status = status

    @property
    def code(self) -> int:
        return int(self.status["code"])

    @property
    def reason(self) -> str:
        return str(self.status.get("reason", ""))

    @property
    def message(self) -> str:
        return str(self.status.get("message", ""))

    @property
    def headers(self) -> dict[str, str]:
        """Header fields that go with the answer: how long to wait before a retry."""
        seconds = self.status.get("details", {}).get("retryAfterSeconds", 0)
        return {"Retry-After": str(seconds)} if seconds > 0 else {}


def status(
    code: int, reason: str, message: str, details: dict[str, Any] | None = None, status: str = "Failure"
) -> dict[str, Any]:
    """A Status object. Empty ``details`` are kept, as upstream does; ``None`` leaves them out."""
    result: dict[str, Any] = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": status}
    if message:
        result["message"] = message
    if reason:
        result["reason"] = reason
    if details is not None:
        result["details"] = details
    result["code"] = code
    return result


def success(details: dict[str, Any] | None = None, code: int = 200) -> dict[str, Any]:
    """The Status that answers a delete that left nothing to show."""
    result = status(code, "", "", details, status="Success")
    if code == 200:
        # Upstream leaves the code out of a plain success.
        del result["code"]
    return result


def details(
    name: str = "",
    group: str = "",
    kind: str = "",
    causes: Sequence[Cause] = (),
    retry_after: int = 0,
    uid: str = "",
) -> dict[str, Any]:
    """The details of a Status, empty values left out; ``kind`` holds the plural if a resource is meant."""
    fields: dict[str, Any] = {
        "name": name,
        "group": group,
        "kind": kind,
        "uid": uid,
        "causes": list(causes),
        "retryAfterSeconds": retry_after,
    }
    return {key: value for key, value in fields.items() if value}


def cause(reason: str, message: str, field: str = "") -> Cause:
    fields = {"reason": reason, "message": message, "field": field}
    return {key: value for key, value in fields.items() if value}


def _failure(code: int, reason: str, message: str, info: dict[str, Any] | None = None) -> StatusError:
    return StatusError(status(code, reason, message, info))


def qualified(group: str, resource: str) -> str:
    """``deployments.apps``; ``pods`` for the core group."""
    return f"{resource}.{group}" if group else resource


def from_code(code: int, message: str) -> StatusError:
    """An error that upstream does not turn into a typed Status: only a code and a message."""
    return _failure(code, "", message)


def bad_request(message: str) -> StatusError:
    return _failure(400, "BadRequest", message)


def unauthorized(message: str = "Unauthorized") -> StatusError:
    return _failure(401, "Unauthorized", message or "not authorized")


def forbidden(group: str, resource: str, name: str, reason: object) -> StatusError:
    """``reason`` follows ``is forbidden:`` in the message; without a resource, for a path that is not a resource's."""
    if not group and not resource:
        message = f"forbidden: {reason}"
    elif not name:
        message = f"{qualified(group, resource)} is forbidden: {reason}"
    else:
        message = f"{qualified(group, resource)} {quote(name)} is forbidden: {reason}"
    return _failure(403, "Forbidden", message, details(name, group, resource))


def not_found(group: str, resource: str, name: str) -> StatusError:
    message = f"{qualified(group, resource)} {quote(name)} not found"
    return _failure(404, "NotFound", message, details(name, group, resource))


def no_such_path() -> StatusError:
    """The path names no resource that the server serves."""
    return _failure(404, "NotFound", "the server could not find the requested resource", {})


def method_not_supported(group: str, resource: str, action: str) -> StatusError:
    message = f"{action} is not supported on resources of kind {quote(qualified(group, resource))}"
    return _failure(405, "MethodNotAllowed", message, details("", group, resource))


def method_not_allowed() -> StatusError:
    """The path is there, the HTTP method is not."""
    return _failure(405, "MethodNotAllowed", "the server does not allow this method on the requested resource", {})


def already_exists(group: str, resource: str, name: str) -> StatusError:
    message = f"{qualified(group, resource)} {quote(name)} already exists"
    return _failure(409, "AlreadyExists", message, details(name, group, resource))


def generate_name_conflict(group: str, resource: str, name: str, retry_after: int = 1) -> StatusError:
    message = (
        f"{qualified(group, resource)} {quote(name)} already exists, "
        "the server was not able to generate a unique name for the object"
    )
    return _failure(409, "AlreadyExists", message, details(name, group, resource, retry_after=retry_after))


STALE_OBJECT = "the object has been modified; please apply your changes to the latest version and try again"
"""The reason of a conflict if the resource version that the client sent is not the stored one."""


def conflict(
    group: str, resource: str, name: str, reason: object = STALE_OBJECT, causes: Sequence[Cause] = ()
) -> StatusError:
    message = f"Operation cannot be fulfilled on {qualified(group, resource)} {quote(name)}: {reason}"
    return _failure(409, "Conflict", message, details(name, group, resource, causes))


def apply_conflict(causes: Sequence[Cause], message: str) -> StatusError:
    return _failure(409, "Conflict", message, details(causes=causes))


def expired(message: str) -> StatusError:
    """The requested revision is compacted; clients list again."""
    return _failure(410, "Expired", message)


def request_entity_too_large(message: str) -> StatusError:
    return _failure(413, "RequestEntityTooLarge", f"Request entity too large: {message}")


def unsupported_media_type(accepted: Sequence[str]) -> StatusError:
    message = f"the body of the request was in an unknown format - accepted media types include: {', '.join(accepted)}"
    return _failure(415, "UnsupportedMediaType", message)


def invalid(group: str, kind: str, name: str, errors: Iterable[FieldError]) -> StatusError:
    every = list(errors)
    first = shown(every)
    texts = [f"{error.field}: {body}" for error, body in first]
    if left_out := len(every) - len(first):
        texts.append(f"and {left_out} more errors")
    message = f"{qualified(group, kind)} {quote(name)} is invalid"
    if texts:
        message += f": {aggregate(texts)}"
    causes = [cause(error.type.value, body, error.field) for error, body in first]
    return _failure(422, "Invalid", message, details(name, group, kind, causes))


def too_many_requests(message: str, retry_after: int) -> StatusError:
    return _failure(429, "TooManyRequests", message, details(retry_after=retry_after))


def over_rate(message: str) -> StatusError:
    """A limit on the rate of requests is reached; when it is not is not known."""
    return _failure(429, "TooManyRequests", f"Too many requests: {message}")


def internal(error: object) -> StatusError:
    text = str(error)
    return _failure(500, "InternalError", f"Internal error occurred: {text}", details(causes=[cause("", text)]))


def service_unavailable(message: str) -> StatusError:
    return _failure(503, "ServiceUnavailable", message)


def timeout(message: str, retry_after: int = 0) -> StatusError:
    return _failure(504, "Timeout", f"Timeout: {message}", details(retry_after=retry_after))


def too_large_resource_version(current: int, requested: int, retry_after: int = 1) -> StatusError:
    """The server has not seen the revision yet that the client asks for."""
    message = f"Timeout: Too large resource version: {requested}, current: {current}"
    causes = [cause("ResourceVersionTooLarge", "Too large resource version")]
    return _failure(504, "Timeout", message, details(causes=causes, retry_after=retry_after))


def sanitize(text: str) -> str:
    """Text in a form that no browser takes for HTML, as the refusal of a request shows it."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def not_authorized(
    user: str,
    verb: str,
    *,
    path: str = "",
    group: str = "",
    resource: str = "",
    subresource: str = "",
    namespace: str = "",
    name: str = "",
    reason: str = "",
) -> StatusError:
    """The authorizer said no. A request for a resource names it; any other request has only its ``path``."""
    who = f"User {quote(user)} cannot {verb}"
    if not resource:
        message = f"{who} path {quote(path)}"
    else:
        full = f"{resource}/{subresource}" if subresource else resource
        where = f"in the namespace {quote(namespace)}" if namespace else "at the cluster scope"
        message = f"{who} resource {quote(full)} in API group {quote(group)} {where}"
    message = sanitize(message)
    return forbidden(group, resource, name, f"{message}: {reason}" if reason else message)
