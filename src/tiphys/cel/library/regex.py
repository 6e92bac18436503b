"""Regular expressions: RE2's, which take time linear in the text, whatever the pattern.

Source: https://kubernetes.io/docs/reference/using-api/cel/#kubernetes-cel-libraries
"""

from __future__ import annotations

from typing import Any

from tiphys.api.meta import regexp
from tiphys.cel.checking.declarations import Library, member, overload
from tiphys.cel.values import CelError


def _matches(text: str, pattern: str) -> bool:
    try:
        return regexp.matches(pattern, text)
    except regexp.RegexpError as wrong:
        raise CelError(str(wrong)) from None


def _compile(pattern: str) -> Any:
    try:
        return regexp.compiled(pattern)
    except regexp.RegexpError as wrong:
        raise CelError(f"Illegal regex: {wrong}") from None


def _find(text: str, pattern: str) -> str:
    match = _compile(pattern).search(text)
    return "" if match is None else str(match.group())


def _find_all(text: str, pattern: str, limit: int = -1) -> list[str]:
    matches = list[str]()
    for match in _compile(pattern).finditer(text):
        if 0 <= limit <= len(matches):
            break
        matches.append(match.group())
    return matches


STANDARD = Library(
    [
        overload("matches", "matches", "string, string -> bool", _matches),
        member("matches_string", "matches", "string, string -> bool", _matches),
    ]
)
LIBRARY = Library(
    [
        member("string_find_string", "find", "string, string -> string", _find),
        member("string_find_all_string", "findAll", "string, string -> list(string)", _find_all),
        member("string_find_all_string_int", "findAll", "string, string, int -> list(string)", _find_all),
    ]
)
