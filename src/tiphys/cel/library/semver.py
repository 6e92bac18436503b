"""Semantic versions (https://semver.org), strict or with what is missing put in."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, ClassVar

from tiphys.api.gotext import quote
from tiphys.cel.checking import declarations
from tiphys.cel.checking.declarations import Library, member, overload
from tiphys.cel.types import Type
from tiphys.cel.values import MAX_UINT, NO_OVERLOAD, CelError

_WORD = re.compile(r"[0-9A-Za-z-]+\Z")


class Semver:
    cel_type: ClassVar[Type] = declarations.SEMVER

    __slots__ = ("before", "numbers")

    def __init__(self, text: str) -> None:
        """Raises ValueError."""
        if not text:
            raise ValueError("Version string empty")
        parts = text.split(".", 2)
        if len(parts) != 3:
            raise ValueError("No Major.Minor.Patch elements found")
        parts[2], _, build = parts[2].partition("+")
        parts[2], dash, before = parts[2].partition("-")
        self.numbers = tuple(_number(part, what) for part, what in zip(parts, ("Major", "Minor", "Patch"), strict=True))
        self.before = tuple(_before(word) for word in before.split(".")) if dash else ()
        """The parts of the pre-release."""
        for word in build.split(".") if "+" in text else ():
            if not _WORD.match(word):
                raise ValueError(
                    f"Invalid character(s) found in build meta data {quote(word)}"
                    if word
                    else "Build meta data is empty"
                )

    def equals(self, other: Any) -> bool:
        if not isinstance(other, Semver):
            raise CelError(NO_OVERLOAD)
        return compare(self, other) == 0


def _number(text: str, what: str) -> int:
    if not text.isascii() or not text.isdigit():
        if not text:
            raise ValueError('strconv.ParseUint: parsing "": invalid syntax')
        raise ValueError(f"Invalid character(s) found in {what.lower()} number {quote(text)}")
    if len(text) > 1 and text[0] == "0":
        raise ValueError(f"{what} number must not contain leading zeroes {quote(text)}")
    if int(text) > MAX_UINT:
        raise ValueError(f"strconv.ParseUint: parsing {quote(text)}: value out of range")
    return int(text)


def _before(word: str) -> int | str:
    if not word:
        raise ValueError("Prerelease is empty")
    if word.isascii() and word.isdigit():
        if len(word) > 1 and word[0] == "0":
            raise ValueError(f"Numeric PreRelease version must not contain leading zeroes {quote(word)}")
        return int(word)
    if not _WORD.match(word):
        raise ValueError(f"Invalid character(s) found in prerelease {quote(word)}")
    return word


def _order(version: Semver) -> Iterator[Any]:
    """What decides: a release comes after its pre-releases, numbers before words."""
    yield version.numbers
    yield not version.before
    yield tuple((isinstance(word, str), word) for word in version.before)


def compare(a: Semver, b: Semver) -> int:
    left, right = tuple(_order(a)), tuple(_order(b))
    return int(left > right) - int(left < right)


def _normalize(text: str) -> str:
    parts = text.removeprefix("v").split(".", 2)
    for i, part in enumerate(parts):
        if len(part) > 1:
            short = part.lstrip("0")
            parts[i] = short if short[:1].isdigit() and short[:1].isascii() else "0" + short
    if len(parts) < 3:
        if any(sign in parts[-1] for sign in "+-"):
            raise ValueError("short version cannot contain PreRelease/Build meta data")
        parts += ["0"] * (3 - len(parts))
    return ".".join(parts)


def _parse(text: str, *, normalize: bool) -> Semver:
    return Semver(_normalize(text) if normalize else text)


def _to_semver(text: str, *, normalize: bool = False) -> Semver:
    try:
        return _parse(text, normalize=normalize)
    except ValueError as wrong:
        raise CelError(str(wrong)) from None


def _is_semver(text: str, *, normalize: bool = False) -> bool:
    try:
        _parse(text, normalize=normalize)
    except ValueError:
        return False
    return True


LIBRARY = Library(
    [
        overload("string_to_semver", "semver", "string -> semver", _to_semver),
        overload("string_bool_to_semver", "semver", "string, bool -> semver", lambda a, b: _to_semver(a, normalize=b)),
        overload("is_semver_string", "isSemver", "string -> bool", _is_semver),
        overload("is_semver_string_bool", "isSemver", "string, bool -> bool", lambda a, b: _is_semver(a, normalize=b)),
        member("semver_is_greater_than", "isGreaterThan", "semver, semver -> bool", lambda a, b: compare(a, b) > 0),
        member("semver_is_less_than", "isLessThan", "semver, semver -> bool", lambda a, b: compare(a, b) < 0),
        member("semver_compare_to", "compareTo", "semver, semver -> int", compare),
        member("semver_major", "major", "semver -> int", lambda version: version.numbers[0]),
        member("semver_minor", "minor", "semver -> int", lambda version: version.numbers[1]),
        member("semver_patch", "patch", "semver -> int", lambda version: version.numbers[2]),
    ]
)
