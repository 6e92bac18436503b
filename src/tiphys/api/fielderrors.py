"""Errors about one field of an object: what kind, where, which value, and why.

A validation returns a list of them, in the order found; ``api.errors.invalid`` renders the list as a 422 Status.
Source: ``StatusCause`` in the API reference (https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/status/).
Paths are text: ``spec.containers[0].name``, ``metadata.labels[key]``.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from tiphys.api.gotext import json_text, quote, value_text


class FieldErrorType(Enum):
    """The value is the reason of the cause in the Status."""

    NOT_FOUND = "FieldValueNotFound"
    REQUIRED = "FieldValueRequired"
    DUPLICATE = "FieldValueDuplicate"
    INVALID = "FieldValueInvalid"
    NOT_SUPPORTED = "FieldValueNotSupported"
    FORBIDDEN = "FieldValueForbidden"
    TOO_LONG = "FieldValueTooLong"
    TOO_MANY = "FieldValueTooMany"
    TOO_FEW = "FieldValueTooFew"
    TOO_SHORT = "FieldValueTooShort"
    INTERNAL = "InternalError"
    TYPE_INVALID = "FieldValueTypeInvalid"


_TITLES = {
    FieldErrorType.NOT_FOUND: "Not found",
    FieldErrorType.REQUIRED: "Required value",
    FieldErrorType.DUPLICATE: "Duplicate value",
    FieldErrorType.INVALID: "Invalid value",
    FieldErrorType.NOT_SUPPORTED: "Unsupported value",
    FieldErrorType.FORBIDDEN: "Forbidden",
    FieldErrorType.TOO_LONG: "Too long",
    FieldErrorType.TOO_MANY: "Too many",
    FieldErrorType.TOO_FEW: "Too few",
    FieldErrorType.TOO_SHORT: "Too short",
    FieldErrorType.INTERNAL: "Internal error",
    FieldErrorType.TYPE_INVALID: "Invalid value",
}
_WITHOUT_VALUE = {
    FieldErrorType.REQUIRED,
    FieldErrorType.FORBIDDEN,
    FieldErrorType.TOO_LONG,
    FieldErrorType.TOO_SHORT,
    FieldErrorType.INTERNAL,
}


class Rendered(str):
    """A bad value that is already in the form in which the message shows it."""

    __slots__ = ()


class _Omitted:
    """Stands for a bad value that the message leaves out."""


OMITTED = _Omitted()


MOST_ERRORS = 20_000
"""A validation ends after so many: an answer shows 1,000, and a request may have a million fields that are wrong."""


class _EnoughErrors(Exception):
    """The validation ends here."""


class _Making(threading.local):
    errors: list[FieldError] | None = None
    """Those of the validation that this thread is at."""


_making = _Making()


def enough(validate: Callable[[], list[FieldError]]) -> list[FieldError]:
    """What a validation finds; the first ``MOST_ERRORS`` if it makes more."""
    made: list[FieldError] = []
    before, _making.errors = _making.errors, made
    try:
        return validate()
    except _EnoughErrors:
        return made
    finally:
        _making.errors = before


@dataclass(frozen=True, slots=True)
class FieldError:
    type: FieldErrorType
    field: str
    value: Any = ""
    detail: str = ""

    def __post_init__(self) -> None:
        if (made := _making.errors) is not None:
            made.append(self)
            if len(made) >= MOST_ERRORS:
                raise _EnoughErrors

    @property
    def body(self) -> str:
        """The message without the field's path; the message of the cause."""
        text = _TITLES[self.type]
        if self.type not in _WITHOUT_VALUE and self.value is not OMITTED:
            text = f"{text}: {_value(self.value)}"
        return f"{text}: {self.detail}" if self.detail else text

    def __str__(self) -> str:
        return f"{self.field}: {self.body}"


def _value(value: Any) -> str:
    if isinstance(value, Rendered):
        return value
    if isinstance(value, str):
        return quote(value)
    if isinstance(value, (bool, int, float)):
        return value_text(value)
    return json_text(value)


MOST = 1000
"""As many errors are shown. A validation of which one value gives many errors needs to find no more than these."""
MOST_TEXT = 1 << 18
"""So many characters of them are shown: each of the items of a list may show the whole list."""


def shown(errors: Sequence[FieldError]) -> list[tuple[FieldError, str]]:
    """The first errors, as many as an answer holds, each with its body."""
    room, first = MOST_TEXT, list[tuple[FieldError, str]]()
    bodies: dict[int, str] = {}
    for error in errors[:MOST]:
        body = bodies[id(error)] = bodies.get(id(error)) or error.body
        first.append((error, body))
        room -= len(body) + len(error.field)
        if room <= 0:
            break
    return first


def aggregate(errors: Iterable[object]) -> str:
    """The messages as one text: alone as it is, several as ``[a, b]``, each once."""
    messages = list(dict.fromkeys(str(error) for error in errors))
    return messages[0] if len(messages) == 1 else f"[{', '.join(messages)}]"


def not_found(field: str, value: Any) -> FieldError:
    return FieldError(FieldErrorType.NOT_FOUND, field, value)


def required(field: str, detail: str = "") -> FieldError:
    return FieldError(FieldErrorType.REQUIRED, field, "", detail)


def duplicate(field: str, value: Any) -> FieldError:
    return FieldError(FieldErrorType.DUPLICATE, field, value)


def invalid(field: str, value: Any, detail: str) -> FieldError:
    return FieldError(FieldErrorType.INVALID, field, value, detail)


def type_invalid(field: str, value: Any, detail: str) -> FieldError:
    return FieldError(FieldErrorType.TYPE_INVALID, field, value, detail)


def not_supported(field: str, value: Any, supported: Iterable[object]) -> FieldError:
    """``supported`` is shown in the order given; upstream's callers mostly sort it."""
    quoted = ", ".join(quote(str(v)) for v in supported)
    return FieldError(FieldErrorType.NOT_SUPPORTED, field, value, f"supported values: {quoted}" if quoted else "")


def forbidden(field: str, detail: str) -> FieldError:
    return FieldError(FieldErrorType.FORBIDDEN, field, "", detail)


def too_long(field: str, maximum: int) -> FieldError:
    """More bytes than ``maximum``; a negative limit is left out of the message."""
    return FieldError(FieldErrorType.TOO_LONG, field, "<value omitted>", _more_than(maximum, "byte"))


def _more_than(maximum: int, unit: str) -> str:
    return f"may not be more than {maximum} {_plural(maximum, unit)}" if maximum >= 0 else "value is too long"


def too_many(field: str, actual: int, maximum: int) -> FieldError:
    """``actual`` and ``maximum`` are left out of the message if they are negative."""
    text = f"must have at most {maximum} {_plural(maximum, 'item')}" if maximum >= 0 else "has too many items"
    return FieldError(FieldErrorType.TOO_MANY, field, actual if actual >= 0 else OMITTED, text)


def internal(field: str, error: object) -> FieldError:
    return FieldError(FieldErrorType.INTERNAL, field, OMITTED, str(error))


def _plural(count: int, unit: str) -> str:
    return unit if count == 1 else f"{unit}s"
