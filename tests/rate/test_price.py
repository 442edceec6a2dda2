"""A compiled price equals the rules read in fractions: at every scale, beside every bound, narrow and wide."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineitem.catalog.model import Price, Rounding, Tier, Transform
from lineitem.core.errors import InputError
from lineitem.rate.exact import INT64_MAX, exceeds_ledger
from lineitem.rate.models import MODELS
from lineitem.rate.price import compile_price
from tests.rate import oracle

QUANTITIES = st.one_of(
    st.integers(-(10**6), 10**6),
    st.integers(0, 10**18),
    st.integers(2**63 - 3, 2**63 + 3),
    st.integers(0, 10**30),
    st.just(-(2**63)),
)


def column(values: list[int]) -> np.ndarray:
    """int64 where it fits, as a reader of the ledger would have it."""
    fits = all(-(2**63) <= value <= INT64_MAX for value in values)
    return np.array(values, dtype=np.int64 if fits else object)


def per_unit(unit_price: str, **options: Any) -> Price:
    return Price("p", "m", "per_unit", "EUR", unit_price=Decimal(unit_price), **options)


@given(oracle.prices(), st.integers(0, 18), st.lists(QUANTITIES, min_size=1, max_size=12))
def test_amounts_equal_the_oracle(price: Price, scale: int, drawn: list[int]) -> None:
    """T of a column is T of each, whatever the scale; int64 exactly where every result fits."""
    quantities = drawn + oracle.turning_points(price, scale)
    expected = [oracle.amount_nano(price, quantity, scale) for quantity in quantities]
    compiled = compile_price(price, scale)
    for values in (column(quantities), np.array(quantities, dtype=object)):
        amounts = compiled.amount_nano(values)
        assert amounts.tolist() == expected
        assert (amounts.dtype == np.int64) == all(value <= INT64_MAX for value in expected)


@given(oracle.prices(), st.integers(0, 18))
def test_narrow_and_wide_agree_at_the_edge(price: Price, scale: int) -> None:
    """Beside the largest quantity that each int64 stage takes, both paths give the same integers."""
    for stage in compile_price(price, scale).stages:
        edge = [stage.narrow_max + step for step in (-2, -1, 0, 1, 2)] + [INT64_MAX - 1, INT64_MAX, INT64_MAX + 1]
        values = [value for value in edge if value >= 0]
        assert stage.apply(np.array(values, dtype=object)).tolist() == [stage.of(value) for value in values]
        narrow = [value for value in values if value <= INT64_MAX]
        assert stage.apply(np.array(narrow, dtype=np.int64)).tolist() == [stage.of(value) for value in narrow]


@given(
    oracle.prices(tuple(name for name in oracle.MODEL_NAMES if MODELS[name].monotone)),
    st.integers(0, 9),
    st.lists(QUANTITIES, min_size=2),
)
def test_more_usage_never_costs_less(price: Price, scale: int, quantities: list[int]) -> None:
    """Models that say so are monotone (volume and stairstep are not: the cliff is real)."""
    amounts = compile_price(price, scale).amount_nano(column(sorted(quantities))).tolist()
    assert amounts == sorted(amounts)


def test_one_wide_value_leaves_its_neighbours_right() -> None:
    """A quantity beyond int64 arithmetic is computed apart and in place."""
    compiled = compile_price(per_unit("3"), 0)
    amounts = compiled.amount_nano(np.array([1, 2**62, 2], dtype=np.int64))
    assert amounts.tolist() == [3 * 10**9, 3 * 2**62 * 10**9, 6 * 10**9]


def test_ordinary_prices_stay_narrow() -> None:
    """A price in thousandths at the default scale takes every quantity whose amount fits, without the wide path."""
    stage = compile_price(per_unit("0.004"), 9).stages[-1]
    assert stage.narrow_max == INT64_MAX
    tiers = (Tier(Decimal(1000), Decimal("4.57220"), Decimal("1.25")), Tier(None, Decimal("0.00299")))
    stage = compile_price(Price("p", "m", "graduated", "EUR", tiers=tiers), 9).stages[-1]
    assert stage.narrow_max == INT64_MAX


def test_an_empty_column_stays_empty() -> None:
    """No rows in, no rows out, also where the int64 path is closed."""
    for price in (per_unit("3"), per_unit("0.123456789012345678")):
        amounts = compile_price(price, 18).amount_nano(np.array([], dtype=np.int64))
        assert amounts.tolist() == []
        assert amounts.dtype == np.int64


def test_amounts_round_half_away_from_zero_on_the_total() -> None:
    """Half a nano-unit counts as one, on T; each event alone would have been nothing."""
    amounts = compile_price(per_unit("0.0000000005"), 0).amount_nano(np.array([0, 1, 2, 3, 1000]))
    assert amounts.tolist() == [0, 1, 1, 2, 500]


def test_negative_net_usage_bills_as_nothing() -> None:
    """Below zero costs what zero costs: the first flat price, and no more."""
    price = Price("p", "m", "graduated", "EUR", tiers=(Tier(None, Decimal(2), Decimal(5)),))
    assert compile_price(price, 3).amount_nano(np.array([-5000, 0, 1000])).tolist() == [5 * 10**9, 5 * 10**9, 7 * 10**9]


def test_the_maximum_comes_last() -> None:
    """Discount first, then the maximum: 20 x 10 less half is 100, capped at 80."""
    price = per_unit("10", discount_rate=Decimal("0.5"), maximum=Decimal(80))
    assert compile_price(price, 0).amount_nano(np.array([8, 20])).tolist() == [40 * 10**9, 80 * 10**9]


def test_a_maximum_beyond_int64_still_caps() -> None:
    """A maximum of a trillion does not fit nano-units in int64; amounts above it are capped all the same."""
    price = per_unit("1000000", maximum=Decimal(10**12))
    amounts = compile_price(price, 0).amount_nano(np.array([1, 10**7]))
    assert amounts.tolist() == [10**15, 10**21]


def test_conversion_rounds_before_included_units() -> None:
    """1400 by 1000 is 2 when rounded up, less half a unit is 1.5."""
    price = per_unit("10", transform=Transform(Decimal(1000), Rounding.UP), included=Decimal("0.5"))
    assert compile_price(price, 0).amount_nano(np.array([0, 1, 1000, 1400])).tolist() == [
        0,
        5 * 10**9,
        5 * 10**9,
        15 * 10**9,
    ]


def test_what_the_ledger_cannot_hold_is_seen() -> None:
    """38 digits are the ledger's end: beyond it the amount comes back whole and is named."""
    compiled = compile_price(per_unit("1000000000"), 0)
    amounts = compiled.amount_nano(np.array([1, 10**20 - 1, 10**20], dtype=object))
    assert amounts.tolist()[2] == 10**38
    assert exceeds_ledger(amounts).tolist() == [False, False, True]
    assert exceeds_ledger(np.array([1, INT64_MAX])).tolist() == [False, False]


@pytest.mark.parametrize(
    "price",
    [
        Price("p", "m", "no_such_model", "EUR"),
        Price("p", "m", "per_unit", "EUR"),
        Price("p", "m", "per_unit", "EUR", unit_price=Decimal(-1)),
        Price("p", "m", "package", "EUR", package_size=Decimal(0), package_price=Decimal(1)),
        Price("p", "m", "graduated", "EUR"),
        Price("p", "m", "graduated", "EUR", tiers=(Tier(Decimal(5)),)),
        Price("p", "m", "volume", "EUR", tiers=(Tier(None), Tier(None))),
        per_unit("1", discount_rate=Decimal("1.01")),
        per_unit("1", transform=Transform(Decimal(0))),
    ],
)
def test_a_price_that_is_none_does_not_compile(price: Price) -> None:
    """A price that the catalog would refuse is refused here too, by name."""
    with pytest.raises(InputError) as caught:
        compile_price(price, 9)
    assert caught.value.where == "price p"
    assert caught.value.do
