"""Text: positions, parts, case of ASCII letters, replacing, splitting and joining, formatting.

Source: https://pkg.go.dev/github.com/google/cel-go/ext#Strings
"""

from __future__ import annotations

from tiphys.cel import limits
from tiphys.cel.checking.declarations import Library, member, overload
from tiphys.cel.library import formatting
from tiphys.cel.values import CelError, shown

_LOWER = {c: c + 32 for c in range(ord("A"), ord("Z") + 1)}
_UPPER = {c + 32: c for c in range(ord("A"), ord("Z") + 1)}
_SPACE = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))
_QUOTED = str.maketrans(
    {
        "\a": "\\a",
        "\b": "\\b",
        "\f": "\\f",
        "\n": "\\n",
        "\r": "\\r",
        "\t": "\\t",
        "\v": "\\v",
        "\\": "\\\\",
        '"': '\\"',
    }
)


def _out_of_range(index: int) -> CelError:
    return CelError(f"index out of range: {index}")


def _char_at(text: str, index: int) -> str:
    if not 0 <= index <= len(text):
        raise _out_of_range(index)
    return text[index : index + 1]


def _index_of(text: str, part: str, start: int = 0) -> int:
    if not part:
        return start
    if start < 0:
        raise _out_of_range(start)
    return text.find(part, start)


def _last_index_of(text: str, part: str, start: int | None = None) -> int:
    if start is None:
        return len(text) if not part else text.rfind(part)
    if not part:
        return start
    if start < 0:
        raise _out_of_range(start)
    return -1 if start >= len(text) else text.rfind(part, 0, start + len(part))


def _replace(text: str, old: str, new: str, limit: int = -1) -> str:
    count = text.count(old)
    limits.make_text(len(text) + (count if limit < 0 else min(count, limit)) * len(new))
    return text.replace(old, new, max(limit, -1))


def _split(text: str, separator: str, limit: int = -1) -> list[str]:
    if limit == 0:
        return []
    limits.make_items(text.count(separator))
    if not separator:
        parts = list(text)
        if 0 < limit < len(parts):
            parts[limit - 1 :] = ["".join(parts[limit - 1 :])]
        return parts
    return text.split(separator, limit - 1 if limit > 0 else -1)


def _substring(text: str, start: int, end: int | None = None) -> str:
    if end is not None and start > end:
        raise CelError(f"invalid substring range. start: {start}, end: {end}")
    for index in (start, end):
        if index is not None and not 0 <= index <= len(text):
            raise _out_of_range(index)
    return text[start:end]


def _join(items: list[str], separator: str = "") -> str:
    for item in items:
        if not isinstance(item, str):
            raise CelError(f"join: invalid input: {shown(item)}")
    limits.make_text(sum(map(len, items)) + len(separator) * len(items))
    return separator.join(items)


LIBRARY = Library(
    [
        member("string_char_at_int", "charAt", "string, int -> string", _char_at),
        member("string_index_of_string", "indexOf", "string, string -> int", _index_of),
        member("string_index_of_string_int", "indexOf", "string, string, int -> int", _index_of),
        member("string_last_index_of_string", "lastIndexOf", "string, string -> int", _last_index_of),
        member("string_last_index_of_string_int", "lastIndexOf", "string, string, int -> int", _last_index_of),
        member("string_lower_ascii", "lowerAscii", "string -> string", lambda text: text.translate(_LOWER)),
        member("string_replace_string_string", "replace", "string, string, string -> string", _replace),
        member("string_replace_string_string_int", "replace", "string, string, string, int -> string", _replace),
        member("string_split_string", "split", "string, string -> list(string)", _split),
        member("string_split_string_int", "split", "string, string, int -> list(string)", _split),
        member("string_substring_int", "substring", "string, int -> string", _substring),
        member("string_substring_int_int", "substring", "string, int, int -> string", _substring),
        member("string_trim", "trim", "string -> string", lambda text: text.strip(_SPACE)),
        member("string_upper_ascii", "upperAscii", "string -> string", lambda text: text.translate(_UPPER)),
        member("string_format", "format", "string, list(dyn) -> string", formatting.format),
        overload("strings_quote", "strings.quote", "string -> string", lambda text: f'"{text.translate(_QUOTED)}"'),
        member("list_join", "join", "list(string) -> string", _join),
        member("list_join_string", "join", "list(string), string -> string", _join),
    ]
)
