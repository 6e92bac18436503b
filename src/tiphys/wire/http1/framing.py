"""HTTP/1.1 on the wire, as bytes: heads, chunks, header text (RFC 9112). Pure."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

LAST_CHUNK = b"0\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n" for status in HTTPStatus}
# Go's names, where they differ from Python's.
_STATUS_LINES |= {413: "HTTP/1.1 413 Request Entity Too Large\r\n", 422: "HTTP/1.1 422 Unprocessable Entity\r\n"}

_KNOWN_FIELDS = (
    "Accept Accept-Encoding Accept-Language Authorization Cache-Control Connection Content-Encoding Content-Length "
    "Content-Type Date ETag Expect Host If-None-Match Origin Sec-WebSocket-Extensions Sec-WebSocket-Key "
    "Sec-WebSocket-Protocol Sec-WebSocket-Version Transfer-Encoding Upgrade User-Agent Vary X-Forwarded-For "
    "X-Stream-Protocol-Version Impersonate-User Impersonate-Group Kubectl-Command Kubectl-Session Audit-Id Warning "
    "X-Kubernetes-PF-FlowSchema-UID X-Kubernetes-PF-PriorityLevel-UID"
)
_FIELD_NAMES: dict[bytes, str] = {}
for _name in _KNOWN_FIELDS.split():
    _FIELD_NAMES[_name.encode()] = _FIELD_NAMES[_name.lower().encode()] = _name.lower()


def text(data: bytes) -> str:
    """Bytes of a head as text: UTF-8 where they are, else Latin-1, so that every byte sequence has one."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("latin-1")


def field_name(data: bytes) -> str:
    """A field's name in lower case."""
    return _FIELD_NAMES.get(data) or text(data).lower()


def response_head(status: int, headers: Mapping[str, str], rest: str, date: bytes) -> bytes:
    """Status line and header fields with the empty line; ``rest`` is further fields, as lines."""
    line = _STATUS_LINES.get(status) or f"HTTP/1.1 {status} status code {status}\r\n"
    fields = header_lines(headers)
    return f"{line}{fields}{rest}".encode() + (b"\r\n" if "Date" in headers else date + b"\r\n")


def request_head(method: str, target: str, headers: Mapping[str, str], rest: str) -> bytes:
    """Request line and header fields with the empty line. ``target`` and ``method`` are refused if they hold spaces."""
    if any(character in target or character in method for character in " \r\n\t"):
        raise ValueError("a request's target and method hold no white space")
    return f"{method} {target} HTTP/1.1\r\n{header_lines(headers)}{rest}\r\n".encode()


def header_lines(headers: Mapping[str, str]) -> str:
    """Header fields as lines. A value with line breaks is sent as several fields of that name, one per line."""
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    if lines.count("\n") == len(headers) == lines.count("\r"):
        return lines
    return "".join(
        f"{name.splitlines()[0]}: {part}\r\n" for name, value in headers.items() for part in value.splitlines() or [""]
    )


class ChunkFramer:
    """Frames pieces as chunks. One event goes to hundreds of watchers in a row: its frame is made once."""

    __slots__ = ("_data", "_frame")

    def __init__(self) -> None:
        self._data = b""
        self._frame = b""

    def frame(self, data: bytes) -> bytes:
        if data is not self._data:
            self._data = data
            self._frame = b"%x\r\n%b\r\n" % (len(data), data)
        return self._frame

    def forget(self) -> None:
        """Let go of the last piece."""
        self._data = self._frame = b""
