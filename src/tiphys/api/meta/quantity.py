"""Quantities: fixed-point numbers with a suffix, such as ``100m``, ``1.5Gi`` and ``1e3``.

A quantity remembers which of the three notations it was written in, and is printed in it again in canonical form: no
fraction, and the largest suffix that loses nothing. Amounts are kept as whole billionths, the finest step there is;
what is finer is rounded up, away from zero.
Source: https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/
"""

from __future__ import annotations

from enum import Enum
from functools import lru_cache, total_ordering

NANO = -9
_UNIT = 10**9
_MAX = 2**63 - 1
_MAX_EXPONENT = 1000
"""Where upstream computes with exponents up to 2^31, for numbers that nobody can compare, we refuse them."""


class Format(Enum):
    DECIMAL_SI = "DecimalSI"
    BINARY_SI = "BinarySI"
    DECIMAL_EXPONENT = "DecimalExponent"


class QuantityError(ValueError):
    """The text is not a quantity."""


_FORMAT_WRONG = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
_NUMERIC_WRONG = "unable to parse numeric part of quantity"
_SUFFIX_WRONG = "unable to parse quantity's suffix"

_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
_DECIMAL_NAMES = {exponent: name for name, exponent in _DECIMAL.items()}
_BINARY_NAMES = {exponent: name for name, exponent in _BINARY.items()}
_SUFFIX_CHARACTERS = frozenset("eEinumkKMGTP")
_DIGITS = frozenset("0123456789")


@total_ordering
class Quantity:
    """An immutable amount. ``Quantity("1500m")``; arithmetic keeps the left side's notation unless that is zero."""

    __slots__ = ("_text", "format", "nano")

    nano: int
    """The amount in billionths."""
    format: Format
    _text: str

    def __init__(self, text: str | int | float = "0") -> None:
        parsed = parse(text if isinstance(text, str) else repr(text))
        self.nano, self.format, self._text = parsed.nano, parsed.format, parsed._text

    @classmethod
    def of_nano(cls, nano: int, format: Format = Format.DECIMAL_SI, text: str = "") -> Quantity:
        """From billionths. ``text`` is the form to print, if it is known already."""
        self = object.__new__(cls)
        self.nano, self.format, self._text = nano, format, text
        return self

    @classmethod
    def of(cls, value: int, format: Format = Format.DECIMAL_SI) -> Quantity:
        return cls.of_nano(value * _UNIT, format)

    @classmethod
    def of_milli(cls, value: int, format: Format = Format.DECIMAL_SI) -> Quantity:
        return cls.of_nano(value * 10**6, format)

    def __str__(self) -> str:
        if not self._text:
            self._text = _canonical(self.nano, self.format)
        return self._text

    def __repr__(self) -> str:
        return f"Quantity({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return self.nano == other.nano if isinstance(other, Quantity) else NotImplemented

    def __lt__(self, other: Quantity) -> bool:
        return self.nano < other.nano

    def __hash__(self) -> int:
        return hash(self.nano)

    def __bool__(self) -> bool:
        return self.nano != 0

    def __add__(self, other: Quantity) -> Quantity:
        return Quantity.of_nano(self.nano + other.nano, self.format if self.nano else other.format)

    def __sub__(self, other: Quantity) -> Quantity:
        return Quantity.of_nano(self.nano - other.nano, self.format if self.nano else other.format)

    def __mul__(self, factor: int) -> Quantity:
        return Quantity.of_nano(self.nano * factor, self.format)

    def __neg__(self) -> Quantity:
        return Quantity.of_nano(-self.nano, self.format)

    @property
    def sign(self) -> int:
        return (self.nano > 0) - (self.nano < 0)

    def round_up(self, scale: int) -> Quantity:
        """Rounded to a multiple of 10^scale, away from zero."""
        step: int = 10 ** (scale - NANO)
        if self.nano % step == 0:
            return self
        return Quantity.of_nano(_divide_up(self.nano, step) * step, self.format)

    def scaled_value(self, scale: int) -> int:
        """How many of 10^scale, rounded away from zero."""
        return _divide_up(self.nano, 10 ** (scale - NANO)) if scale >= NANO else self.nano * 10 ** (NANO - scale)

    def value(self) -> int:
        """The whole number, rounded away from zero."""
        return _divide_up(self.nano, _UNIT)

    def milli_value(self) -> int:
        """The number of thousandths, rounded away from zero."""
        return _divide_up(self.nano, 10**6)

    def as_float(self) -> float:
        return self.nano / _UNIT


def _divide_up(value: int, divisor: int) -> int:
    return -(-value // divisor) if value >= 0 else value // divisor


def is_quantity(text: str) -> bool:
    try:
        parse(text)
    except QuantityError:
        return False
    return True


def canonical(text: str) -> str:
    """The form in which the API gives a quantity back."""
    return str(parse(text))


def parse(text: str) -> Quantity:
    """Raises ``QuantityError`` with upstream's message."""
    return _parse_cached(text) if len(text) <= 32 else _parse(text)


@lru_cache(maxsize=4096)
def _parse_cached(text: str) -> Quantity:
    return _parse(text)


def _parse(text: str) -> Quantity:
    if not text:
        raise QuantityError(_FORMAT_WRONG)
    if text == "0":
        return Quantity.of_nano(0, Format.DECIMAL_SI, "0")
    negative, written, whole, fraction, suffix = _split(text)
    exponent, format = _interpret(suffix)
    if _fits_fast_path(whole, fraction, exponent, format):
        return _small(text, negative=negative, whole=whole, fraction=fraction, exponent=exponent, format=format)
    return _large(written, negative=negative, exponent=exponent, format=format)


def _split(text: str) -> tuple[bool, str, str, str, str]:
    """Sign, the number as written, digits before the point without leading zeros, digits after it, suffix."""
    end = len(text)
    at = 1 if text[0] in "+-" else 0
    negative = text[0] == "-"
    while at < end and text[at] == "0":
        at += 1
    start = at
    at = _skip(text, at, _DIGITS)
    whole, fraction = text[start:at] or "0", ""
    if at < end and text[at] == ".":
        start = at + 1
        at = _skip(text, start, _DIGITS)
        fraction = text[start:at]
    written, start = text[:at], at
    at = _skip(text, at, _SUFFIX_CHARACTERS)
    if start < at < end or (at == start and at < end):
        if text[at] in "+-":
            at += 1
        at = _skip(text, at, _DIGITS)
    if at < end:
        raise QuantityError(_FORMAT_WRONG)
    return negative, written, whole, fraction, text[start:]


def _skip(text: str, at: int, characters: frozenset[str]) -> int:
    while at < len(text) and text[at] in characters:
        at += 1
    return at


def _interpret(suffix: str) -> tuple[int, Format]:
    if suffix in _DECIMAL:
        return _DECIMAL[suffix], Format.DECIMAL_SI
    if suffix in _BINARY:
        return _BINARY[suffix], Format.BINARY_SI
    if len(suffix) > 1 and suffix[0] in "eE":
        digits = suffix[2:] if suffix[1] in "+-" else suffix[1:]
        # The length is looked at first: reading a number of unbounded length takes quadratic time.
        if digits.isdecimal() and digits.isascii() and len(digits) <= 9:
            exponent = int(suffix[1:])
            if abs(exponent) <= _MAX_EXPONENT:
                return exponent, Format.DECIMAL_EXPONENT
    raise QuantityError(_SUFFIX_WRONG)


def _fits_fast_path(whole: str, fraction: str, exponent: int, format: Format) -> bool:
    """Whether upstream would compute with a 64-bit number.

    It shows: such a number is printed as it was written when its exponent is a whole suffix already.
    """
    if format is Format.BINARY_SI:
        return not fraction and 15 - len(whole) - exponent * 3 // 10 - 1 >= 0
    return len(whole) + len(fraction) <= 18 and exponent - len(fraction) >= NANO


def _small(text: str, whole: str, fraction: str, exponent: int, format: Format, *, negative: bool) -> Quantity:
    digits = whole + fraction
    value = int(digits)
    if format is Format.BINARY_SI:
        nano = (value << exponent) * _UNIT
        as_written = value & 7 != 0
    else:
        scale = exponent - len(fraction)
        nano = value * 10 ** (scale - NANO)
        as_written = scale % 3 == 0 and not digits.endswith("000") and digits[0] != "0"
    return Quantity.of_nano(-nano if negative else nano, format, text if as_written else "")


def _large(written: str, exponent: int, format: Format, *, negative: bool) -> Quantity:
    whole, _, fraction = written.lstrip("+-").partition(".")
    if not whole and not fraction:
        raise QuantityError(_NUMERIC_WRONG)
    if len(whole) + len(fraction) > 4 * _MAX_EXPONENT:
        raise QuantityError(_NUMERIC_WRONG)
    digits = int(whole + fraction)
    if format is Format.BINARY_SI:
        digits <<= exponent
        scale = -len(fraction)
    else:
        scale = exponent - len(fraction)
    shift = scale - NANO
    nano = digits * 10**shift if shift >= 0 else _divide_up(digits, 10**-shift)
    if format is Format.BINARY_SI:
        nano = min(nano, _MAX * _UNIT)
        if 0 < nano < _UNIT:
            format = Format.DECIMAL_SI
    return Quantity.of_nano(-nano if negative else nano, format)


def _canonical(nano: int, format: Format) -> str:
    if nano == 0:
        return "0"
    if format is Format.BINARY_SI and (abs(nano) < 1024 * _UNIT or nano % _UNIT):
        format = Format.DECIMAL_SI
    if format is Format.BINARY_SI:
        value, exponent = nano // _UNIT, 0
        while value % 1024 == 0:
            value, exponent = value // 1024, exponent + 10
        return f"{value}{_BINARY_NAMES.get(exponent, '')}"
    value, exponent = nano, NANO
    while value % 10 == 0:
        value, exponent = value // 10, exponent + 1
    value, exponent = value * 10 ** (exponent % 3), exponent - exponent % 3
    if format is Format.DECIMAL_EXPONENT:
        return f"{value}e{exponent}" if exponent else str(value)
    # Beyond the largest suffix upstream prints the bare mantissa; a reader of its answers sees the same here.
    return f"{value}{_DECIMAL_NAMES.get(exponent, '')}"
