"""Environment files in volumes: lines of ``NAME='value'``, a small part of the shell's syntax. Pure.

Source: KEP-3721.
"""

from __future__ import annotations


class EnvFileError(ValueError):
    """The file is not in the format."""


def find_variable(text: str, wanted: str) -> str:
    """The value of ``wanted``; empty if the file has no such name. Raises ``EnvFileError``.

    Values stand in single quotes and may go over several lines; a blank after ``=`` makes the value empty.
    """
    lines = iter(enumerate(text.splitlines(), 1))
    for number, line in lines:
        line = line.lstrip(" \t")
        if not line or line.startswith("#"):
            continue
        name, equals, rest = line.partition("=")
        if not equals or not name or name != name.rstrip(" \t"):
            raise EnvFileError(f"invalid environment variable format at line {number}")
        if rest.startswith((" ", "\t")) or not rest:
            value = ""
            if not rest:
                raise EnvFileError(f"line {number}: value must be enclosed in single quotes")
        elif rest.startswith("'"):
            value = _quoted(rest[1:], number, lines)
        else:
            raise EnvFileError(f"line {number}: value must be enclosed in single quotes")
        if name == wanted:
            return value
    return ""


def _quoted(rest: str, number: int, lines: object) -> str:
    parts: list[str] = []
    while "'" not in rest:
        parts.append(rest)
        following = next(lines, None)  # type: ignore[call-overload]
        if following is None:
            raise EnvFileError(f"line {number}: unclosed single quote")
        rest = following[1]
    last, _, after = rest.partition("'")
    after = after.lstrip(" \t")
    if after and not after.startswith("#"):
        raise EnvFileError(f"line {number}: unexpected content after closing quote")
    return "\n".join([*parts, last])
