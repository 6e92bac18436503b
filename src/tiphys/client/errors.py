"""What the API server answers when it does not do what was asked, as exceptions by reason.

Source: https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/status/
"""

from __future__ import annotations

import json
from typing import Any


class ApiError(Exception):
    """An answer that is a failure. ``status`` is the Status object of the API."""

    def __init__(self, code: int, status: dict[str, Any]) -> None:
        self.code = code
        self.status = status
        self.reason: str = status.get("reason", "")
        self.message: str = status.get("message", "")
        super().__init__(f"{code} {self.reason}: {self.message}")

    @property
    def retry_after(self) -> float | None:
        """Seconds after which the server asks to try again, if it says so."""
        seconds = (self.status.get("details") or {}).get("retryAfterSeconds")
        return float(seconds) if seconds is not None else None


class BadRequest(ApiError):
    """400"""


class Unauthorized(ApiError):
    """401: the caller is not known."""


class Forbidden(ApiError):
    """403: the caller may not do this."""


class NotFound(ApiError):
    """404"""


class MethodNotAllowed(ApiError):
    """405"""


class AlreadyExists(ApiError):
    """409, reason AlreadyExists"""


class Conflict(ApiError):
    """409: the object was changed meanwhile; read it again."""


class Gone(ApiError):
    """410: the resource version is too old; list again."""


class Invalid(ApiError):
    """422: the object breaks a rule of validation."""


class TooManyRequests(ApiError):
    """429: try again after ``retry_after`` seconds."""


class ServerTimeout(ApiError):
    """504, or reason ServerTimeout: the request may or may not have been done."""


_BY_REASON = {"AlreadyExists": AlreadyExists, "Expired": Gone, "Gone": Gone, "ServerTimeout": ServerTimeout}
_BY_CODE: dict[int, type[ApiError]] = {
    400: BadRequest,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    405: MethodNotAllowed,
    409: Conflict,
    410: Gone,
    422: Invalid,
    429: TooManyRequests,
    504: ServerTimeout,
}


def from_status(code: int, status: dict[str, Any]) -> ApiError:
    """The exception for a Status object that came with HTTP status ``code``."""
    kind = _BY_REASON.get(status.get("reason", "")) or _BY_CODE.get(code, ApiError)
    return kind(code, status)


def from_answer(code: int, body: bytes) -> ApiError:
    """The exception for an answer's body; one that is no Status (a proxy's page) becomes the message."""
    try:
        status = json.loads(body)
    except ValueError:
        status = None
    if not isinstance(status, dict) or status.get("kind") != "Status":
        status = {"kind": "Status", "code": code, "message": body[:1024].decode("utf-8", "replace").strip()}
    return from_status(code, status)
