"""Answers of the kubelet's API: plain text for errors, JSON for objects, as upstream gives them."""

from __future__ import annotations

from typing import Any

import orjson

from tiphys.wire.http import Response


def text(status: int, message: str) -> Response:
    body = message if message.endswith("\n") or not message else f"{message}\n"
    headers = {"Content-Type": "text/plain; charset=utf-8", "X-Content-Type-Options": "nosniff"}
    return Response(status, headers, body.encode())


def plain(status: int, message: str) -> Response:
    """A message without a newline, as go-restful writes errors."""
    return Response(status, {"Content-Type": "text/plain; charset=utf-8"}, message.encode())


def json(value: Any) -> Response:
    return Response(200, {"Content-Type": "application/json"}, orjson.dumps(value))
