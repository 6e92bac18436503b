"""Values that are a number or a string, such as ports and percentages.

Source: https://kubernetes.io/docs/reference/kubernetes-api/ (IntOrString).
"""

from __future__ import annotations

import re

from tiphys.api.gotext import quote

IntOrString = int | str
_PERCENT = re.compile(r"[+-]?[0-9]+").fullmatch


class ScaleError(ValueError):
    """The value is neither a number nor a percentage; the message is upstream's."""


def scaled_value(value: IntOrString | None, total: int, *, round_up: bool) -> int:
    """A number as it is, or a percentage of ``total``. Raises ``ScaleError``."""
    if value is None:
        raise ScaleError("nil value for IntOrString")
    if isinstance(value, int):
        return value
    if not value.endswith("%"):
        raise ScaleError("invalid value for IntOrString: invalid type: string is not a percentage")
    if not _PERCENT(value[:-1]):
        why = f"strconv.Atoi: parsing {quote(value[:-1])}: invalid syntax"
        raise ScaleError(f"invalid value for IntOrString: invalid value {quote(value)}: {why}")
    share = int(value[:-1]) * total
    return -(-share // 100) if round_up else share // 100
