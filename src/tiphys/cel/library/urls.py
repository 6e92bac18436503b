"""URLs, absolute or a path on a server, as Go reads them.

Source: https://kubernetes.io/docs/reference/using-api/cel/#kubernetes-cel-libraries
"""

from __future__ import annotations

import re
from typing import Any, ClassVar
from urllib.parse import quote as percent
from urllib.parse import unquote_plus

from tiphys.api.gotext import quote
from tiphys.cel.checking import declarations
from tiphys.cel.checking.declarations import Library, member, overload
from tiphys.cel.types import Type
from tiphys.cel.values import NO_OVERLOAD, CelError

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*):")
_ESCAPE = re.compile(r"%(?![0-9a-fA-F]{2}).{0,2}", re.S)
_PORT = re.compile(r":[0-9]*\Z")
_BAD_HOST = re.compile(r"""[ "<>\\^`{|}\x00-\x1f\x7f]""")
_PATH_SAFE = "/$&+,:;=@-._~!*'()"


class URL:
    cel_type: ClassVar[Type] = declarations.URL

    __slots__ = ("host", "path", "query", "scheme", "text")

    def __init__(self, text: str) -> None:
        """Raises ``ValueError`` with Go's message."""
        self.text = text
        problem, parts = _parse(text)
        if problem:
            raise ValueError(f"parse {quote(text)}: {problem}")
        self.scheme, self.host, self.path, self.query = parts

    def equals(self, other: Any) -> bool:
        if not isinstance(other, URL):
            raise CelError(NO_OVERLOAD)
        return self.text == other.text

    @property
    def hostname(self) -> str:
        host = _PORT.sub("", self.host)
        return host[1:-1] if host.startswith("[") and host.endswith("]") else host

    @property
    def port(self) -> str:
        match = _PORT.search(self.host)
        return match.group()[1:] if match else ""


_Parts = tuple[str, str, str, str]


def _parse(text: str) -> tuple[str, _Parts]:
    """What is wrong, and scheme, host, path and query."""
    nothing = ("", "", "", "")
    if any(ord(c) < 0x20 or c == "\x7f" for c in text):
        return "net/url: invalid control character in URL", nothing
    if not text:
        return "empty url", nothing
    if text == "*":
        return "", ("", "", "*", "")
    scheme, rest = "", text.partition("#")[0]
    if scheme_match := _SCHEME.match(rest):
        scheme, rest = scheme_match.group(1).lower(), rest[scheme_match.end() :]
    elif text.startswith(":"):
        return "missing protocol scheme", nothing
    elif ":" in text.split("/", 1)[0] and not text.startswith("/"):
        return "first path segment in URL cannot contain colon", nothing
    rest, _, query = rest.partition("?")
    if not rest.startswith("/"):
        # What has a scheme and no slash is opaque, which is allowed.
        return ("", (scheme, "", "", query)) if scheme else ("invalid URI for request", nothing)
    host = ""
    if rest.startswith("//") and (scheme or not rest.startswith("///")):
        authority, slash, path = rest[2:].partition("/")
        rest = slash + path
        host = authority.rpartition("@")[2]
        if problem := _host_problem(host):
            return problem, nothing
    if wrong := _ESCAPE.search(rest):
        return f"invalid URL escape {quote(wrong.group())}", nothing
    return "", (scheme, host, rest, query)


def _host_problem(host: str) -> str:
    if wrong := _BAD_HOST.search(host):
        return f"invalid character {quote(wrong.group())} in host name"
    if wrong := _ESCAPE.search(host):
        return f"invalid URL escape {quote(wrong.group())}"
    if host.startswith("["):
        end = host.rfind("]")
        if end < 0:
            return "missing ']' in host"
        port = host[end + 1 :]
    else:
        _, colon, tail = host.partition(":")
        port = colon + tail
        if ":" in tail:
            port = ":" + tail.rpartition(":")[2]
    if port and not _PORT.match(port):
        return f"invalid port {quote(port)} after host"
    return ""


def _to_url(text: str) -> URL:
    try:
        return URL(text)
    except ValueError as wrong:
        raise CelError(f"URL parse error during conversion from string: {wrong}") from None


def is_url(text: str) -> bool:
    try:
        URL(text)
    except ValueError:
        return False
    return True


def _escaped_path(url: URL) -> str:
    return percent(url.path, safe=_PATH_SAFE + "%[]")


def _query(url: URL) -> dict[str, list[str]]:
    values: dict[str, list[str]] = {}
    for part in url.query.split("&"):
        if not part or ";" in part:
            continue
        key, _, value = part.partition("=")
        if _ESCAPE.search(key) or _ESCAPE.search(value):
            continue
        values.setdefault(unquote_plus(key), []).append(unquote_plus(value))
    return values


LIBRARY = Library(
    [
        overload("string_to_url", "url", "string -> url", _to_url),
        member("url_get_scheme", "getScheme", "url -> string", lambda url: url.scheme),
        member("url_get_host", "getHost", "url -> string", lambda url: url.host),
        member("url_get_hostname", "getHostname", "url -> string", lambda url: url.hostname),
        member("url_get_port", "getPort", "url -> string", lambda url: url.port),
        member("url_get_escaped_path", "getEscapedPath", "url -> string", _escaped_path),
        member("url_get_query", "getQuery", "url -> map(string, list(string))", _query),
        overload("is_url_string", "isURL", "string -> bool", is_url),
    ]
)
