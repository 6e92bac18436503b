"""Text as upstream prints it: quoted strings, numbers, and values as JSON.

Error messages are part of the protocol, and most of them carry a value that was formatted with ``%q``, ``%v`` or
``json.Marshal``. Source: the documentation of Go's ``fmt``, ``strconv`` and ``encoding/json``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from tiphys.runtime.quoting import quote

__all__ = ["json_text", "label_selector", "quote", "value_text"]

_JSON_PLAIN = re.compile(r"[ !#-%\'-;=?-\[\]-~]*\Z")
_JSON_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\b": "\\b", "\f": "\\f"}


def value_text(value: Any) -> str:
    """A scalar, list or map as ``%v`` prints it."""
    if value is None:
        return "<nil>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return _float(value)
    if isinstance(value, dict):
        return "map[" + " ".join(f"{k}:{value_text(value[k])}" for k in sorted(value)) + "]"
    if isinstance(value, (list, tuple)):
        return "[" + " ".join(value_text(v) for v in value) + "]"
    return str(value)


def json_text(value: Any) -> str:
    """A value as ``json.Marshal`` prints it: HTML characters escaped, keys in the order they are in."""
    if isinstance(value, str):
        return _json_string(value)
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return _json_float(value)
    if isinstance(value, dict):
        return "{" + ",".join(f"{_json_string(k)}:{json_text(v)}" for k, v in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(json_text(v) for v in value) + "]"
    raise TypeError(f"cannot print a {type(value).__name__} as JSON")


def _json_string(text: str) -> str:
    if _JSON_PLAIN.match(text):
        return f'"{text}"'
    return '"' + "".join(_json_char(c) for c in text) + '"'


def _json_char(char: str) -> str:
    if char in _JSON_ESCAPES:
        return _JSON_ESCAPES[char]
    if char < " " or char in "<>&\u2028\u2029":
        return f"\\u{ord(char):04x}"
    return "\\ufffd" if "\ud800" <= char <= "\udfff" else char


def _json_float(value: float) -> str:
    magnitude = abs(value)
    if magnitude != 0 and (magnitude < 1e-6 or magnitude >= 1e21):
        text = _exponent(value)
        # encoding/json writes e-9, where fmt writes e-09
        return re.sub(r"e-0(\d)\Z", r"e-\1", text)
    return _decimal(value)


def _float(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    if value == 0:
        return "-0" if math.copysign(1, value) < 0 else "0"
    exponent = int(f"{value:e}".partition("e")[2])
    return _exponent(value) if exponent < -4 or exponent >= 6 else _decimal(value)


def _shortest(value: float) -> tuple[str, str, int]:
    """Sign, digits and decimal exponent (of the first digit) of the shortest text that reads back as the value."""
    sign = "-" if math.copysign(1, value) < 0 else ""
    mantissa, _, exponent = repr(abs(value)).partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    point = len(whole) + int(exponent or 0)
    point -= len(whole + fraction) - len(digits)
    digits = digits.rstrip("0") or "0"
    return sign, digits, point - 1


def _exponent(value: float) -> str:
    sign, digits, exponent = _shortest(value)
    mantissa = digits[0] + (f".{digits[1:]}" if len(digits) > 1 else "")
    return f"{sign}{mantissa}e{'-' if exponent < 0 else '+'}{abs(exponent):02d}"


def _decimal(value: float) -> str:
    if value == 0:
        return "-0" if math.copysign(1, value) < 0 else "0"
    sign, digits, exponent = _shortest(value)
    if exponent < 0:
        return f"{sign}0.{'0' * (-exponent - 1)}{digits}"
    if len(digits) <= exponent + 1:
        return sign + digits + "0" * (exponent + 1 - len(digits))
    return f"{sign}{digits[: exponent + 1]}.{digits[exponent + 1 :]}"


def label_selector(value: Mapping[str, Any] | None) -> str:
    """A LabelSelector as Go prints the structure; one that is absent as a nil pointer."""
    if value is None:
        return "nil"
    matching = value.get("matchLabels") or {}
    pairs = "".join(f"{key}: {matching[key]}," for key in sorted(matching))
    expressions = "".join(
        f"LabelSelectorRequirement{{Key:{e.get('key', '')},Operator:{e.get('operator', '')},"
        f"Values:[{' '.join(e.get('values') or ())}],}},"
        for e in value.get("matchExpressions") or ()
    )
    labels = f"map[string]string{{{pairs}}}"
    return f"&LabelSelector{{MatchLabels:{labels},MatchExpressions:[]LabelSelectorRequirement{{{expressions}}},}}"
