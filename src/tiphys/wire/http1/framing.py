"""HTTP/1.1 on the wire, as bytes: heads, chunks, header text (RFC 9112). Pure."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

LAST_CHUNK = b"0\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n" for status in HTTPStatus}
# Go's names, if they differ from Python's.
_STATUS_LINES |= {413: "HTTP/1.1 413 Request Entity Too Large\r\n", 422: "HTTP/1.1 422 Unprocessable Entity\r\n"}


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
