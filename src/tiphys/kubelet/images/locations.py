"""Which images a location of credentials, or a pattern of them, stands for. Pure.

A location is a registry's host with a port and the beginning of a path, without a scheme; parts of the host may have
``*``, ``?`` and ``[…]``. Source: https://kubernetes.io/docs/concepts/containers/images/#config-json
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from tiphys.api.gotext import quote

_ESCAPE = re.compile(r"%(?![0-9a-fA-F]{2})")
_PORT = re.compile(r"(?::[0-9]*)?")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_BAD_HOST = re.compile(r'[ "<>\\^`{|}]')


class LocationError(ValueError):
    """The text is no location; the message is Go's."""


@dataclass(frozen=True, slots=True)
class Location:
    """``host`` has its port; ``path`` begins with a slash, or is empty."""

    host: str
    path: str

    @property
    def parts(self) -> tuple[list[str], str]:
        """The host's parts between the dots, and the port."""
        host, port = split_port(self.host)
        return host.split("."), port


def parse_location(text: str) -> Location:
    """Raises ``LocationError``."""
    url = f"https://{text}"

    def wrong(why: str) -> LocationError:
        return LocationError(f"parse {quote(url)}: {why}")

    if _CONTROL.search(text):
        raise wrong("net/url: invalid control character in URL")
    rest = text.partition("#")[0].partition("?")[0]
    authority, slash, path = rest.partition("/")
    host = authority.rpartition("@")[2]
    for part in (host, path):
        if bad := _ESCAPE.search(part):
            raise wrong(f"invalid URL escape {quote(part[bad.start() : bad.start() + 3])}")
    if "%" in host:
        at = host.index("%")
        raise wrong(f"invalid URL escape {quote(host[at : at + 3])}")
    if bad := _BAD_HOST.search(host):
        raise wrong(f"invalid character {quote(bad[0])} in host name")
    tail = host.rpartition("]")[2] if host.startswith("[") else host[host.rfind(":") :] if ":" in host else ""
    if host.startswith("[") and "]" not in host:
        raise wrong("missing ']' in host")
    if not _PORT.fullmatch(tail):
        raise wrong(f"invalid port {quote(tail)} after host")
    return Location(host, slash + path)


def split_port(host: str) -> tuple[str, str]:
    """The host and its port, if it has exactly one; otherwise all of it is the host."""
    if host.startswith("["):
        name, bracket, port = host[1:].partition("]")
        return (name, port[1:]) if bracket and port.startswith(":") else (host, "")
    name, colon, port = host.partition(":")
    return (name, port) if colon and ":" not in port else (host, "")


def matches(pattern: str, image: str) -> bool:
    """Whether an image's name (without tag or digest) is one of those that the pattern stands for."""
    try:
        want, have = parse_location(pattern), parse_location(image)
        (want_parts, want_port), (parts, port) = want.parts, have.parts
        return (
            want_port == port
            and len(want_parts) == len(parts)
            and have.path.startswith(want.path)
            and all(glob(one, other) for one, other in zip(want_parts, parts, strict=True))
        )
    except LocationError:
        return False


def glob(pattern: str, text: str) -> bool:
    """Whether a text is as a pattern of Go's ``filepath.Match`` says. Raises ``LocationError`` for a wrong pattern.

    It takes no more than the product of both lengths, whatever the pattern is.
    """
    steps = _steps(pattern)
    at = step = 0
    star, resume = -1, 0
    while at < len(text):
        if step < len(steps) and steps[step] is None:
            star, resume = step, at
            step += 1
        elif step < len(steps) and _fits(steps[step], text[at]):
            step, at = step + 1, at + 1
        elif star >= 0 and text[resume] != "/":
            resume += 1
            step, at = star + 1, resume
        else:
            return False
    return all(one is None for one in steps[step:])


_Class = tuple[bool, tuple[tuple[str, str], ...]]
"""Whether it is one of everything else, and the ranges."""
_ANY: _Class = (True, (("/", "/"),))


def _fits(one: _Class | None, char: str) -> bool:
    assert one is not None
    negated, ranges = one
    return any(low <= char <= high for low, high in ranges) != negated


def _steps(pattern: str) -> list[_Class | None]:
    """One class a character; None stands for any number of characters."""
    steps: list[_Class | None] = []
    at = 0
    while at < len(pattern):
        match pattern[at]:
            case "*":
                at += 1
                if not steps or steps[-1] is not None:
                    steps.append(None)
            case "?":
                at += 1
                steps.append(_ANY)
            case "[":
                one, at = _class(pattern, at + 1)
                steps.append(one)
            case _:
                char, at = _char(pattern, at)
                steps.append((False, ((char, char),)))
    return steps


def _class(pattern: str, at: int) -> tuple[_Class, int]:
    negated = pattern[at : at + 1] == "^"
    at += negated
    ranges: list[tuple[str, str]] = []
    while pattern[at : at + 1] != "]" or not ranges:
        if pattern[at : at + 1] in ("-", "]"):
            raise LocationError("syntax error in pattern")
        low, at = _char(pattern, at)
        high = low
        if pattern[at : at + 1] == "-":
            high, at = _char(pattern, at + 1)
        ranges.append((low, high))
    return (negated, tuple(ranges)), at + 1


def _char(pattern: str, at: int) -> tuple[str, int]:
    if pattern[at : at + 1] == "\\":
        at += 1
    if at >= len(pattern):
        raise LocationError("syntax error in pattern")
    return pattern[at], at + 1
