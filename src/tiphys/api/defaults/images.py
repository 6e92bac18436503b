"""Image references, as far as defaulting needs them: is the tag ``latest``?

Source: the grammar of github.com/distribution/reference (``[domain/]path[:tag][@digest]``).
"""

from __future__ import annotations

import re
from functools import cache

from tiphys.runtime.remembering import remembered

_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[(?:[a-fA-F0-9:]+)\])(?::[0-9]+)?"
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_DIGEST = r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}"
_REFERENCE = rf"({_DOMAIN})/({_PART}(?:/{_PART})*)(?::([\w][\w.-]{{0,127}}))?(?:@({_DIGEST}))?"
_IDENTIFIER = re.compile(r"[a-f0-9]{64}")
_DIGEST_SIZES = {"sha256": 64, "sha384": 96, "sha512": 128}
_MAX_NAME = 255


@cache
def _reference() -> re.Pattern[str]:
    """Compiled when the first image is read: this costs milliseconds, and a server that starts sees none."""
    return re.compile(_REFERENCE, re.ASCII)


@remembered(4096, longest=256)
def image_tag(image: str) -> str | None:
    """The tag; ``latest`` if neither tag nor digest is given, ``""`` for a bare digest, None for no reference."""
    if _IDENTIFIER.fullmatch(image):
        return None
    head, slash, rest = image.partition("/")
    if not slash or not (set(head) & set(".:") or head == "localhost" or head.lower() != head):
        domain, rest = "docker.io", image
    else:
        domain = "docker.io" if head == "index.docker.io" else head
    if domain == "docker.io" and "/" not in rest:
        rest = "library/" + rest
    match = _reference().fullmatch(f"{domain}/{rest}")
    if match is None or len(match[1]) + 1 + len(match[2]) > _MAX_NAME:
        return None
    tag, digest = match[3], match[4]
    if digest:
        algorithm, _, value = digest.partition(":")
        if _DIGEST_SIZES.get(algorithm) != len(value) or value.lower() != value:
            return None
        return tag or ""
    return tag or "latest"


def pull_policy(image: str) -> str:
    return "Always" if image_tag(image) == "latest" else "IfNotPresent"
