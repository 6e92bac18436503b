"""Formats of strings in schemas: the ones that are checked, and how.

Any other format says something to readers only, and is reported in a warning when a definition is written.
Source: https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#validation
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date
from email.utils import parseaddr
from ipaddress import ip_network
from urllib.parse import urlsplit

from tiphys.api.meta.addresses import parse_sloppy
from tiphys.api.object import Object
from tiphys.runtime import durations

_NUMBER_FORMATS = {"integer": ("int32", "int64"), "number": ("float", "double")}

_HEX8 = "[0-9a-f]{8}-?[0-9a-f]{4}-?"
_UUID = f"{_HEX8}[0-9a-f]{{4}}-?[0-9a-f]{{4}}-?[0-9a-f]{{12}}"
_UUID3 = f"{_HEX8}3[0-9a-f]{{3}}-?[0-9a-f]{{4}}-?[0-9a-f]{{12}}"
_NAME = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_CARD = (
    "(?:4[0-9]{12}(?:[0-9]{3})?|5[1-5][0-9]{14}|6(?:011|5[0-9][0-9])[0-9]{12}|3[47][0-9]{13}|"
    r"3(?:0[0-5]|[68][0-9])[0-9]{11}|(?:2131|1800|35[0-9]{3})[0-9]{11})"
)
_SHADE = "(0|[1-9][0-9]?|1[0-9][0-9]?|2[0-4][0-9]|25[0-5])"
_RGB = rf"rgb\(\s*{_SHADE}\s*,\s*{_SHADE}\s*,\s*{_SHADE}\s*\)"
_BASE64 = "(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=|[A-Za-z0-9+/]{4})"
_LETTER = r"a-zA-Z0-9\p{S}\p{L}"
_HOST = (
    rf"^([{_LETTER}]((-?[{_LETTER}]{{0,62}})?)|([{_LETTER}](([-{_LETTER}]{{0,61}}[{_LETTER}])?)(\.)){{1,}}"
    r"([a-zA-Z\p{L}]){2,63})$"
)
_CLOCK = re.compile(r"([0-9]{2}):([0-9]{2}):([0-9]{2})(.[0-9]+)?(z|([+-][0-9]{2}:[0-9]{2}))")
_SPOKEN_DURATION = re.compile("([0-9]+)\\s*([A-Za-zµ]+)")
_UNITS = ("ns", "us", "µs", "ms", "s", "m", "h", "hr", "d", "w", "wk")
_UNIT_STEMS = ("nano", "micro", "milli", "sec", "min", "hour", "day", "week")
_MAC = re.compile(
    "[0-9a-fA-F]{2}([:-])[0-9a-fA-F]{2}(\\1[0-9a-fA-F]{2}){4}((\\1[0-9a-fA-F]{2}){2}|(\\1[0-9a-fA-F]{2}){14})?"
)
_DOTTED_MAC = re.compile("[0-9a-fA-F]{4}(\\.[0-9a-fA-F]{4}){2}(\\.[0-9a-fA-F]{4}|(\\.[0-9a-fA-F]{4}){7})?")


def _full(pattern: str, flags: int = re.ASCII) -> Callable[[str], bool]:
    compiled = re.compile(pattern, flags)
    return lambda text: compiled.fullmatch(text) is not None


def is_date(text: str) -> bool:
    if not re.fullmatch("[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
        return False
    try:
        # The year zero, which Python does not know, was a leap year.
        date(int(text[:4]) or 4, int(text[5:7]), int(text[8:]))
    except ValueError:
        return False
    return True


def is_datetime(text: str) -> bool:
    day, t, rest = text.lower().partition("t")
    clock = _CLOCK.fullmatch(rest.partition("t")[0])
    if not t or not is_date(day) or clock is None:
        return False
    return clock[1] <= "23" and clock[2] <= "59" and clock[3] <= "59"


def is_duration(text: str) -> bool:
    """As Go writes it (``1h30m``), or spoken (``22 seconds``)."""
    try:
        durations.parse(text)
    except durations.DurationError:
        pass
    else:
        return True
    units = [unit.lower() for _, unit in _SPOKEN_DURATION.findall(text)]
    return any(unit in _UNITS or unit.startswith(_UNIT_STEMS) for unit in units)


def is_uri(text: str) -> bool:
    """An absolute URI, or an absolute path."""
    if any(c < "!" or c == "\x7f" for c in text):
        return False
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    if re.search("%(?![0-9a-fA-F]{2})", parts.path):
        return False
    return bool(parts.scheme) or text.startswith("/")


def is_email(text: str) -> bool:
    _, address = parseaddr(text)
    local, at, domain = address.rpartition("@")
    return bool(local and at and domain) and " " not in address


def is_hostname(text: str) -> bool:
    from tiphys.api.meta.regexp import matches

    return matches(_HOST, text) and len(text.encode()) <= 255 and all(len(p.encode()) <= 63 for p in text.split("."))


def is_ipv4(text: str) -> bool:
    return "." in text and parse_sloppy(text) is not None


def is_ipv6(text: str) -> bool:
    return ":" in text and parse_sloppy(text) is not None


def is_cidr(text: str) -> bool:
    address, slash, length = text.partition("/")
    network_address = parse_sloppy(address)
    if network_address is None or not slash or not re.fullmatch("[0-9]+", length):
        return False
    try:
        ip_network(f"{network_address}/{int(length)}", strict=False)
    except ValueError:
        return False
    return True


def is_mac(text: str) -> bool:
    return _MAC.fullmatch(text) is not None or _DOTTED_MAC.fullmatch(text) is not None


def is_isbn10(text: str) -> bool:
    bare = re.sub(r"[\s-]+", "", text)
    if not re.fullmatch("[0-9]{9}[0-9X]", bare):
        return False
    return sum((i + 1) * (10 if c == "X" else int(c)) for i, c in enumerate(bare)) % 11 == 0


def is_isbn13(text: str) -> bool:
    bare = re.sub(r"[\s-]+", "", text)
    if not re.fullmatch("[0-9]{13}", bare):
        return False
    return sum(int(c) * (3 if i % 2 else 1) for i, c in enumerate(bare)) % 10 == 0


def is_credit_card(text: str) -> bool:
    digits = re.sub("[^0-9]+", "", text)
    if not re.fullmatch(_CARD, digits):
        return False
    doubled = [int(c) * (2 if i % 2 else 1) for i, c in enumerate(reversed(digits))]
    return sum(n - 9 if n > 9 else n for n in doubled) % 10 == 0


FORMATS: dict[str, Callable[[str], bool]] = {
    "bsonobjectid": _full("[0-9a-fA-F]{24}"),
    "byte": _full(_BASE64),
    "cidr": is_cidr,
    "creditcard": is_credit_card,
    "date": is_date,
    "datetime": is_datetime,
    "duration": is_duration,
    "email": is_email,
    "hexcolor": _full("#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})"),
    "hostname": is_hostname,
    "ipv4": is_ipv4,
    "ipv6": is_ipv6,
    "isbn": lambda text: is_isbn10(text) or is_isbn13(text),
    "isbn10": is_isbn10,
    "isbn13": is_isbn13,
    "k8slongname": lambda text: len(text) <= 253 and re.fullmatch(rf"{_NAME}(\.{_NAME})*", text) is not None,
    "k8sshortname": lambda text: len(text) <= 63 and re.fullmatch(_NAME, text) is not None,
    "mac": is_mac,
    "password": lambda text: True,
    "rgbcolor": _full(_RGB),
    "ssn": _full("[0-9]{3}[- ][0-9]{2}[- ][0-9]{4}"),
    "uri": is_uri,
    "uuid": _full(_UUID, re.IGNORECASE | re.ASCII),
    "uuid3": _full(_UUID3, re.IGNORECASE | re.ASCII),
    "uuid4": _full(f"{_HEX8}4[0-9a-f]{{3}}-?[89ab][0-9a-f]{{3}}-?[0-9a-f]{{12}}", re.IGNORECASE | re.ASCII),
    "uuid5": _full(f"{_HEX8}5[0-9a-f]{{3}}-?[89ab][0-9a-f]{{3}}-?[0-9a-f]{{12}}", re.IGNORECASE | re.ASCII),
}
"""By name without dashes, as ``date-time`` and ``datetime`` are the same."""


def effective_format(schema: Object) -> str:
    """The format of a schema as far as it is checked at all."""
    form: str = schema.get("format") or ""
    if not form:
        return ""
    kind = "" if schema.get("x-kubernetes-int-or-string") else schema.get("type") or ""
    if kind in ("", "string"):
        return form if form.replace("-", "") in FORMATS else ""
    return form if form in _NUMBER_FORMATS.get(kind, ()) else ""
