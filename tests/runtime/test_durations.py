"""Durations as Go reads and writes them."""

from __future__ import annotations

import contextlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiphys.runtime import durations
from tiphys.runtime.binary.fnv import fnv32, fnv32a, fnv64a
from tiphys.runtime.durations import DurationError

MS, S, MINUTE, HOUR = 10**6, 10**9, 60 * 10**9, 3600 * 10**9
MAX, MIN = 2**63 - 1, -(2**63)


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("0", 0),
        ("-0", 0),
        ("+0", 0),
        ("1478s", 1478 * S),
        ("-5s", -5 * S),
        ("+5s", 5 * S),
        ("5.s", 5 * S),
        (".5s", 500 * MS),
        ("100.00100s", 100 * S + MS),
        ("11us", 11_000),
        ("12\u00b5s", 12_000),
        ("12\u03bcs", 12_000),
        ("13ms", 13 * MS),
        ("10.5s4m", 4 * MINUTE + 10 * S + 500 * MS),
        ("-2m3.4s", -(2 * MINUTE + 3 * S + 400 * MS)),
        ("1h2m3s4ms5us6ns", HOUR + 2 * MINUTE + 3 * S + 4 * MS + 5006),
        ("0.3333333333333333333h", 20 * MINUTE),
        ("0.100000000000000000000h", 6 * MINUTE),
        ("0.830103483285477580700h", 49 * MINUTE + 48 * S + 372539827),
        ("9007199254740993ns", 2**53 + 1),
        ("9223372036854775807ns", MAX),
        ("9223372036854775.807us", MAX),
        ("-9223372036854775808ns", MIN),
        ("-9223372036s854ms775us808ns", MIN),
        ("-2562047h47m16.854775808s", MIN),
    ],
)
def test_reading(text: str, nanoseconds: int) -> None:
    assert durations.parse(text) == nanoseconds
    assert durations.seconds(text) == nanoseconds / S


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", 'invalid duration ""'),
        ("-", 'invalid duration "-"'),
        (".", 'invalid duration "."'),
        ("-.", 'invalid duration "-."'),
        ("+.s", 'invalid duration "+.s"'),
        ("s", 'invalid duration "s"'),
        ("3", 'missing unit in duration "3"'),
        ("00", 'missing unit in duration "00"'),
        ("1s2", 'missing unit in duration "1s2"'),
        ("1d", 'unknown unit "d" in duration "1d"'),
        ("1 s", 'unknown unit " s" in duration "1 s"'),
        ("1m ", 'unknown unit "m " in duration "1m "'),
        ("1.5.5s", 'missing unit in duration "1.5.5s"'),
        ("1-s", 'unknown unit "-s" in duration "1-s"'),
        ("١s", r'invalid duration "\xd9\xa1s"'),
        ("\ufffd", r'invalid duration "\xef\xbf\xbd"'),
        ('a"\\', r'invalid duration "a\"\\"'),
        ("9223372036854775810ns", 'invalid duration "9223372036854775810ns"'),
        ("9223372036854775808ns", 'invalid duration "9223372036854775808ns"'),
        ("-9223372036854775809ns", 'invalid duration "-9223372036854775809ns"'),
        ("9223372036854776us", 'invalid duration "9223372036854776us"'),
        ("3000000h", 'invalid duration "3000000h"'),
        ("9" * 5000 + "ns", f'invalid duration "{"9" * 5000}ns"'),
    ],
)
def test_what_is_no_duration(text: str, problem: str) -> None:
    with pytest.raises(DurationError, match=f"^{re.escape(f'time: {problem}')}$"):
        durations.parse(text)


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "0s"),
        (1, "1ns"),
        (1100, "1.1µs"),
        (2_200_000, "2.2ms"),
        (3_300 * MS, "3.3s"),
        (4 * MINUTE + 5 * S, "4m5s"),
        (4 * MINUTE + 5001 * MS, "4m5.001s"),
        (5 * HOUR + 6 * MINUTE + 7001 * MS, "5h6m7.001s"),
        (5 * HOUR, "5h0m0s"),
        (8 * MINUTE + 1, "8m0.000000001s"),
        (MAX, "2562047h47m16.854775807s"),
        (MIN, "-2562047h47m16.854775808s"),
    ],
)
def test_writing(nanoseconds: int, text: str) -> None:
    assert durations.to_text(nanoseconds) == text
    assert durations.parse(text) == nanoseconds


def test_writing_seconds_cut_to_a_step() -> None:
    assert durations.seconds_text(1.2345678, durations.MILLISECOND) == "1.234s"
    assert durations.seconds_text(0.0004, durations.MILLISECOND) == "0s"
    assert durations.seconds_text(-61.5) == "-1m1.5s"


@given(st.integers(MIN, MAX))
def test_what_is_written_is_read_again(nanoseconds: int) -> None:
    # A fraction is read by floating point, as in Go, so the last digits of one may differ.
    assert abs(durations.parse(durations.to_text(nanoseconds)) - nanoseconds) <= 1


@given(st.text("0123456789.hmsnuµ+-", max_size=12))
def test_any_text_is_a_duration_or_an_error(text: str) -> None:
    with contextlib.suppress(DurationError):
        value = durations.parse(text)
        assert abs(durations.parse(durations.to_text(value)) - value) <= 1


@pytest.mark.parametrize(
    ("data", "one", "one_a", "long"),
    [
        (b"", 0x811C9DC5, 0x811C9DC5, 0xCBF29CE484222325),
        (b"a", 0x050C5D7E, 0xE40C292C, 0xAF63DC4C8601EC8C),
        (b"foobar", 0x31F0B262, 0xBF9CF968, 0x85944171F73967E8),
    ],
)
def test_fnv_by_its_published_vectors(data: bytes, one: int, one_a: int, long: int) -> None:
    assert (fnv32(data), fnv32a(data), fnv64a(data)) == (one, one_a, long)
