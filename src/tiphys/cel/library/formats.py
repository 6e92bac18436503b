"""Named formats of the API: names, label values, URIs, dates, and whether a text has the form.

Source: https://kubernetes.io/docs/reference/using-api/cel/#kubernetes-cel-libraries
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from datetime import date
from typing import Any, ClassVar

from tiphys.api.meta import names
from tiphys.cel.checking import declarations
from tiphys.cel.checking.declarations import Library, member, overload
from tiphys.cel.library import times, urls
from tiphys.cel.types import Type
from tiphys.cel.values import NO_OVERLOAD, NONE, CelError, Optional

Check = Callable[[str], list[str]]
_UUID = re.compile(r"[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}\Z", re.IGNORECASE)


class Format:
    cel_type: ClassVar[Type] = declarations.FORMAT

    __slots__ = ("check", "name", "pattern_size")

    def __init__(self, name: str, check: Check, pattern_size: int) -> None:
        self.name, self.check = name, check
        self.pattern_size = pattern_size
        """The length of a pattern that would check it, for the cost."""

    def equals(self, other: Any) -> bool:
        if not isinstance(other, Format):
            raise CelError(NO_OVERLOAD)
        return self.name == other.name


def _prefix(check: Check) -> Check:
    return lambda text: check(names.for_prefix(text))


def _uri(text: str) -> list[str]:
    try:
        urls.URL(text)
    except ValueError as wrong:
        return [str(wrong)]
    return []


def _test(works: Callable[[str], bool], otherwise: str) -> Check:
    return lambda text: [] if works(text) else [otherwise]


def _is_base64(text: str) -> bool:
    try:
        base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return False
    return True


def _is_date(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return len(text) == 10


def _is_datetime(text: str) -> bool:
    try:
        times.to_timestamp(text)
    except CelError:
        return False
    return True


FORMATS: dict[str, Format] = {
    "dns1123Label": Format("DNS1123Label", names.dns1123_label, 30),
    "dns1123Subdomain": Format("DNS1123Subdomain", names.dns1123_subdomain, 60),
    "dns1035Label": Format("DNS1035Label", names.dns1035_label, 30),
    "qualifiedName": Format("QualifiedName", names.qualified_name, 60),
    "dns1123LabelPrefix": Format("DNS1123LabelPrefix", _prefix(names.dns1123_label), 30),
    "dns1123SubdomainPrefix": Format("DNS1123SubdomainPrefix", _prefix(names.dns1123_subdomain), 60),
    "dns1035LabelPrefix": Format("DNS1035LabelPrefix", _prefix(names.dns1035_label), 30),
    "labelValue": Format("LabelValue", names.label_value, 40),
    "uri": Format("URI", _uri, 1000),
    "uuid": Format("uuid", _test(lambda text: _UUID.match(text) is not None, "does not match the UUID format"), 95),
    "byte": Format("byte", _test(_is_base64, "invalid base64"), 84),
    "date": Format("date", _test(_is_date, "invalid date"), 97),
    "datetime": Format("datetime", _test(_is_datetime, "invalid datetime"), 97),
}


def _named(name: str) -> Optional:
    return Optional(FORMATS[name]) if name in FORMATS else NONE


def _validate(format: Format, text: str) -> Optional:
    problems = format.check(text)
    return Optional(problems) if problems else NONE


LIBRARY = Library(
    [
        member("format-validate", "validate", "format, string -> optional(list(string))", _validate),
        overload("format-named", "format.named", "string -> optional(format)", _named),
        *(
            overload(f"format.{name}", f"format.{name}", "-> format", lambda format=format: format)
            for name, format in FORMATS.items()
        ),
    ]
)
