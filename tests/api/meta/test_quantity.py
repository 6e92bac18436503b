"""Quantities: what they are worth, and how they are printed."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tiphys.api.meta.quantity import Format, Quantity, QuantityError, canonical, is_quantity


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("0", "0"),
        ("0m", "0"),
        ("-0", "0"),
        ("1000m", "1"),
        ("0.5", "500m"),
        ("1.5Gi", "1536Mi"),
        ("1024Mi", "1Gi"),
        ("1000", "1k"),
        ("1500", "1500"),
        ("1000000", "1M"),
        ("0.1m", "100u"),
        ("0.0000000001", "1n"),
        ("1e3", "1e3"),
        ("1E3", "1E3"),
        ("10e3", "10e3"),
        ("1000e3", "1e6"),
        ("0.1e3", "100"),
        ("512Ki", "512Ki"),
        ("0.5Gi", "512Mi"),
        ("0.5Ki", "512"),
        ("100Ei", "9223372036854775807"),
        ("12345678901234567890", "12345678901234567890"),
        ("1.", "1."),
        (".5", "500m"),
        ("+5", "+5"),
        ("-5m", "-5m"),
        ("1.234", "1.234"),
    ],
)
def test_printed_form(text: str, printed: str) -> None:
    assert canonical(text) == printed


@pytest.mark.parametrize("text", ["", "x", "1x", "1 ", "lots", "1Kii", "--1", "1e", "1e+", "1KiB", "0x10"])
def test_not_quantities(text: str) -> None:
    assert not is_quantity(text)


def test_messages() -> None:
    with pytest.raises(QuantityError, match="quantities must match the regular expression"):
        canonical("lots")
    with pytest.raises(QuantityError, match="unable to parse quantity's suffix"):
        canonical("1KK")


def test_huge_exponents_are_refused_not_computed() -> None:
    for text in ("1e2147483647", "1e-99999999", "1e" + "9" * 5000, "9" * 100_000):
        with pytest.raises(QuantityError):
            canonical(text)


def test_arithmetic_keeps_the_left_notation() -> None:
    assert str(Quantity("1Gi") + Quantity("1G")) == "2073741824"
    assert str(Quantity("0") + Quantity("1Gi")) == "1Gi"
    assert str(Quantity("1") - Quantity("1500m")) == "-500m"
    assert str(Quantity("100m") * 3) == "300m"
    assert str(-Quantity("1Ki")) == "-1Ki"


def test_values_round_away_from_zero() -> None:
    assert Quantity("1.1").value() == 2
    assert Quantity("-1.1").value() == -2
    assert Quantity("1.0001").milli_value() == 1001
    assert str(Quantity("1100u").round_up(-3)) == "2m"
    assert Quantity("1Gi").scaled_value(6) == 1074


def test_order() -> None:
    assert Quantity("1Gi") > Quantity("1G")
    assert Quantity("1000m") == Quantity("1")
    assert hash(Quantity("1000m")) == hash(Quantity("1"))


UNITS = {"n": Fraction(1, 10**9), "u": Fraction(1, 10**6), "m": Fraction(1, 1000), "": Fraction(1)}
UNITS |= {"k": Fraction(10**3), "M": Fraction(10**6), "G": Fraction(10**9), "T": Fraction(10**12)}
UNITS |= {"Ki": Fraction(2**10), "Mi": Fraction(2**20), "Gi": Fraction(2**30), "Ti": Fraction(2**40)}


@settings(max_examples=300)
@given(st.integers(0, 10**6), st.integers(0, 999), st.integers(0, 3), st.sampled_from(sorted(UNITS)))
def test_the_printed_form_is_worth_as_much_and_stays(whole: int, part: int, digits: int, unit: str) -> None:
    text = f"{whole}.{part:03d}"[: len(str(whole)) + 1 + digits] + unit if digits else f"{whole}{unit}"
    exact = Fraction(text.removesuffix(unit)) * UNITS[unit]
    quantity = Quantity(text)
    # What is finer than a billionth is rounded up.
    assert Fraction(quantity.nano, 10**9) - exact >= 0
    assert Fraction(quantity.nano, 10**9) - exact < Fraction(1, 10**9)
    assert Quantity(str(quantity)) == quantity
    assert canonical(canonical(text)) == canonical(text)


def test_numbers_are_read_like_their_text() -> None:
    assert str(Quantity(2)) == "2"
    assert str(Quantity.of(1024, Format.BINARY_SI)) == "1Ki"
    assert str(Quantity.of_milli(1500)) == "1500m"
