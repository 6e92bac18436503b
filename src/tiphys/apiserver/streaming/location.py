"""Where a proxied request goes, and which of its headers go with it.

Source: https://kubernetes.io/docs/tasks/access-application-cluster/access-cluster-services/
"""

from __future__ import annotations

from dataclasses import dataclass

from tiphys.wire.http import Headers, Request


@dataclass(frozen=True, slots=True)
class Location:
    """A target: ``path`` is percent-encoded, ``query`` raw. The transport is already connected to ``host``."""

    path: str
    query: str = ""
    scheme: str = "https"
    host: str = ""
    """``address:port``; only to recognize links to the target in its answers."""


def forwarded_headers(request: Request) -> Headers:
    """The client's headers without its credentials for the API server, and with its address in X-Forwarded-For."""
    headers = request.headers.copy()
    for name in tuple(headers):
        if name in ("authorization", "proxy-authorization") or name.startswith("impersonate-"):
            del headers[name]
    if request.peer.address:
        known = headers.get("x-forwarded-for")
        headers["x-forwarded-for"] = f"{known}, {request.peer.address}" if known else request.peer.address
    return headers
