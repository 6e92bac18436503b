"""The answer for paths that nobody knows: a line of text, where other failures are a Status.

Source: https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-uris
"""

from __future__ import annotations

from tiphys.wire.http import Response

TEXT = "text/plain; charset=utf-8"


def not_found() -> Response:
    return Response(404, {"Content-Type": TEXT, "X-Content-Type-Options": "nosniff"}, b"404 page not found\n")
