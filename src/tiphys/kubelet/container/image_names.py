"""Names of images: ``[registry/]repository[:tag][@digest]``, checked as registries' clients do. Pure.

Source: the reference grammar of https://github.com/distribution/reference
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from tiphys.api.gotext import quote

_DEFAULT_DOMAIN = "docker.io"
_MAX_NAME = 255
_MAX_TEXT = 4096
_PART = r"[a-z0-9]+(?:(?:__|[._]|-+)[a-z0-9]+)*"
_HOST_PART = r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)"
_DOMAIN = rf"(?:{_HOST_PART}(?:\.{_HOST_PART})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?"
_REFERENCE = re.compile(
    rf"(?P<name>(?:{_DOMAIN}/)?{_PART}(?:/{_PART})*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?"
    r"(?:@(?P<digest>[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}))?"
)
_IDENTIFIER = re.compile(r"[a-f0-9]{64}")
_DIGEST_LENGTHS = {"sha256": 64, "sha384": 96, "sha512": 128}


class ImageNameError(ValueError):
    """The name is not one of an image; the message is upstream's."""


@dataclass(frozen=True, slots=True)
class ImageName:
    """``name`` with its registry; ``tag`` and ``digest`` are empty if they are not given."""

    name: str
    tag: str
    digest: str


def parse_image(image: str) -> ImageName:
    """Raises ``ImageNameError``."""
    try:
        return _parse(image)
    except ImageNameError as error:
        raise ImageNameError(f"couldn't parse image name {quote(image)}: {error}") from None


def _parse(image: str) -> ImageName:
    if _IDENTIFIER.fullmatch(image):
        raise ImageNameError(f"invalid repository name ({image}), cannot specify 64-byte hexadecimal strings")
    domain, rest = _split_domain(image)
    repository = re.split("[@:]", rest, maxsplit=1)[0]
    if repository.lower() != repository:
        raise ImageNameError(f"invalid reference format: repository name ({repository}) must be lowercase")
    text = f"{domain}/{rest}"
    matched = _REFERENCE.fullmatch(text) if len(text) <= _MAX_TEXT else None
    if matched is None:
        raise ImageNameError("invalid reference format")
    if len(repository) > _MAX_NAME:
        raise ImageNameError(f"repository name must not be more than {_MAX_NAME} characters")
    digest = matched["digest"] or ""
    if digest:
        _check_digest(digest)
    return ImageName(matched["name"], matched["tag"] or "", digest)


def _split_domain(image: str) -> tuple[str, str]:
    """The registry and the rest; a first part is a registry if it looks like a host, or cannot be a repository."""
    first, slash, rest = image.partition("/")
    is_domain = slash and ("." in first or ":" in first or first == "localhost" or first.lower() != first)
    domain, remainder = (first, rest) if is_domain else (_DEFAULT_DOMAIN, image)
    if domain == "index.docker.io":
        domain = _DEFAULT_DOMAIN
    if domain == _DEFAULT_DOMAIN and "/" not in remainder:
        remainder = f"library/{remainder}"
    return domain, remainder


def _check_digest(digest: str) -> None:
    algorithm, _, encoded = digest.partition(":")
    if algorithm not in _DIGEST_LENGTHS:
        raise ImageNameError("unsupported digest algorithm")
    if len(encoded) != _DIGEST_LENGTHS[algorithm]:
        raise ImageNameError("invalid checksum digest length")
    if encoded != encoded.lower():
        raise ImageNameError("invalid checksum digest format")


def with_default_tag(image: str) -> str:
    """The name as it is given, with ``latest`` if it has neither tag nor digest. Raises ``ImageNameError``."""
    parsed = parse_image(image)
    return image if parsed.tag or parsed.digest else f"{image}:latest"


def without_tag(image: str) -> str:
    """The name as it is given, without tag and digest. Raises ``ImageNameError``."""
    matched = _REFERENCE.fullmatch(image) if len(image) <= _MAX_TEXT else None
    if matched is None:
        raise ImageNameError("invalid reference format")
    return matched["name"]
