"""Rounding keeps what it takes away; a split always sums to what was split."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, ROUND_HALF_UP, Context, Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineitem.billing.rounding import RoundingMode, round_half_even, round_to_minor, split_largest_remainder
from lineitem.core.errors import InputError

amounts_nano = st.integers(min_value=-(10**38), max_value=10**38)
weights = st.lists(
    st.one_of(st.integers(0, 10**20), st.fractions(0, 1000), st.decimals(0, 1000, places=6)), min_size=1, max_size=12
)


@pytest.mark.parametrize(
    ("amount_nano", "digits", "half_up", "half_even"),
    [
        (5_000_000, 2, 1, 0),
        (-5_000_000, 2, -1, 0),
        (15_000_000, 2, 2, 2),
        (-15_000_000, 2, -2, -2),
        (-1_005_000_000, 2, -101, -100),  # a half-up towards plus infinity would say -100
        (4_999_999, 2, 0, 0),
        (500_000_000, 0, 1, 0),
        (1_234_500_000, 3, 1235, 1234),
        (0, 2, 0, 0),
    ],
)
def test_halves(amount_nano, digits, half_up, half_even):
    """half_up goes away from zero on both sides of it, half_even to the even neighbour."""
    assert round_to_minor(amount_nano, digits).minor == half_up
    assert round_to_minor(amount_nano, digits, RoundingMode.HALF_EVEN).minor == half_even


@given(amounts_nano, st.integers(0, 4), st.sampled_from(RoundingMode))
def test_rounding_law(amount_nano, digits, mode):
    """Rounded plus residual is exact; the residual is at most half a unit; the decimal library agrees."""
    unit_nano = 10 ** (9 - digits)
    minor, residual_nano = round_to_minor(amount_nano, digits, mode)
    assert minor * unit_nano + residual_nano == amount_nano
    assert 2 * abs(residual_nano) <= unit_nano
    rounding = {RoundingMode.HALF_UP: ROUND_HALF_UP, RoundingMode.HALF_EVEN: ROUND_HALF_EVEN}[mode]
    exact = Decimal(amount_nano).scaleb(digits - 9, Context(prec=60))
    assert minor == int(exact.quantize(Decimal(1), rounding, Context(prec=60)))


@given(st.integers(), st.integers(min_value=1))
def test_half_even_is_pythons_round(numerator, denominator):
    """Python rounds fractions half to even, exactly."""
    assert round_half_even(numerator, denominator) == round(Fraction(numerator, denominator))


@pytest.mark.parametrize(
    ("total", "split_by", "parts"),
    [
        (5, ["1", "1", "1"], [2, 2, 1]),  # USD 0.05 and JPY 5
        (10_000, ["1", "2", "3"], [1667, 3333, 5000]),  # USD 100.00
        (500, ["10", "5"], [333, 167]),  # USD 5.00
        (5, ["1", "1"], [3, 2]),  # 0.0005 at four decimals
        (100, ["0.001", "0.002"], [33, 67]),  # USD 1.00
        (1, ["100", "1"], [1, 0]),  # USD 0.01
    ],
)
def test_om_alloc_01(total, split_by, parts):
    """Vector om-alloc-01: always sums to the input, ties go to the earlier part."""
    assert split_largest_remainder(total, [Decimal(weight) for weight in split_by]) == parts


def test_cn_03_credits_of_every_line_sum_to_the_invoice():
    """Vector cn-03: 334.99 credited over four lines gives back 334.99, where rounding each alone gives 335.00."""
    lines = [6833, 6833, 5750, 8500]
    alone = [int((Decimal(line) * Decimal("1.20")).quantize(Decimal(1), ROUND_HALF_UP)) for line in lines]
    assert sum(alone) == 33_500
    assert sum(split_largest_remainder(33_499, lines)) == 33_499


@given(st.integers(-(10**30), 10**30), weights)
def test_split_law(total, split_by):
    """The parts sum to the total, each within one unit of its share, none for weight zero; a reversal mirrors it."""
    shares = [Fraction(weight) for weight in split_by]
    whole = sum(shares)
    if whole == 0:
        return
    parts = split_largest_remainder(total, split_by)
    assert sum(parts) == total
    assert all(abs(part - total * share / whole) < 1 for part, share in zip(parts, shares, strict=True))
    assert all(part == 0 for part, share in zip(parts, shares, strict=True) if share == 0)
    assert split_largest_remainder(-total, split_by) == [-part for part in parts]


@given(st.integers(0, 10**6), st.integers(1, 50))
def test_ties_go_to_the_earlier_part(total, count):
    """Equal weights: the parts never grow from left to right and differ by at most one."""
    parts = split_largest_remainder(total, [1] * count)
    assert parts == sorted(parts, reverse=True)
    assert parts[0] - parts[-1] <= 1


def test_weights_that_cannot_be_used():
    """Something cannot be split over nothing or over a negative weight; nothing can be split over anything."""
    assert split_largest_remainder(0, [0, 0]) == [0, 0]
    assert split_largest_remainder(0, []) == []
    with pytest.raises(InputError, match="all zero"):
        split_largest_remainder(1, [0, 0])
    with pytest.raises(InputError, match="negative"):
        split_largest_remainder(1, [2, -1])
