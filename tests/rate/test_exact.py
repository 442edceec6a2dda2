"""Exact columns: no operation wraps, and int64 comes back exactly where everything fits."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineitem.catalog.model import Rounding
from lineitem.rate import exact

EDGE = st.one_of(
    st.integers(-100, 100), st.integers(2**63 - 3, 2**63 + 3), st.integers(-(2**63) - 3, -(2**63) + 3),
    st.integers(-(10**40), 10**40),
)  # fmt: skip


def column(values: list[int]) -> np.ndarray:
    """As narrow as it goes."""
    return exact.compact(np.array(values, dtype=object))


@given(st.lists(st.tuples(EDGE, EDGE), max_size=6))
def test_sums_and_differences_never_wrap(pairs: list[tuple[int, int]]) -> None:
    """Adding and subtracting at the edge of int64 gives the integers one would write down."""
    left, right = column([a for a, _ in pairs]), column([b for _, b in pairs])
    assert exact.add(left, right).tolist() == [a + b for a, b in pairs]
    assert exact.subtract(left, right).tolist() == [a - b for a, b in pairs]


@given(st.lists(st.tuples(EDGE, EDGE, st.booleans()), max_size=6), EDGE, st.integers(1, 2**66))
def test_products_and_quotients_never_wrap(rows: list[tuple[int, int, bool]], factor: int, divisor: int) -> None:
    """Multiplying, dividing towards minus infinity and choosing give the integers one would write down."""
    left, right = column([a for a, _, _ in rows]), column([b for _, b, _ in rows])
    mask = np.array([chosen for _, _, chosen in rows], dtype=bool)
    assert exact.multiply(left, right).tolist() == [a * b for a, b, _ in rows]
    assert exact.times(left, factor).tolist() == [a * factor for a, _, _ in rows]
    assert exact.floor_divide(left, divisor).tolist() == [a // divisor for a, _, _ in rows]
    assert exact.select(mask, left, right).tolist() == [a if chosen else b for a, b, chosen in rows]


@given(st.lists(EDGE, max_size=6), EDGE)
def test_clamp_and_cap(values: list[int], limit: int) -> None:
    """Both hold for limits and values of any size."""
    assert exact.clamp_at_zero(column(values)).tolist() == [max(value, 0) for value in values]
    if limit >= 0:
        assert exact.cap(column(values), limit).tolist() == [min(value, limit) for value in values]


@given(st.lists(EDGE, max_size=6))
def test_bounds_are_bounds(values: list[int]) -> None:
    """``magnitude`` and ``absolute_total`` are never too small, and hardly too large."""
    assert exact.magnitude(column(values)) == max(map(abs, values), default=0)
    assert 0 <= exact.absolute_total(column(values)) - sum(map(abs, values)) <= len(values)


@given(
    st.lists(st.tuples(st.integers(0, 2**64), st.fractions(0, 10**10), st.fractions(0, 10**20)), max_size=4),
    st.fractions(0, 10**10),
    st.sampled_from([Rounding.UP, Rounding.DOWN, Rounding.HALF_UP]),
)
def test_piecewise_equals_fractions(
    pieces: list[tuple[int, Fraction, Fraction]], slope: Fraction, rounding: Rounding
) -> None:
    """Any lines, any bounds: each value is its own line's, rounded once."""
    lines = [exact.Line(up_to, *rest) for up_to, *rest in sorted(pieces)] + [exact.Line(None, slope, Fraction(0))]
    function = exact.PiecewiseRatio(lines, rounding)
    values = [max(0, line.up_to + step) for line in lines if line.up_to is not None for step in (-1, 0, 1)]
    values += [0, 1, 2**62, 2**63 - 1, max(function.narrow_max, 0), function.narrow_max + 1]
    expected = []
    for value in values:
        line = next(line for line in lines if line.up_to is None or value <= line.up_to)
        amount = line.intercept + line.slope * value
        half = {
            Rounding.UP: -(-amount // 1),
            Rounding.DOWN: amount // 1,
            Rounding.HALF_UP: (amount + Fraction(1, 2)) // 1,
        }
        expected.append(half[rounding])
    assert function.apply(column(values)).tolist() == expected


@pytest.mark.parametrize("value", [10**38, -(10**38)])
def test_39_digits_exceed_the_ledger(value: int) -> None:
    """The first integer beyond 38 digits is named, on both sides of zero; the last one within is not."""
    inside = value - 1 if value > 0 else value + 1
    assert exact.exceeds_ledger(np.array([value, inside, 0], dtype=object)).tolist() == [True, False, False]
