"""What a meter reads: scaled integers that are exact or a flaw, members, dimension texts."""

from __future__ import annotations

import re
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lineitem.core.reasons import Reason
from lineitem.rate.columns import Column
from lineitem.rate.readings import Flaw, read_dimension, read_members, read_quantities, scaled_value

LEDGER_END = 10**38


@pytest.mark.parametrize(
    ("value", "scale", "expected"),
    [
        (5, 0, 5),
        (-5, 2, -500),
        (0, 9, 0),
        (Decimal("1.5"), 1, 15),
        (Decimal("1.50"), 1, 15),
        (Decimal("-0.0"), 0, 0),
        (Decimal("1E+3"), 0, 1000),
        (Decimal("0E+999999999"), 0, 0),
        (Decimal("0E-999999999"), 0, 0),
        ("42", 0, 42),
        ("+42", 0, 42),
        ("-0.5", 1, -5),
        ("1e3", 0, 1000),
        ("1.5E-1", 2, 15),
        ("0e99999999999999999999999", 0, 0),
        ("007", 0, 7),
        ("1." + "0" * 100, 0, 1),
        (LEDGER_END - 1, 0, LEDGER_END - 1),
        (-(10**20) + 1, 18, (-(10**20) + 1) * 10**18),
        (str(LEDGER_END - 1), 0, LEDGER_END - 1),
        (Decimal("9" * 29 + "." + "9" * 9), 9, LEDGER_END - 1),
        (None, 0, Reason.MISSING_VALUE),
        (True, 0, Reason.BAD_VALUE),
        ([], 0, Reason.BAD_VALUE),
        ({"x": 1}, 0, Reason.BAD_VALUE),
        ("", 0, Reason.BAD_VALUE),
        ("abc", 0, Reason.BAD_VALUE),
        (" 1", 0, Reason.BAD_VALUE),
        ("1 ", 0, Reason.BAD_VALUE),
        ("1\n", 0, Reason.BAD_VALUE),
        ("1,5", 0, Reason.BAD_VALUE),
        ("1_000", 0, Reason.BAD_VALUE),
        ("1.", 0, Reason.BAD_VALUE),
        (".5", 1, Reason.BAD_VALUE),
        ("--1", 0, Reason.BAD_VALUE),
        ("0x10", 0, Reason.BAD_VALUE),
        ("1e", 0, Reason.BAD_VALUE),
        ("\u0661", 0, Reason.BAD_VALUE),
        ("NaN", 0, Reason.BAD_VALUE),
        ("Infinity", 0, Reason.BAD_VALUE),
        (Decimal("NaN"), 0, Reason.BAD_VALUE),
        (Decimal("sNaN"), 0, Reason.BAD_VALUE),
        (Decimal("-Infinity"), 0, Reason.BAD_VALUE),
        (Decimal("1.5"), 0, Reason.TOO_PRECISE),
        (Decimal("1E-999999999"), 18, Reason.TOO_PRECISE),
        ("0." + "0" * 20 + "1", 18, Reason.TOO_PRECISE),
        ("1e-9999999999999999999999", 18, Reason.TOO_PRECISE),
        ("0." + "3" * 5000, 18, Reason.TOO_PRECISE),
        (LEDGER_END, 0, Reason.VALUE_OUT_OF_RANGE),
        (-LEDGER_END, 0, Reason.VALUE_OUT_OF_RANGE),
        (10**20, 18, Reason.VALUE_OUT_OF_RANGE),
        (Decimal("1E+999999999"), 0, Reason.VALUE_OUT_OF_RANGE),
        ("1e400", 0, Reason.VALUE_OUT_OF_RANGE),
        ("-1e99999999999999999999999", 0, Reason.VALUE_OUT_OF_RANGE),
        ("9" * 39, 0, Reason.VALUE_OUT_OF_RANGE),
        ("9" * 5000, 0, Reason.VALUE_OUT_OF_RANGE),
    ],
)
def test_a_value_is_exact_or_flawed(value: Any, scale: int, expected: int | Reason) -> None:
    """One value alone, and the same value in the middle of good ones."""
    result = scaled_value(value, scale)
    assert (result.reason if isinstance(result, Flaw) else result) == expected
    values, flaws = read_quantities(Column([1, value, "2"]), scale)
    if isinstance(expected, Reason):
        assert flaws[1].reason == expected
        assert len(flaws[1].text) < 200
        assert values.tolist() == [10**scale, 0, 2 * 10**scale]
    else:
        assert flaws == {}
        assert values.tolist() == [10**scale, expected, 2 * 10**scale]


def test_an_integer_python_would_not_print_is_out_of_range() -> None:
    """Five thousand digits: the message must not try to show them."""
    assert scaled_value(10**5000, 0) == Flaw(
        Reason.VALUE_OUT_OF_RANGE,
        "is an integer of many digits, which has more than 38 digits at the scale it is kept at",
    )


NUMERIC = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?", re.ASCII)
READABLE = st.one_of(
    st.integers(-(2**64), 2**64),
    st.integers(-(10**39), 10**39),
    st.decimals(allow_nan=True, allow_infinity=True),
    st.decimals(places=3, min_value=-(10**6), max_value=10**6),
    st.from_regex(NUMERIC, fullmatch=True).filter(lambda text: len(text) < 12),
    st.text(alphabet="0123456789.eE+- x", max_size=8),
    st.none() | st.booleans() | st.lists(st.integers(), max_size=1),
)


def reference(value: Any, scale: int) -> int | Reason:
    """The rule, with fractions."""
    if value is None:
        return Reason.MISSING_VALUE
    if isinstance(value, str) and NUMERIC.fullmatch(value):
        mantissa, _, exponent = value.lower().partition("e")
        if abs(int(exponent or "0")) > 400:  # would take for ever; far out either way
            zero = Fraction(mantissa) == 0
            return 0 if zero else Reason.TOO_PRECISE if exponent.startswith("-") else Reason.VALUE_OUT_OF_RANGE
        value = Fraction(value)
    if isinstance(value, bool | str | list) or (isinstance(value, Decimal) and not value.is_finite()):
        return Reason.BAD_VALUE
    scaled = Fraction(value) * 10**scale
    if abs(scaled) >= LEDGER_END:
        return Reason.VALUE_OUT_OF_RANGE
    return scaled.numerator if scaled.denominator == 1 else Reason.TOO_PRECISE


@given(st.lists(READABLE, min_size=1, max_size=12), st.integers(0, 18))
@example([2**63 - 1, -(2**63)], 0)
@example([2**63, 1], 0)
@example([9_223_372_036, -9_223_372_037], 9)
@example([Decimal("9223372036.854775807"), Decimal("-9223372036.854775808")], 9)
def test_a_column_is_read_as_its_values(values: list[Any], scale: int) -> None:
    """Kernel, chunk and single value agree with fractions; int64 exactly if all fit."""
    expected = [reference(value, scale) for value in values]
    result, flaws = read_quantities(Column(values), scale)
    assert {i: flaw.reason for i, flaw in flaws.items()} == {
        i: reason for i, reason in enumerate(expected) if isinstance(reason, Reason)
    }
    integers = [0 if isinstance(value, Reason) else value for value in expected]
    assert result.tolist() == integers
    fits = all(-(2**63) <= value < 2**63 for value in integers)
    assert result.dtype == (np.int64 if fits else object)


def test_a_flaw_far_into_a_long_column_keeps_its_place() -> None:
    """Columns are read in chunks; positions count from the column's start."""
    values: list[Any] = ["1.5"] * 5000
    values[3000] = "x"
    result, flaws = read_quantities(Column(values), 1)
    assert list(flaws) == [3000]
    assert result.sum() == 15 * 4999


def test_members_are_told_apart_by_kind_and_value() -> None:
    """1 and 1.0 are one member; 1, "1" and true are three."""
    giants = [Decimal("1E+999999999"), Decimal("10E+999999998")]
    values = [1, Decimal("1.0"), "1", True, "true", *giants, 0, Decimal("-0.00")]
    members, flaws = read_members(Column(values))
    digests = [member.tobytes() for member in members]
    assert flaws == {}
    assert len({*digests}) == 6
    assert digests[0] == digests[1]
    assert digests[5] == digests[6]
    assert digests[7] == digests[8]


FINITE = st.decimals(allow_nan=False, allow_infinity=False)


@given(st.lists(st.integers() | FINITE | st.text(max_size=3), max_size=8))
def test_members_are_equal_as_values_are(values: list[Any]) -> None:
    """The digest is injective on values, whatever their spelling."""
    members, flaws = read_members(Column(values))
    assert flaws == {}
    for i, one in enumerate(values):
        for j, other in enumerate(values):
            assert (members[i].tobytes() == members[j].tobytes()) == (one == other)


def test_members_that_are_none() -> None:
    """Missing is missing; a list, an object, NaN and half a character are no members."""
    _, flaws = read_members(Column([None, [], {}, Decimal("NaN"), "\ud800", "ok"]))
    assert [flaws[i].reason for i in range(5)] == [Reason.MISSING_VALUE, *[Reason.BAD_VALUE] * 4]
    assert 5 not in flaws


def test_dimension_texts() -> None:
    """Missing is empty, numbers are plain decimal text, and equal texts are one."""
    values = ["a", None, 1, "1", Decimal("1.50"), True, "a", Decimal("1E+3"), "", False]
    dimension, flaws = read_dimension(Column(values))
    assert flaws == {}
    assert [dimension.texts[i] for i in dimension.index] == ["a", "", "1", "1", "1.5", "true", "a", "1000", "", "false"]
    assert len(set(dimension.texts)) == len(dimension.texts)
    assert dimension.index.dtype == np.int32


@pytest.mark.parametrize(
    "bad", ["x" * 257, "a\x00b", "\ud800", [], {"a": 1}, Decimal("NaN"), Decimal("1E+999999999"), 10**300]
)
@pytest.mark.parametrize("good", ["a", True])
def test_dimensions_that_cannot_be_kept(bad: Any, good: Any) -> None:
    """Too long for a tag, not storable, or no scalar; on the path for plain texts and on the other."""
    dimension, flaws = read_dimension(Column([good, bad, "x" * 256]))
    assert list(flaws) == [1]
    assert flaws[1].reason is Reason.BAD_VALUE
    assert dimension.texts[dimension.index[1]] == ""
    assert dimension.texts[dimension.index[2]] == "x" * 256


@given(
    st.lists(
        st.one_of(
            st.from_regex(r"[+-]?[0-9]{1,40}(\.[0-9]{1,20})?", fullmatch=True),
            st.from_regex(r"[+-]?[0-9]{1,3}([eE][+-]?[0-9]{1,2})?\n?", fullmatch=True),
        ),
        min_size=1,
        max_size=4,
    ),
    st.integers(0, 18),
    st.booleans(),
)
@example(["9" * 39], 2, True)
@example(["1\n"], 2, True)
@example(["9223372036854775807", "-9223372036854775808"], 0, True)
@example(["9223372036854775808"], 0, True)
def test_plain_columns_are_read_as_one_by_one(texts: list[str], scale: int, as_text: bool) -> None:
    """The way through Arrow gives what each value alone gives, at the bounds of int64 and where Arrow itself would wrap."""
    values: list[object] = [*texts] if as_text else [Decimal(text) for text in texts]
    found, flaws = read_quantities(Column(values), scale)
    expected = [scaled_value(value, scale) for value in values]
    assert flaws == {row: one for row, one in enumerate(expected) if isinstance(one, Flaw)}
    assert found.tolist() == [0 if isinstance(one, Flaw) else one for one in expected]


def test_an_empty_column_has_no_quantities() -> None:
    """Nothing in, nothing out."""
    found, flaws = read_quantities(Column([]), 9)
    assert (found.tolist(), flaws) == ([], {})
