"""What a browser may do with the dashboard's answers, and which requests count as the page's own.

Sources: https://www.w3.org/TR/CSP3/ and https://www.w3.org/TR/fetch-metadata/
"""

from __future__ import annotations

from collections.abc import Iterator

from tiphys.wire.http import Request

KEY_HEADER = "x-tiphys-key"
KEY_PROTOCOL = "tiphys.key."
"""Before the session's key among a WebSocket's subprotocols: a browser can set no other header there."""
LOCAL_NAMES = frozenset(("127.0.0.1", "localhost", "[::1]"))

_COMMON = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_NOTHING = "default-src 'none'; frame-ancestors 'none'; sandbox"


def page_headers(nonce: str) -> dict[str, str]:
    """Of the page itself: code and data from this server alone, never in a frame. Style elements carry the nonce."""
    policy = (
        "default-src 'none'; script-src 'self'; connect-src 'self'; img-src 'self' data:; font-src 'self'; "
        f"style-src 'self' 'nonce-{nonce}'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    )
    return {**_COMMON, "Content-Security-Policy": policy, "X-Frame-Options": "DENY", "Cache-Control": "no-store"}


def asset_headers(tag: str) -> dict[str, str]:
    return {**_COMMON, "Content-Security-Policy": _NOTHING, "ETag": tag, "Cache-Control": "no-cache"}


def data_headers() -> dict[str, str]:
    """Of the API's answers. Whatever a pod behind a proxy says, it is no page with this server's origin."""
    return {**_COMMON, "Content-Security-Policy": _NOTHING, "X-Frame-Options": "DENY", "Cache-Control": "no-store"}


def is_own_host(request: Request, names: frozenset[str]) -> bool:
    """Whether the request names this server as one of ``names``, without the port; any if they are empty.

    A site whose name somebody has pointed at 127.0.0.1 does not.
    """
    host = request.headers.get("host", "")
    return not names or host.lower().rpartition(":")[0] in names or host.lower() in names


def is_of_page(request: Request, *, secure: bool) -> bool:
    """Whether a request comes from the page itself and no other site."""
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return False
    origin = request.headers.get("origin")
    return origin is None or origin == f"{'https' if secure else 'http'}://{request.headers.get('host', '')}"


def session_key(request: Request) -> str:
    """The session's key that a request carries, empty without one."""
    if key := request.headers.get(KEY_HEADER):
        return key
    for part in request.headers.get("sec-websocket-protocol", "").split(","):
        if part.strip().startswith(KEY_PROTOCOL):
            return part.strip().removeprefix(KEY_PROTOCOL)
    return ""


def cookies_of(request: Request, name: str) -> Iterator[str]:
    """The values of the cookies called ``name``."""
    for part in request.headers.get("cookie", "").split(";"):
        key, _, value = part.strip().partition("=")
        if key == name:
            yield value
