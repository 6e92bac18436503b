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

# Possessive throughout, and a page is left alone from its first broken tag on: hostile pages cost linear time.
_ATTRIBUTES = re.compile(r"""(?:[^>"']++|"[^"]*+"|'[^']*+')*+>""")
_ATTRIBUTE = re.compile(
    r"""(?P<before>\s(?P<name>[^\s"'<>/=]++)\s*+=\s*+)(?:"(?P<double>[^"]*+)"|'(?P<single>[^']*+)'|(?P<bare>[^\s"'>]++))"""
)
_TAG_NAME = re.compile(r"[a-zA-Z][^\s/>]*+")
_TEXT_ELEMENTS = {
    name: re.compile(f"</{name}", re.IGNORECASE)
    for name in ("script", "style", "textarea", "title", "xmp", "iframe", "noembed", "noframes")
}
"""Elements whose inside is no markup, with their ends."""


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
        """One URL; unchanged if it leads elsewhere or is relative. Raises ValueError if it is no URL."""
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
        done: list[str] = []
        copied = at = 0
        while (at := text.find("<", at)) >= 0:
            if text.startswith("<!--", at):
                at = text.find("-->", at)
            elif (name := _TAG_NAME.match(text, at + 1)) is None:
                at += 1
                continue
            elif (rest := _ATTRIBUTES.match(text, name.end())) is None:
                break
            else:
                element = name[0].lower()
                if element in _URL_ATTRIBUTES:
                    done += (text[copied : name.end()], self._attributes(rest[0], _URL_ATTRIBUTES[element]))
                    copied = rest.end()
                at = rest.end()
                if element in _TEXT_ELEMENTS:
                    end = _TEXT_ELEMENTS[element].search(text, at)
                    at = end.start() + 1 if end else -1
            if at < 0:
                break
        done.append(text[copied:])
        return "".join(done)

    def _attributes(self, text: str, names: set[str]) -> str:
        def attribute(match: re.Match[str]) -> str:
            if match["name"].lower() not in names:
                return match[0]
            value = next(value for value in (match["double"], match["single"], match["bare"]) if value is not None)
            plain = html.unescape(value)
            try:
                rewritten = self.url(plain)
            except ValueError:
                return match[0]  # what cannot be read is left as it is
            return match[0] if rewritten == plain else f'{match["before"]}"{html.escape(rewritten)}"'

        return _ATTRIBUTE.sub(attribute, text)
