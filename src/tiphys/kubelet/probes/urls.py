"""The URL that an HTTP probe or hook asks, and where a redirect leads from it. Pure.

A path may hold a query and escapes; one that is no valid URL is taken as it is written. Source: RFC 3986, and
https://kubernetes.io/docs/tasks/configure-pod-container/configure-liveness-readiness-startup-probes/#http-probes
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote, unquote_to_bytes, urljoin, urlsplit

REDIRECTS = frozenset((301, 302, 303, 307, 308))
_PORTS = {"http": 80, "https": 443}
_VALID_PATH = re.compile(r"[A-Za-z0-9\-_.~!$&'()*+,;=:@/\[\]%]*")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_ESCAPED_QUERY = "!$&'()*+,;=:@/?%[]-_.~\"<>\\^`{|}"


class UrlError(ValueError):
    """The URL cannot be asked; the message says why."""


@dataclass(frozen=True, slots=True)
class Url:
    """``target`` is what a request line asks for: path and query, escaped."""

    scheme: str
    host: str
    port: int
    target: str

    @property
    def authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.target}"


def probe_url(scheme: str, host: str, port: int, path: str) -> Url:
    """The URL of an action. A scheme or host in its path does not count, nor does a fragment."""
    if _BAD_ESCAPE.search(path.partition("?")[0]) or _CONTROL.search(path):
        return Url(scheme, host, port, _absolute(quote(path, safe="/$&+,:;=@-_.~")))
    try:
        parts = urlsplit(path)
    except ValueError:
        return Url(scheme, host, port, _absolute(quote(path, safe="/$&+,:;=@-_.~")))
    return Url(scheme, host, port, _target(parts.path, parts.query))


def redirected(url: Url, location: str) -> Url:
    """Where ``location`` leads, resolved against the URL that gave it. Raises ``UrlError``."""
    try:
        parts = urlsplit(urljoin(str(url), location))
        port = parts.port
    except ValueError as error:
        raise UrlError(f'failed to parse Location header "{location}": {error}') from error
    if parts.scheme not in _PORTS:
        raise UrlError(f'unsupported protocol scheme "{parts.scheme}"')
    if not parts.hostname:
        raise UrlError("no Host in request URL")
    return Url(parts.scheme, parts.hostname, port or _PORTS[parts.scheme], _target(parts.path, parts.query))


def _target(path: str, query: str) -> str:
    if not _VALID_PATH.fullmatch(path):
        path = quote(unquote_to_bytes(path), safe="/$&+,:;=@-_.~")
    return _absolute(path) + (f"?{quote(query, safe=_ESCAPED_QUERY)}" if query else "")


def _absolute(path: str) -> str:
    return path if path.startswith("/") else f"/{path}"
