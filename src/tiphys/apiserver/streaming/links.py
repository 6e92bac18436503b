"""URLs in what a proxied server answers: those that lead to it are rewritten to lead through the proxy.

A page under ``/api/v1/namespaces/n/services/s/proxy/`` links to ``/style.css``, which the browser would ask of the API
server itself. Source: apimachinery's util/proxy, whose rules for which URLs are touched are followed exactly.
"""

from __future__ import annotations

import html
import posixpath
import re
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

_URL_ATTRIBUTES = {
    "a": {"href"},
    "applet": {"codebase"},
    "area": {"href"},
    "audio": {"src"},
    "base": {"href"},
    "blockquote": {"cite"},
    "body": {"background"},
    "button": {"formaction"},
    "command": {"icon"},
    "del": {"cite"},
    "embed": {"src"},
    "form": {"action"},
    "frame": {"longdesc", "src"},
    "head": {"profile"},
    "html": {"manifest"},
    "iframe": {"longdesc", "src"},
    "img": {"longdesc", "src", "usemap"},
    "input": {"src", "usemap", "formaction"},
    "ins": {"cite"},
    "link": {"href"},
    "object": {"classid", "codebase", "data", "usemap"},
    "q": {"cite"},
    "script": {"src"},
    "source": {"src"},
    "video": {"poster", "src"},
}

# A comment, the inside of an element whose content is no markup, or a start tag with its attributes.
_MARKUP = re.compile(
    r"""<!--.*?-->
    |(?P<raw><(?P<element>script|style|textarea|title|xmp|iframe|noembed|noframes)\b[^>]*>)(?P<inside>.*?)(?=</(?P=element))
    |<(?P<tag>[a-zA-Z][^\s/>]*)(?P<attributes>(?:[^>"']|"[^"]*"|'[^']*')*)>""",
    re.DOTALL | re.VERBOSE | re.IGNORECASE,
)
_ATTRIBUTE = re.compile(
    r"""(?P<before>\s(?P<name>[^\s"'<>/=]+)\s*=\s*)(?:"(?P<double>[^"]*)"|'(?P<single>[^']*)'|(?P<bare>[^\s"'>]+))"""
)


def joined(prefix: str, path: str) -> str:
    """Two paths as one, without empty and dot segments; a slash at the end is kept."""
    clean = "/" + posixpath.normpath(f"/{prefix}/{path}").lstrip("/")
    return clean + ("/" if path.endswith("/") and clean != "/" else "")


@dataclass(frozen=True, slots=True)
class Rewriter:
    """Rewrites URLs of one answer. ``prepend``: the proxy's path; ``source_host``: the target; ``request_host``: as
    the client calls the API server."""

    prepend: str
    source_host: str
    request_host: str

    def url(self, text: str) -> str:
        """One URL; unchanged where it leads elsewhere or is relative. Raises ValueError where it is no URL."""
        parts = urlsplit(text)
        other = parts.netloc != "" and parts.netloc not in (self.source_host, self.request_host)
        if other or not parts.path.startswith("/"):
            return text
        scheme, host = (parts.scheme, parts.netloc) if parts.netloc == self.request_host else ("", "")
        path = parts.path
        if not path.startswith(self.prepend):
            path = joined(self.prepend, path)
        return urlunsplit((scheme, host, path, parts.query, parts.fragment))

    def page(self, text: str) -> str:
        """The URLs in the tags of an HTML page."""
        return _MARKUP.sub(self._markup, text)

    def _markup(self, match: re.Match[str]) -> str:
        if match["raw"]:
            return _MARKUP_TAG.sub(self._tag, match["raw"]) + match["inside"]
        return self._tag(match) if match["tag"] else match[0]

    def _tag(self, match: re.Match[str]) -> str:
        names = _URL_ATTRIBUTES.get(match["tag"].lower())
        if names is None:
            return match[0]

        def attribute(found: re.Match[str]) -> str:
            if found["name"].lower() not in names:
                return found[0]
            value = next(value for value in (found["double"], found["single"], found["bare"]) if value is not None)
            plain = html.unescape(value)
            try:
                rewritten = self.url(plain)
            except ValueError:
                return found[0]  # what cannot be read is left as it is
            return found[0] if rewritten == plain else f'{found["before"]}"{html.escape(rewritten)}"'

        return f"<{match['tag']}{_ATTRIBUTE.sub(attribute, match['attributes'])}>"


_MARKUP_TAG = re.compile(r"""<(?P<tag>[a-zA-Z][^\s/>]*)(?P<attributes>(?:[^>"']|"[^"]*"|'[^']*')*)>""")
