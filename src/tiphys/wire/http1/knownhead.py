"""Requests that repeat the head of the one before them on their connection, but for the target. Pure.

A client sends the same fields with each of its reads. Once the parser has accepted a request without a body, the bytes
of its fields are kept, and what consists of a plain request line and exactly these bytes needs no parser: what they
mean is known. Anything else, such as an unusual character in the target, goes the parser's way. Source: RFC 9112
"""

from __future__ import annotations

import re
from typing import NamedTuple

from tiphys.wire.http import Headers, Request

_MAX_KEPT = 4096
"""Bytes: what one connection may make the server remember."""
_LINE = re.compile(rb"GET (/[A-Za-z0-9._~/%:,+@-]*)(?:\?([A-Za-z0-9._~/%:,+@=&!-]*))? HTTP/1\.1").fullmatch
_UNKNOWN_TO_REPEAT = ("content-length", "transfer-encoding", "expect", "upgrade")
"""What these fields say is the parser's business."""


class KnownHead(NamedTuple):
    fields: bytes
    """From the end of the request line to the end of the head."""
    headers: Headers

    def repeated(self, data: bytes) -> tuple[str, str, Headers] | None:
        """Path, query and fields of the request that ``data`` is, if it is one with this head, and nothing else."""
        if not data.endswith(self.fields):
            return None
        line = _LINE(data, 0, len(data) - len(self.fields))
        if line is None:
            return None
        path, query = line.groups(b"")
        return path.decode(), query.decode(), Headers(self.headers)


def known_head(data: bytes, request: Request) -> KnownHead | None:
    """What can be known again of a request that the parser has read from ``data``; None if ``data`` is more than that
    request, or the request more than a head."""
    if not data.startswith(b"GET "):
        return None
    start = data.find(b"\r\n")
    if _LINE(data, 0, start) is None or data.find(b"\r\n\r\n") != len(data) - 4 or len(data) - start > _MAX_KEPT:
        return None
    headers = request.headers
    if request.body or headers.repeats or any(name in headers for name in _UNKNOWN_TO_REPEAT):
        return None
    return KnownHead(data[start:], Headers(headers))
